//! Reads restored files again and compares them with the hashes of the snapshot.
//! It must never trust what was written because it was written.

use std::sync::atomic::Ordering;

use lifeboat_flow::{EntryPath, Problem};
use lifeboat_format::{BlobKind, Id};
use lifeboat_repo::each_number;

use super::Run;
use super::comparer::Comparer;
use crate::backup::ProtectError;

impl Run<'_> {
    /// Compares all files.
    pub(super) fn verify(&self, files: &[(EntryPath, Vec<Id>)]) -> Result<(), ProtectError> {
        let threads = self.restore.options.workers;
        let verify_next = |comparer: &mut Comparer, number: usize| {
            self.check()?;
            // What is known to be wrong was named already.
            let file = files.get(number).filter(|(path, _)| !self.is_lost(path));
            let Some((path, content)) = file else {
                return Ok(());
            };
            match self.verify_one(path, content, comparer) {
                Ok(None) => {
                    self.done.verified.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Some(why)) => self.restore.problem(Problem {
                    path: path.display(),
                    doing: "verify".into(),
                    why,
                }),
                Err(error) => {
                    self.restore
                        .problem(Problem::from_error(&path.display(), "verify", &error))
                }
            }
            Ok(())
        };
        each_number(threads, files.len(), Comparer::default, verify_next)
    }

    fn verify_one(
        &self,
        path: &EntryPath,
        content: &[Id],
        comparer: &mut Comparer,
    ) -> Result<Option<String>, lifeboat_flow::TargetError> {
        let file = self.restore.target.read_file(path)?;
        let index = self.restore.index;
        let mut parts = Vec::with_capacity(content.len());
        for id in content {
            match index.plain_bytes(BlobKind::Data, id) {
                Some(bytes) => parts.push((*id, bytes)),
                None => return Ok(Some(format!("data blob {id} is in no index file"))),
            }
        }
        let mut offset = 0;
        let mut rest = parts.as_slice();
        while !rest.is_empty() {
            let same = comparer.compare(&*file, offset, rest.iter().copied())?;
            let (compared, others) = rest.split_at(same.len().min(rest.len()));
            rest = others;
            for ((_, len), is_same) in compared.iter().zip(same) {
                if !is_same {
                    return Ok(Some(format!(
                        "its content differs from the snapshot in the {len} bytes from {offset} on"
                    )));
                }
                offset += len;
            }
        }
        let extra = file.read_at(&mut [0], offset)?;
        Ok((extra > 0).then(|| format!("it is longer than the {offset} bytes of the snapshot")))
    }
}

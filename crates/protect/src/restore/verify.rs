//! Reads restored files again and compares them with the hashes of the snapshot.
//! It must never trust what was written because it was written.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use lifeboat_flow::{EntryPath, Problem};
use lifeboat_format::{BlobKind, Id};

use super::Run;
use super::comparer::Comparer;
use crate::backup::ProtectError;

impl Run<'_> {
    /// Compares all files.
    pub(super) fn verify(&self, files: &[(EntryPath, Vec<Id>)]) -> Result<(), ProtectError> {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..self.restore.options.workers.max(1) {
                scope.spawn(|| {
                    let mut comparer = Comparer::default();
                    while let Some((path, content)) =
                        files.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        if let Err(error) = self.check() {
                            self.failed
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .get_or_insert(error);
                            return;
                        }
                        // What is known to be wrong was named already.
                        if self.is_lost(path) {
                            continue;
                        }
                        match self.verify_one(path, content, &mut comparer) {
                            Ok(None) => {
                                self.done.verified.fetch_add(1, Ordering::Relaxed);
                            }
                            Ok(Some(why)) => self.restore.problem(Problem {
                                path: path.display(),
                                doing: "verify".into(),
                                why,
                            }),
                            Err(error) => self.restore.problem(Problem::from_error(
                                &path.display(),
                                "verify",
                                &error,
                            )),
                        }
                    }
                });
            }
        });
        match self
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            Some(error) => Err(error),
            None => Ok(()),
        }
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

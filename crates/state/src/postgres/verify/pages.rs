//! The checksums of all pages of a cluster whose server does not run.
//! It must never be asked of a running server: that may write a page while it is read.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use lifeboat_flow::{Cancel, Cancelled};

use super::super::control::Control;
use super::super::page::{PAGE_BYTES, PageState, judge};
use super::super::relation::RelationFile;
use super::super::rules::has_checksums;
use super::check::{Findings, Found};
use super::recovery_end::Progress;

/// What is read at once, in pages.
const READ_PAGES: usize = 128;

/// Files could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum PagesError {
    #[error("read {path}")]
    Read {
        path: String,
        #[source]
        cause: io::Error,
    },
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// Looks at every page.
pub(super) fn check(
    data: &Path,
    control: &Control,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Found, PagesError> {
    if !control.has_checksums {
        return Ok(Found::Unknown(
            "the cluster has no page checksums (initdb --data-checksums)".into(),
        ));
    }
    if usize::try_from(control.page_bytes) != Ok(PAGE_BYTES) {
        let pages = control.page_bytes;
        return Ok(Found::Unknown(format!(
            "its pages have {pages} bytes; only those of {PAGE_BYTES} are known"
        )));
    }
    let mut walk = Walk {
        control,
        progress,
        cancel,
        findings: Findings::default(),
        buffer: vec![0; READ_PAGES * PAGE_BYTES],
    };
    for top in ["global", "base", "pg_tblspc"] {
        walk.dir(&data.join(top), top)?;
    }
    Ok(walk.findings.found())
}

struct Walk<'a> {
    control: &'a Control,
    progress: &'a Progress,
    cancel: &'a Cancel,
    findings: Findings,
    buffer: Vec<u8>,
}

impl Walk<'_> {
    /// All that lies in a directory; `name` is its path in the cluster. Links are followed, as those of tablespaces must be:
    /// the server was not started on others.
    fn dir(&mut self, path: &Path, name: &str) -> Result<(), PagesError> {
        let failed = |cause| PagesError::Read {
            path: name.to_owned(),
            cause,
        };
        let entries = fs::read_dir(path).map_err(failed)?;
        let mut entries = entries.collect::<io::Result<Vec<_>>>().map_err(failed)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let file_name = entry.file_name();
            let name = format!("{name}/{}", file_name.to_string_lossy());
            let failed = |cause| PagesError::Read {
                path: name.clone(),
                cause,
            };
            if fs::metadata(entry.path()).map_err(failed)?.is_dir() {
                self.dir(&entry.path(), &name)?;
            } else if let Some(file) = has_checksums(name.as_bytes()) {
                self.file(&entry.path(), &name, file)
                    .map_err(|error| match error {
                        ReadError::Cancelled(cancelled) => cancelled.into(),
                        ReadError::Io(cause) => failed(cause),
                    })?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, name: &str, file: RelationFile) -> Result<(), ReadError> {
        let mut content = File::open(path)?;
        let mut block = u64::from(file.part) * u64::from(self.control.file_pages);
        loop {
            self.cancel.check()?;
            let filled = fill(&mut content, &mut self.buffer)?;
            let read = self.buffer.get(..filled).unwrap_or_default();
            let (pages, rest) = read.as_chunks::<PAGE_BYTES>();
            for page in pages {
                let number = u32::try_from(block).map_err(io::Error::other)?;
                if let PageState::Wrong { said, expected, .. } = judge(page, number) {
                    self.findings.add(|| {
                        format!("{name}: block {block} says checksum {said:04X}, and its content has {expected:04X}")
                    });
                }
                block += 1;
            }
            self.progress.add_pages(pages.len() as u64);
            if !rest.is_empty() {
                let bytes = rest.len();
                self.findings.add(|| {
                    format!("{name}: ends in the middle of block {block}, after {bytes} bytes")
                });
            }
            if filled < self.buffer.len() {
                return Ok(());
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// Reads until the buffer is full or the file ends.
fn fill(from: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(filled)
}

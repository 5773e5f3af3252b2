//! Restores a capture as its plan says: files first, links and settings, and the control file last.
//! It must never leave a control file beside files that are not whole: a server would start on them.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use lifeboat_flow::{Cancel, Counters, EntryPath, EventSink, TargetError};
use lifeboat_format::{Id, Node};
use lifeboat_repo::{BlobReader, Index, Repository};
use lifeboat_state::postgres::BASE_DIR;
use lifeboat_state::{TargetOptions, VolumeTarget};

use super::parts::subtree;
use super::restore_plan::{ClusterPlan, Link, Step, Written};
use crate::backup::ProtectError;
use crate::restore::{Overwrite, Restore, RestoreOptions, RestoreOutcome, Selected};

/// A data directory and what is in it are the server's alone; it refuses to start otherwise.
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// A restore of a capture that runs once.
pub struct ClusterRestore<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// Its index.
    pub index: &'a Index,
    /// The tree of the capture.
    pub tree: Id,
    /// Threads.
    pub workers: usize,
    /// Memory for what is fetched, in bytes.
    pub memory_bytes: usize,
    /// Where progress is counted.
    pub counters: &'a Counters,
    /// Who is told of problems.
    pub events: &'a dyn EventSink,
    /// The wish to stop.
    pub cancel: &'a Cancel,
}

/// What it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterRestored {
    /// Files, directories and others.
    pub entries: u64,
    /// Their content, in bytes.
    pub bytes: u64,
}

/// A restore did not come to its end: no server starts on what is there.
#[derive(Debug, thiserror::Error)]
pub enum ClusterRestoreError {
    /// Reading or writing failed as a whole.
    #[error(transparent)]
    Protect(#[from] ProtectError),
    /// The capture lacks a part.
    #[error("the capture has no {0}")]
    NoPart(String),
    /// Parts could not be restored.
    #[error(
        "{problems} of the cluster could not be restored; the control file was left out, so that no server starts on the rest"
    )]
    Incomplete {
        /// How many.
        problems: u64,
    },
    /// Something of our own could not be made.
    #[error("{doing} {}", .path.display())]
    Make {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
}

impl ClusterRestore<'_> {
    /// Does what the plan says.
    ///
    /// # Errors
    /// When anything of it can't be done. What was restored until then stays, without the control file.
    pub fn run(&self, plan: &ClusterPlan) -> Result<ClusterRestored, ClusterRestoreError> {
        let reader = BlobReader::new(self.repository, self.index);
        let top = reader.tree(self.tree).map_err(ProtectError::from)?;
        let base = top.find(BASE_DIR.as_bytes());
        let owner = base.ok_or_else(|| ClusterRestoreError::NoPart(BASE_DIR.to_owned()))?;
        let mut done = ClusterRestored::default();
        for step in &plan.steps {
            self.cancel.check().map_err(ProtectError::from)?;
            match step {
                Step::Files { from, to, without } => {
                    let from: Vec<&str> = from.iter().map(String::as_str).collect();
                    let tree = subtree(&reader, self.tree, &from).map_err(ProtectError::from)?;
                    let tree = tree.ok_or_else(|| ClusterRestoreError::NoPart(from.join("/")))?;
                    let leaves = |path: &EntryPath, _: bool| {
                        let is_out = without.iter().any(|out| out.as_bytes() == path.0);
                        Selected {
                            restore: !is_out,
                            descend: !is_out,
                        }
                    };
                    done.add(self.files(tree, to, &leaves)?)?;
                    own(to, owner)?;
                }
                Step::Link(link) => make_link(link, owner)?,
                Step::Write(written) => write(written, owner)?,
                Step::Control { data } => {
                    let tree =
                        subtree(&reader, self.tree, &[BASE_DIR]).map_err(ProtectError::from)?;
                    let tree =
                        tree.ok_or_else(|| ClusterRestoreError::NoPart(BASE_DIR.to_owned()))?;
                    let only = |path: &EntryPath, _: bool| Selected {
                        restore: path.0 == b"global/pg_control",
                        descend: path.0 == b"global",
                    };
                    done.add(self.files(tree, data, &only)?)?;
                }
            }
        }
        Ok(done)
    }

    fn files(
        &self,
        tree: Id,
        to: &Path,
        select: &(dyn Fn(&EntryPath, bool) -> Selected + Sync),
    ) -> Result<RestoreOutcome, ProtectError> {
        let target = VolumeTarget::create(to, &TargetOptions::default())?;
        let restore = Restore {
            repository: self.repository,
            index: self.index,
            target: &target,
            options: RestoreOptions {
                overwrite: Overwrite::Always,
                delete: false,
                verify: false,
                dry_run: false,
                select: Some(select),
                workers: self.workers,
                memory_bytes: self.memory_bytes,
            },
            counters: self.counters,
            events: self.events,
            cancel: self.cancel,
        };
        restore.run(tree)
    }
}

impl ClusterRestored {
    fn add(&mut self, outcome: RestoreOutcome) -> Result<(), ClusterRestoreError> {
        self.entries += outcome.entries_restored;
        self.bytes += outcome.bytes_restored;
        match outcome.problems {
            0 => Ok(()),
            problems => Err(ClusterRestoreError::Incomplete { problems }),
        }
    }
}

/// Gives what we made to who owned the data directory, if we may; otherwise it is ours, as all that was restored.
fn own(path: &Path, owner: &Node) -> Result<(), ClusterRestoreError> {
    let failed = |cause| ClusterRestoreError::Make {
        doing: "give to its owner",
        path: path.to_path_buf(),
        cause,
    };
    let metadata = fs::symlink_metadata(path).map_err(failed)?;
    if rustix::process::geteuid().is_root() {
        if metadata.is_symlink() {
            std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid)).map_err(failed)?;
        } else {
            chown(path, Some(owner.uid), Some(owner.gid)).map_err(failed)?;
        }
    }
    if metadata.is_dir() {
        fs::set_permissions(path, Permissions::from_mode(DIR_MODE)).map_err(failed)?;
    }
    Ok(())
}

fn make_link(link: &Link, owner: &Node) -> Result<(), ClusterRestoreError> {
    symlink(&link.to, &link.at).map_err(|cause| ClusterRestoreError::Make {
        doing: "make the link",
        path: link.at.clone(),
        cause,
    })?;
    own(&link.at, owner)
}

fn write(written: &Written, owner: &Node) -> Result<(), ClusterRestoreError> {
    let Written {
        path,
        text,
        only_if_absent,
    } = written;
    let mut options = OpenOptions::new();
    options.append(true).mode(FILE_MODE);
    match only_if_absent {
        true => options.create_new(true),
        false => options.create(true),
    };
    let written = options.open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    match written {
        Ok(()) => own(path, owner),
        Err(cause) if *only_if_absent && cause.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(cause) => Err(ClusterRestoreError::Make {
            doing: "write",
            path: path.clone(),
            cause,
        }),
    }
}

impl From<TargetError> for ClusterRestoreError {
    fn from(error: TargetError) -> Self {
        Self::Protect(error.into())
    }
}

//! Restores a capture as its plan says: files first, links and settings, and the control file last.
//! It must never leave a control file beside files that are not whole: a server would start on them.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use lifeboat_flow::{Cancel, Counters, EntryPath, Event, EventSink, TargetError};
use lifeboat_format::{Id, Node};
use lifeboat_repo::{BlobReader, Index, Repository};
use lifeboat_state::postgres::BASE_DIR;
use lifeboat_state::{TargetOptions, VolumeTarget};

use super::parts::subtree;
use super::restore_plan::{ClusterPlan, Link, Step, Written};
use crate::backup::ProtectError;
use crate::restore::{
    LOST, METADATA, Overwrite, Restore, RestoreOptions, RestoreOutcome, Selected,
};

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
    #[error("{problems} of the cluster could not be restored, the first is {first}; the control file was left out, so that no server starts on the rest", problems = things(*.problems))]
    Incomplete {
        /// How many.
        problems: u64,
        /// Whether content is lost in the repository, rather than something here being in the way.
        is_lost: bool,
        /// The first of them.
        first: String,
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
        let heard = Sorted {
            inner: self.events,
            heard: Mutex::default(),
        };
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
                    let above = missing_above(to);
                    done.add(self.files(tree, to, &leaves, &heard)?, &heard)?;
                    own(to, owner)?;
                    // The server must get through what was made on the way there.
                    for dir in above {
                        own(&dir, owner)?;
                    }
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
                    done.add(self.files(tree, data, &only, &heard)?, &heard)?;
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
        heard: &Sorted<'_>,
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
            events: heard,
            cancel: self.cancel,
        };
        restore.run(tree)
    }
}

impl ClusterRestored {
    fn add(
        &mut self,
        outcome: RestoreOutcome,
        heard: &Sorted<'_>,
    ) -> Result<(), ClusterRestoreError> {
        self.entries += outcome.entries_restored;
        self.bytes += outcome.bytes_restored;
        let heard = heard.heard.lock().unwrap_or_else(PoisonError::into_inner);
        // Metadata that a file system does not take keeps no server from starting.
        match outcome.problems.saturating_sub(heard.metadata) {
            0 => Ok(()),
            problems => Err(ClusterRestoreError::Incomplete {
                problems,
                is_lost: heard.is_lost,
                first: heard.first.clone(),
            }),
        }
    }
}

/// Problems of a restore, told apart.
#[derive(Debug, Default)]
struct Heard {
    /// Of metadata alone.
    metadata: u64,
    /// Whether content is lost.
    is_lost: bool,
    /// The first that is not of metadata.
    first: String,
}

/// Listens to a restore, and passes everything on.
struct Sorted<'a> {
    inner: &'a dyn EventSink,
    heard: Mutex<Heard>,
}

impl EventSink for Sorted<'_> {
    fn event(&self, event: Event) {
        if let Event::Problem(problem) = &event {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            if problem.doing == METADATA {
                heard.metadata += 1;
            } else {
                heard.is_lost |= problem.doing == LOST;
                if heard.first.is_empty() {
                    heard.first = problem.to_string();
                }
            }
        }
        self.inner.event(event);
    }

    fn wants_items(&self) -> bool {
        self.inner.wants_items()
    }
}

fn things(count: u64) -> String {
    match count {
        1 => "1 part".to_owned(),
        count => format!("{count} parts"),
    }
}

/// The directories that a path needs and that are not there.
fn missing_above(path: &Path) -> Vec<PathBuf> {
    let above = path.ancestors().skip(1);
    let missing = above.take_while(|dir| fs::symlink_metadata(dir).is_err());
    missing
        .filter(|dir| !dir.as_os_str().is_empty())
        .map(Path::to_path_buf)
        .collect()
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
    let failed = |cause| ClusterRestoreError::Make {
        doing: "write",
        path: path.clone(),
        cause,
    };
    // A link that was captured leads to where the original has its configuration, which may be here.
    if path.is_symlink() {
        fs::remove_file(path).map_err(failed)?;
    }
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
        Err(cause) => Err(failed(cause)),
    }
}

impl From<TargetError> for ClusterRestoreError {
    fn from(error: TargetError) -> Self {
        Self::Protect(error.into())
    }
}

//! Shows a repository as a file system that can only be read: all snapshots by ID, time, host and tag.
//! It must never change anything, and never give content whose hash is not what its tree says.

mod content;
mod inode;
mod kernel;
mod view;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fuser::{Config, MountOption, SessionACL};
use lifeboat_flow::{Cancel, EventSink};
use lifeboat_plan::{SnapshotFacts, TemplateError};
use lifeboat_repo::{RepoError, Repository};
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};

use kernel::Kernel;
use view::View;

/// How often it is looked whether somebody wishes to stop or has unmounted.
const STOP_POLL: Duration = Duration::from_millis(200);
/// Requests of the kernel that are answered at once.
const THREADS: usize = 8;

/// How to show a repository.
pub struct MountOptions {
    /// Where.
    pub place: PathBuf,
    /// The paths at which a snapshot appears, as `hosts/%h/%T`.
    pub path_templates: Vec<String>,
    /// How times are written.
    pub time_template: String,
    /// Which snapshots are shown.
    pub select: Box<dyn Fn(&SnapshotFacts) -> bool + Send + Sync>,
    /// Other users may look, too.
    pub allow_other: bool,
    /// Who may look may read everything, whatever the permissions in the snapshot.
    pub no_default_permissions: bool,
    /// Everything belongs to root instead of the user who mounts, where that is not root.
    pub owner_root: bool,
}

/// A repository could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// It could not be read.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// A template can't be used.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The system does not mount it.
    #[error("cannot mount at {place}", place = .place.display())]
    Mount {
        /// Where.
        place: PathBuf,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// The system does not let go of it.
    #[error("cannot unmount {place}", place = .place.display())]
    Unmount {
        /// Where.
        place: PathBuf,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
}

/// Shows a repository until somebody unmounts it or wishes to stop. `ready` runs when it can be looked at.
///
/// # Errors
/// [`MountError`] when it can't be read, mounted or unmounted; what concerns single files is an event, and an
/// input/output error for who reads them.
pub fn mount(
    repository: Arc<Repository>,
    options: MountOptions,
    events: Arc<dyn EventSink>,
    cancel: &Cancel,
    ready: impl FnOnce(),
) -> Result<(), MountError> {
    let place = options.place.clone();
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::RO,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::FSName(fs_name(&repository)),
        MountOption::Subtype("lifeboat".into()),
    ];
    if !options.no_default_permissions {
        config.mount_options.push(MountOption::DefaultPermissions);
    }
    if options.allow_other {
        config.acl = SessionACL::All;
    }
    config.n_threads = Some(THREADS);
    config.clone_fd = false;
    let view = View::open(repository, options, Arc::clone(&events), cancel.clone())?;
    let failed = |cause| MountError::Mount {
        place: place.clone(),
        cause,
    };
    let session = fuser::spawn_mount(Kernel::new(view, events), &place, &config).map_err(failed)?;
    ready();
    while !session.guard.is_finished() && cancel.sleep(STOP_POLL).is_ok() {}
    let done = if session.guard.is_finished() {
        session.join()
    } else {
        // Somebody else may have unmounted it at the same moment.
        session.umount_and_join().or_else(|cause| {
            if is_mounted(&place) {
                Err(cause)
            } else {
                Ok(())
            }
        })
    };
    done.map_err(|cause| MountError::Unmount { place, cause })
}

/// Whether something is mounted at a place, as far as anybody can tell: a mount that nobody serves can't be looked at.
fn is_mounted(place: &Path) -> bool {
    let looked = rustix::fs::statx(CWD, place, AtFlags::empty(), StatxFlags::empty());
    looked.map_or(true, |found| {
        found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
    })
}

/// What `mount` and `df` show in front: the location, which has no secrets, without the comma that ends an option.
fn fs_name(repository: &Repository) -> String {
    let location = repository.backend().location();
    let plain = |char: char| {
        if char == ',' || char.is_control() {
            '_'
        } else {
            char
        }
    };
    location.chars().map(plain).collect()
}

/// Whether a place can be mounted at: an empty directory.
///
/// # Errors
/// When it is none, with what it is instead.
pub fn check_place(place: &Path) -> Result<(), MountError> {
    let failed = |cause| MountError::Mount {
        place: place.to_owned(),
        cause,
    };
    let mut entries = std::fs::read_dir(place).map_err(failed)?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(failed(std::io::ErrorKind::DirectoryNotEmpty.into())),
    }
}

//! An open repository with the lock that a command needs and the wish of the user to stop.
//! It must never hold a lock longer than the command lasts, and never write where no lock was asked for.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use lifeboat_flow::Cancel;
use lifeboat_format::{Id, Snapshot};
use lifeboat_plan::parse_go_duration;
use lifeboat_repo::backend::{Backend, BackendError, FileKind, FileName, Location};
use lifeboat_repo::{
    Identity, Index, IndexReport, LockGuard, LockRequest, LockTiming, PackListing, RepoError,
    Repository, Snapshots, both,
};
use tempfile::TempDir;

use super::access::{Access, FromArgs};
use super::connect::{Caching, connect, with_cache};
use crate::args::Global;
use crate::failure::Failure;
use crate::signals::cancel_on_signal;
use crate::ui::Ui;

/// How a command locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locking {
    /// It only reads; `--no-lock` allows to do so without a lock.
    Read,
    /// It adds.
    Shared,
    /// It removes what others may rely on.
    Exclusive,
    /// It needs none.
    None,
}

/// Whether a command begins when it is certain that its lock holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It does.
    Locked,
    /// It reads meanwhile, and asks the lock before it writes.
    Early,
}

/// A repository of which everything is known that a user may have to be asked for; nothing is open yet.
pub struct Closed<'a> {
    location: Location,
    backend: Arc<dyn Backend>,
    password: String,
    key_hint: Option<&'a str>,
    caching: Caching,
    locking: Locking,
    needs_lock: bool,
    retry_for: Duration,
}

/// An open repository. The lock is released when this is dropped.
pub struct Session {
    /// The lock.
    pub lock: Option<LockGuard>,
    /// The repository.
    pub repository: Arc<Repository>,
    /// The wish to stop.
    pub cancel: Cancel,
    /// The folder of a cache that is removed in the end.
    _fresh_cache: Option<TempDir>,
}

impl Session {
    /// Opens the repository that the options name.
    pub fn open(global: &Global, ui: &Ui, locking: Locking) -> Result<Self, Failure> {
        Closed::own(global, ui, locking)?.open(global, ui, Start::Locked)
    }

    /// As [`open`](Self::open), but the lock is certain only when its `ensure` says so: for a command that reads first
    /// and asks before it writes anything anywhere.
    pub fn open_early(global: &Global, ui: &Ui, locking: Locking) -> Result<Self, Failure> {
        Closed::own(global, ui, locking)?.open(global, ui, Start::Early)
    }

    /// As [`open`](Self::open), and believes nothing that an earlier command fetched.
    pub fn open_afresh(global: &Global, ui: &Ui, locking: Locking) -> Result<Self, Failure> {
        let closed = Closed {
            caching: Caching::Fresh,
            ..Closed::own(global, ui, locking)?
        };
        closed.open(global, ui, Start::Locked)
    }

    /// Whether the lock, if there is one, is certain and still ours.
    pub fn ensure(&self) -> Result<(), Failure> {
        match &self.lock {
            Some(lock) => Ok(lock.ensure()?),
            None => Ok(()),
        }
    }

    /// The snapshots and the index, which are read at the same time.
    pub fn snapshots_and_index(
        &self,
        ui: &Ui,
        listing: PackListing,
    ) -> Result<(Snapshots, Index, IndexReport), Failure> {
        // Snapshots before the index: what a snapshot names was indexed before it was written.
        let ids = self.repository.ids(FileKind::Snapshot)?;
        let (snapshots, index) = both(
            || self.tell_damage(ui, self.repository.snapshots_of(&ids)),
            || self.index(ui, listing),
        );
        let (index, report) = index?;
        Ok((snapshots?, index, report))
    }

    /// The index; what is wrong with it is told.
    pub fn index(&self, ui: &Ui, listing: PackListing) -> Result<(Index, IndexReport), Failure> {
        let (index, report) = self.repository.load_index(listing, &self.cancel)?;
        for (id, error) in &report.damaged {
            ui.warn(format_args!(
                "index file {} can't be used: {}",
                id.short(),
                lifeboat_repo::chain(error)
            ));
        }
        if let Some(first) = report.missing_packs.first() {
            ui.warn(format_args!("{} that the index names are missing, the first is {first}; what they held is stored again if it is still there", crate::format::count(report.missing_packs.len() as u64, "pack")));
        }
        Ok((index, report))
    }

    /// All snapshots, oldest first; damaged ones are told.
    pub fn snapshots(&self, ui: &Ui) -> Result<Vec<(Id, Snapshot)>, Failure> {
        Ok(self.snapshots_and_damage(ui)?.all)
    }

    /// The same, for a command that must not pass over a damaged one.
    pub fn snapshots_and_damage(&self, ui: &Ui) -> Result<Snapshots, Failure> {
        self.tell_damage(ui, self.repository.snapshots())
    }

    fn tell_damage(
        &self,
        ui: &Ui,
        snapshots: Result<Snapshots, RepoError>,
    ) -> Result<Snapshots, Failure> {
        let snapshots = snapshots?;
        for (id, error) in &snapshots.damaged {
            ui.warn(format_args!(
                "snapshot {} can't be read: {}",
                id.short(),
                lifeboat_repo::chain(error)
            ));
        }
        Ok(snapshots)
    }
}

impl<'a> Closed<'a> {
    /// The repository that a command works on.
    pub fn own(global: &'a Global, ui: &Ui, locking: Locking) -> Result<Self, Failure> {
        Self::find(&Access::own(global), global, ui, locking)
    }

    /// The repository that a command reads from, beside the one it works on.
    pub fn from(
        global: &Global,
        from: &'a FromArgs,
        ui: &Ui,
        locking: Locking,
    ) -> Result<Self, Failure> {
        Self::find(&Access::from(from), global, ui, locking)
    }

    fn find(
        access: &Access<'a>,
        global: &Global,
        ui: &Ui,
        locking: Locking,
    ) -> Result<Self, Failure> {
        cancel_on_signal(&ui.wish);
        let location = access.location()?;
        // Before anybody is asked for anything.
        let retry_for = retry_for(global)?;
        let needs_lock = match locking {
            Locking::None => false,
            Locking::Read => !global.no_lock,
            Locking::Shared | Locking::Exclusive if global.no_lock => {
                return Err(Failure::new(
                    "--no-lock is for commands that only read; this one writes",
                ));
            }
            Locking::Shared | Locking::Exclusive => true,
        };
        let backend = connect(&location, global, &BTreeMap::new(), ui)?;
        // Where nothing is, nobody should be asked. And ssh may ask as well: the ones of two repositories that are opened
        // at once would do so across each other.
        let ssh_may_ask =
            matches!(location, Location::Sftp { .. }) && std::io::stdin().is_terminal();
        if access.asks_for_password() || ssh_may_ask {
            match backend.size(FileName::CONFIG) {
                Err(error) if error.is_missing() => {
                    let what = "the file config".to_owned();
                    return Err(RepoError::from(BackendError::NoRepository {
                        location: backend.location(),
                        what,
                    })
                    .into());
                }
                other => other.map_err(RepoError::from)?,
            };
        }
        Ok(Self {
            location,
            backend,
            password: access.password()?,
            key_hint: access.key_hint,
            caching: Caching::Kept,
            locking,
            needs_lock,
            retry_for,
        })
    }

    /// Opens it and takes the lock.
    pub fn open(self, global: &Global, ui: &Ui, start: Start) -> Result<Session, Failure> {
        let cancel = ui.wish.clone();
        let repository = Repository::open(self.backend, self.password.as_bytes(), self.key_hint)?;
        let (repository, fresh_cache) =
            with_cache(repository, &self.location, global, ui, self.caching);
        let repository = Arc::new(repository);
        let request = LockRequest {
            exclusive: self.locking == Locking::Exclusive,
            retry_for: self.retry_for,
            timing: LockTiming::default(),
            early: start == Start::Early,
            reads: self.locking == Locking::Read,
        };
        let lock = if self.needs_lock {
            Some(LockGuard::take(
                &repository,
                &Identity::of_this_process(),
                request,
                ui,
                &cancel,
            )?)
        } else {
            None
        };
        if let Some(lock) = &lock {
            lock.tell(ui.notes());
        }
        Ok(Session {
            lock,
            repository,
            cancel,
            _fresh_cache: fresh_cache,
        })
    }
}

/// How long to wait for a lock.
pub fn retry_for(global: &Global) -> Result<Duration, Failure> {
    match &global.retry_lock {
        None => Ok(Duration::ZERO),
        Some(text) => parse_go_duration(text)
            .map_err(|error| Failure::from_error(&error).while_doing("--retry-lock")),
    }
}

/// The backend that the options name, for a command that finds no repository there.
pub fn backend(global: &Global, ui: &Ui) -> Result<Arc<dyn Backend>, Failure> {
    cancel_on_signal(&ui.wish);
    connect(
        &Access::own(global).location()?,
        global,
        &BTreeMap::new(),
        ui,
    )
}

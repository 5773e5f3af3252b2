//! A backend keeps the files of a repository: a flat set of named, immutable byte strings.
//! It must never show a file that is not whole, and must never report a failed listing as an empty one.

mod cache;
mod disk;
mod error;
mod http;
mod layout;
mod limit;
mod local;
mod location;
mod log_name;
mod memory;
mod open;
mod options;
mod rclone;
mod rest;
mod retry;
mod s3;
mod sftp;
mod shared;
mod turns;

use std::fmt;
use std::sync::Weak;
use std::time::Duration;

use lifeboat_format::Id;

pub(crate) use cache::folder::CacheFolder;
pub use cache::{CACHE_MAX_AGE, CachedBackend, remove_old_caches};
pub use disk::{Disk, DiskFile, DiskStat, RealDisk};
pub use error::{BackendError, Trouble};
pub use limit::{LimitedBackend, RateLimits};
pub use local::LocalBackend;
pub use location::{Location, LocationError};
pub use log_name::{Creation, LOG_FOLDER, LogName, LogNameError};
pub use memory::MemoryBackend;
pub use open::{open, option_kinds};
pub use options::{BackendOptions, OptionError, Secret, TlsOptions};
pub use retry::{RetryPolicy, RetryingBackend};
pub use sftp::SftpBackend;

/// Requests at once that a local disk is worth.
const LOCAL_CONNECTIONS: usize = 2;

/// What a file of a repository is; it decides the folder that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileKind {
    /// The one file `config`.
    Config,
    /// A key file, under `keys`.
    Key,
    /// A lock, under `locks`.
    Lock,
    /// A snapshot, under `snapshots`.
    Snapshot,
    /// An index file, under `index`.
    Index,
    /// A pack, under `data`.
    Pack,
}

impl FileKind {
    /// All kinds that have an ID.
    pub const NAMED: [Self; 5] = [
        Self::Key,
        Self::Lock,
        Self::Snapshot,
        Self::Index,
        Self::Pack,
    ];

    /// The folder of this kind; `config` is a file itself.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Key => "keys",
            Self::Lock => "locks",
            Self::Snapshot => "snapshots",
            Self::Index => "index",
            Self::Pack => "data",
        }
    }

    /// What a message calls one file of this kind.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Key => "key",
            Self::Lock => "lock",
            Self::Snapshot => "snapshot",
            Self::Index => "index file",
            Self::Pack => "pack",
        }
    }
}

/// The name of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileName {
    /// What it is.
    pub kind: FileKind,
    /// Its ID; the null ID for the config.
    pub id: Id,
}

impl FileName {
    /// The name of the config file.
    pub const CONFIG: Self = Self {
        kind: FileKind::Config,
        id: Id([0; 32]),
    };

    /// The name of a file that has an ID.
    #[must_use]
    pub fn new(kind: FileKind, id: Id) -> Self {
        Self { kind, id }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            FileKind::Config => f.write_str("config"),
            kind => write!(f, "{}/{}", kind.folder(), self.id),
        }
    }
}

/// Where the files of a repository are kept. All calls block; they come from several threads at once.
pub trait Backend: Send + Sync {
    /// For people: the location without secrets, as `/srv/restic`.
    fn location(&self) -> String;

    /// How soon a listing shows a file whose [`save`](Backend::save) has returned, on whatever machine: whether a lock
    /// waits before it is believed.
    fn listing_delay(&self) -> ListingDelay {
        ListingDelay::Unknown
    }

    /// Nothing is to be written or removed any more, but locks and objects of the log, when this says so: it is asked
    /// before each try, however long after the call. `None` takes an earlier one away.
    fn fence(&self, fence: Option<Weak<dyn Fence>>) {
        let _ = fence;
    }

    /// How many requests at once make it faster: what a pool of uploaders or readers should be sized by.
    fn connections(&self) -> usize {
        LOCAL_CONNECTIONS
    }

    /// Makes the folders of an empty repository; harmless if they exist.
    ///
    /// # Errors
    /// When the place can't be written.
    fn create(&self) -> Result<(), BackendError>;

    /// Calls `each` with ID and size in bytes of every file of a kind, in no particular order. Files whose name is
    /// no ID (left over by other tools) are not shown.
    ///
    /// A file that the place itself names once is shown once. Some name one twice: Google Drive keeps two files of one
    /// name, R2 may repeat one on the next page, NFS while a folder changes. [`RetryingBackend`], which lies around
    /// every place, shows such a file once; whoever counts or removes takes care of it nevertheless.
    ///
    /// # Errors
    /// When the listing is not complete: what was shown until then must not be used. A folder that is missing altogether
    /// is an error too, except `locks` beside a config: tools that copy objects leave empty folders out.
    /// An object store has no folders: there a bucket that is missing is an error, and where nothing was saved nothing
    /// is listed. Whether a repository is there, its config tells.
    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64)) -> Result<(), BackendError>;

    /// The size of a file in bytes.
    ///
    /// # Errors
    /// [`BackendError::Missing`] if there is none, in a repository that is there; so for all that take a name.
    fn size(&self, name: FileName) -> Result<u64, BackendError>;

    /// The whole file, at most `limit_bytes` of it: a longer one is an error, because no such file is legal.
    ///
    /// # Errors
    /// [`BackendError::Missing`] if there is none.
    fn load(&self, name: FileName, limit_bytes: u64) -> Result<Vec<u8>, BackendError>;

    /// Exactly `buf.len()` bytes from `offset_bytes` on.
    ///
    /// # Errors
    /// [`BackendError::Missing`] if there is no such file, [`BackendError::Short`] if it ends before.
    fn load_at(
        &self,
        name: FileName,
        offset_bytes: u64,
        buf: &mut [u8],
    ) -> Result<(), BackendError>;

    /// Writes a whole file durably: when this returns, it is there and survives a loss of power; when it fails or the
    /// process is killed, no file with this name appears, or the whole one. `data` comes in pieces to be joined.
    ///
    /// # Errors
    /// When it can't be written. A file of the same name is replaced by the same content, which is harmless.
    fn save(&self, name: FileName, data: &[&[u8]]) -> Result<(), BackendError>;

    /// Removes a file; one that is not there is fine, in a repository that is. A snapshot, index file, key or config
    /// stays removed after a loss of power, so that what it refers to can be removed next; a pack or lock may come back.
    ///
    /// # Errors
    /// When it is still there afterwards, or may come back.
    fn remove(&self, name: FileName) -> Result<(), BackendError>;

    /// Writes an object of the log, if there is none of this name: when this returns, the object that has the name is
    /// whole and survives a loss of power, be it this one or another. One that is there is never changed. `data` comes
    /// in pieces to be joined.
    ///
    /// [`Creation::Created`] says that exactly this content is kept, also if it was before: a call whose answer was lost
    /// can be made again and finds what it wrote. Who must know which of several was first gives each a content of its
    /// own, as a random nonce does. If several create one name at once, one of them is told `Created`; how sure that is,
    /// each place says. The log has no lock, so a [`Fence`] does not concern it.
    ///
    /// # Errors
    /// When it can't be written; then it may be there nevertheless, whole. [`BackendError::NoRepository`] where no
    /// repository is, if the place can tell: none is made in passing.
    fn log_create(&self, name: &LogName, data: &[&[u8]]) -> Result<Creation, BackendError>;

    /// A whole object of the log, at most `limit_bytes` of it.
    ///
    /// # Errors
    /// [`BackendError::NoObject`] only if it surely is not there, [`BackendError::ObjectTooLong`] if it is longer.
    fn log_load(&self, name: &LogName, limit_bytes: u64) -> Result<Vec<u8>, BackendError>;

    /// Calls `each` with name and size in bytes of every object below a name, or of all, in no particular order. What
    /// has no legal name, as a file that is still written, is not shown. Where nothing was created nothing is listed.
    ///
    /// # Errors
    /// When the listing is not complete: what was shown until then must not be used.
    fn log_list(
        &self,
        below: Option<&LogName>,
        each: &mut dyn FnMut(LogName, u64),
    ) -> Result<(), BackendError>;

    /// Removes an object of the log; one that is not there is fine. After a loss of power it may come back.
    ///
    /// # Errors
    /// When it is still there afterwards.
    fn log_remove(&self, name: &LogName) -> Result<(), BackendError>;

    /// As [`load_at`](Backend::load_at), of a pack that holds trees: a cache keeps such packs whole, because they are
    /// read again and again.
    ///
    /// # Errors
    /// As `load_at`.
    fn load_tree_at(
        &self,
        name: FileName,
        offset_bytes: u64,
        buf: &mut [u8],
    ) -> Result<(), BackendError> {
        self.load_at(name, offset_bytes, buf)
    }

    /// Removes what writers left unfinished that stopped longer ago than `older_than`, and returns how many pieces
    /// that were: temporary files, uploads in parts. Only a long time is safe: a writer may be at work elsewhere.
    ///
    /// # Errors
    /// When they can't be listed or removed.
    fn remove_unfinished(&self, older_than: Duration) -> Result<u64, BackendError> {
        let _ = older_than;
        Ok(0)
    }

    /// Tries to destroy a file for good, as a thief of these credentials would: an earlier version that the place
    /// keeps counts as what is left.
    ///
    /// # Errors
    /// When it can't be found out what is left.
    fn destroy(&self, name: FileName) -> Result<Destroyed, BackendError> {
        match self.remove(name) {
            Ok(()) => match self.size(name) {
                Err(error) if error.is_missing() => Ok(Destroyed::Gone),
                Err(error) => Err(error),
                Ok(_) => Ok(Destroyed::Refused(
                    "the file is still there after its removal".into(),
                )),
            },
            Err(error) if error.is_refusal() => {
                self.size(name)?;
                Ok(Destroyed::Refused(lifeboat_flow::chain(&error)))
            }
            Err(error) => Err(error),
        }
    }
}

/// How soon a listing shows what was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListingDelay {
    /// At once: the place is known.
    None,
    /// At once, as the service promises; not everybody who offers its interface may keep that.
    NoneByContract,
    /// Nobody knows.
    Unknown,
}

/// Who knows until when writing is safe.
pub trait Fence: Send + Sync {
    /// Why nothing may be written any more, if so.
    fn closed(&self) -> Option<String>;
}

/// What became of a file that was to be destroyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destroyed {
    /// Nothing is left: the place protects nothing.
    Gone,
    /// It is still there, and this is what the place said.
    Refused(String),
    /// Its name is gone, its content is kept as a version that could not be removed, and this is what the place said.
    VersionKept(String),
}

//! A base backup that a server sends over the streaming replication protocol: its files, in its order, one after the other.
//! It must never give a file that did not come as a whole, nor outlive us: the session is the backup, and ends with it.

use std::path::PathBuf;

use lifeboat_flow::{Cancel, EntryPath};

use super::client::{Connection, PgError, Row, ServerError};
use super::facts::ANSWER_TIMEOUT;
use super::lsn::{Lsn, Timeline};
use super::relation::number;
use super::ustar::{BLOCK_BYTES, UstarError, UstarHeader, UstarKind};

/// The first version whose form of it is known here (PostgreSQL 15).
pub const OLDEST_REMOTE_VERSION: u32 = 150_000;
/// Below it, tablespaces are named by their numbers.
const SPACES_DIR: &[u8] = b"pg_tblspc";
/// What a server says when pages were not as their checksums say (PostgreSQL manual, "PostgreSQL Error Codes").
const DATA_CORRUPTED: &str = "XX001";
/// Entries of a backup at most: more are no cluster.
const ENTRIES_MAX: u64 = 200_000_000;

/// A tablespace that is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentSpace {
    /// Its number.
    pub oid: u32,
    /// Where it is on the server.
    pub location: PathBuf,
}

/// What a server sends next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Where it belongs, below the data directory.
    pub path: EntryPath,
    /// The length of a file in bytes; `None` for a directory.
    pub size_bytes: Option<u64>,
    /// Permissions.
    pub permissions: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When it was last changed, in seconds since 1970.
    pub modified_seconds: i64,
}

/// How a backup ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseBackupEnd {
    /// The position that a recovery must reach.
    pub stop: Lsn,
    /// On this timeline.
    pub timeline: Timeline,
    /// Whether the server found pages that are not as their checksums say. It names them in what it says meanwhile.
    pub is_damaged: bool,
}

/// A backup over the replication protocol can't go on.
#[derive(Debug, thiserror::Error)]
pub enum BaseBackupError {
    /// The server is too old.
    #[error("the server is of version {0}, and a capture over the replication protocol needs 15")]
    TooOld(u32),
    /// There is no session for it.
    #[error("begin a session of the replication protocol")]
    Session(#[source] PgError),
    /// The server does not begin it.
    #[error("begin a base backup on the server")]
    Start(#[source] PgError),
    /// It ended in the middle: what came is worth nothing.
    #[error("take a base backup from the server")]
    Stream(#[source] PgError),
    /// The server found something when all was sent.
    #[error("end the base backup on the server")]
    End(#[source] ServerError),
    /// What came is no archive.
    #[error("the server sent an archive that can't be read")]
    Archive(#[source] UstarError),
    /// It answered in no known form.
    #[error("the server answered {0} with something else")]
    Answer(&'static str),
    /// What came ends too early, or goes on too long.
    #[error("the server sent {0}")]
    Form(&'static str),
}

/// Lets the server keep its log from now on, until the session ends; whether it does.
///
/// # Errors
/// When the session is lost, or somebody wishes to stop.
pub fn keep_log(
    connection: &mut Connection,
    slot: &str,
    cancel: &Cancel,
) -> Result<bool, BaseBackupError> {
    let command = format!("CREATE_REPLICATION_SLOT {slot} TEMPORARY PHYSICAL RESERVE_WAL");
    match connection.query(&command, Some(ANSWER_TIMEOUT), cancel) {
        Ok(_) => Ok(true),
        // No slot may be free: then the server says so if its log goes too early.
        Err(PgError::Refused { .. }) => Ok(false),
        Err(error) => Err(BaseBackupError::Session(error)),
    }
}

/// A backup that a server sends.
pub struct BaseBackup {
    connection: Connection,
    cancel: Cancel,
    /// Where its log begins.
    pub start: Lsn,
    /// On which timeline.
    pub timeline: Timeline,
    /// Its tablespaces.
    pub spaces: Vec<SentSpace>,
    /// How much there is, as the server estimates it, in bytes; 0 if that was not asked for.
    pub estimate_bytes: u64,
    /// Where the entries of the archive belong that comes now.
    place: Option<EntryPath>,
    /// The place of the next archive, once it was announced.
    announced: Option<EntryPath>,
    is_over: bool,
    piece: Vec<u8>,
    /// How much of the piece was taken.
    at: usize,
    /// What of the entry did not come yet.
    content_left: u64,
    padding_left: u64,
    entries: u64,
}

impl BaseBackup {
    /// Begins. The server makes a checkpoint first, at once rather than at its leisure. It compares pages with their
    /// checksums, and sends the log of the backup last. With `estimate` it looks first how much there is.
    ///
    /// # Errors
    /// When the server refuses, or somebody wishes to stop.
    pub fn start(
        mut connection: Connection,
        estimate: bool,
        cancel: &Cancel,
    ) -> Result<Self, BaseBackupError> {
        // Whether the log is archived is not waited for: the backup has it.
        let command = format!(
            "BASE_BACKUP (LABEL 'lifeboat', PROGRESS {estimate}, CHECKPOINT 'fast', WAL true, WAIT false, \
             TABLESPACE_MAP true, MANIFEST 'no', VERIFY_CHECKSUMS true)"
        );
        let answers = connection
            .copy_out(&command, cancel)
            .map_err(BaseBackupError::Start)?;
        let [begun, spaces] = answers.as_slice() else {
            return Err(BaseBackupError::Answer("the beginning of a backup"));
        };
        let (start, timeline) =
            position(begun).ok_or(BaseBackupError::Answer("the beginning of a backup"))?;
        let kib = spaces.iter().filter_map(|row| row.get(2)?.as_ref());
        let kib = kib.filter_map(|size| size.parse::<u64>().ok());
        let kib = kib.fold(0, u64::saturating_add);
        let estimate_bytes = kib.saturating_mul(1024);
        Ok(Self {
            start,
            timeline,
            estimate_bytes,
            spaces: sent_spaces(spaces)?,
            connection,
            cancel: cancel.clone(),
            place: None,
            announced: None,
            is_over: false,
            piece: Vec::new(),
            at: 0,
            content_left: 0,
            padding_left: 0,
            entries: 0,
        })
    }

    /// What comes next; what was not read of the content before is let go of. `None` after the last.
    ///
    /// # Errors
    /// When it can't be understood, the server ends it, or somebody wishes to stop.
    pub fn arrival(&mut self) -> Result<Option<Arrival>, BaseBackupError> {
        while self.content()?.is_some() {}
        loop {
            if self.place.is_none() && !self.begin_archive()? {
                return Ok(None);
            }
            let header = match self.block()? {
                Some(block) => UstarHeader::parse(&block).map_err(BaseBackupError::Archive)?,
                None => None,
            };
            let Some(header) = header else {
                // Behind the end there are zeros alone.
                while self.more()? {
                    self.at = self.piece.len();
                }
                self.place = None;
                continue;
            };
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                return Err(BaseBackupError::Form("more files than a cluster has"));
            }
            let path = match &self.place {
                Some(place) if !place.0.is_empty() => place.join(&header.path.0),
                _ => header.path,
            };
            let size_bytes = match header.kind {
                UstarKind::File { size_bytes } => Some(size_bytes),
                UstarKind::Dir => None,
                // One that leads to a tablespace stands for it.
                UstarKind::Link if self.is_space(&path) => None,
                UstarKind::Link => {
                    return Err(BaseBackupError::Form("a link that leads to no tablespace"));
                }
            };
            self.content_left = size_bytes.unwrap_or(0);
            self.padding_left = UstarHeader::padding(self.content_left);
            return Ok(Some(Arrival {
                path,
                size_bytes,
                permissions: header.permissions,
                uid: header.uid,
                gid: header.gid,
                modified_seconds: header.modified_seconds,
            }));
        }
    }

    /// The next of the content of the file that came last; `None` when all of it was given.
    ///
    /// # Errors
    /// When it ends too early, the server ends it, or somebody wishes to stop.
    pub fn content(&mut self) -> Result<Option<&[u8]>, BaseBackupError> {
        if self.content_left == 0 {
            while self.padding_left > 0 {
                let taken = self.take(self.padding_left)?;
                self.padding_left -= (taken.1 - taken.0) as u64;
            }
            return Ok(None);
        }
        let (from, to) = self.take(self.content_left)?;
        self.content_left -= (to - from) as u64;
        Ok(self.piece.get(from..to))
    }

    /// What the server had to say beside its files, since the last time.
    pub fn take_notices(&mut self) -> Vec<String> {
        self.connection.take_notices()
    }

    /// Ends it, when all has come.
    ///
    /// # Errors
    /// When the server did not end it as it should, or somebody wishes to stop. Damaged pages are no error of it.
    pub fn finish(&mut self) -> Result<BaseBackupEnd, BaseBackupError> {
        let end = self.connection.copy_end(&self.cancel);
        let end = end.map_err(BaseBackupError::Stream)?;
        // The server tells the end before it complains of pages: without it there was more amiss.
        let is_damaged = match (end.failed, position(&end.rows)) {
            (None, _) => false,
            (Some(cause), Some(_)) if cause.code == DATA_CORRUPTED => true,
            (Some(cause), _) => return Err(BaseBackupError::End(cause)),
        };
        let (stop, timeline) =
            position(&end.rows).ok_or(BaseBackupError::Answer("the end of a backup"))?;
        Ok(BaseBackupEnd {
            stop,
            timeline,
            is_damaged,
        })
    }

    fn is_space(&self, path: &EntryPath) -> bool {
        let mut spaces = self.spaces.iter();
        spaces.any(|space| space_path(space.oid) == *path)
    }

    /// Whether another archive begins.
    fn begin_archive(&mut self) -> Result<bool, BaseBackupError> {
        if self.announced.is_none() && self.more()? {
            return Err(BaseBackupError::Form("files before their archive"));
        }
        self.place = self.announced.take();
        Ok(self.place.is_some())
    }

    /// Takes so many bytes at most from the piece, and says where they are in it.
    fn take(&mut self, bytes: u64) -> Result<(usize, usize), BaseBackupError> {
        if !self.more()? {
            return Err(BaseBackupError::Form("a part of a file alone"));
        }
        let left = self.piece.len() - self.at;
        let from = self.at;
        self.at += usize::try_from(bytes).unwrap_or(left).min(left);
        Ok((from, self.at))
    }

    /// The next block of the archive; `None` at its end.
    fn block(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>, BaseBackupError> {
        let mut block = [0; BLOCK_BYTES];
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            if !self.more()? {
                return match filled {
                    0 => Ok(None),
                    _ => Err(BaseBackupError::Form("half a header")),
                };
            }
            let piece = self.piece.get(self.at..).unwrap_or_default();
            let length = piece.len().min(rest.len());
            for (to, from) in rest.iter_mut().zip(piece) {
                *to = *from;
            }
            self.at += length;
            filled += length;
        }
        Ok(Some(block))
    }

    /// Whether there is more of this archive; then there is some in the piece.
    fn more(&mut self) -> Result<bool, BaseBackupError> {
        while self.at >= self.piece.len() {
            if self.is_over || self.announced.is_some() {
                return Ok(false);
            }
            let piece = self.connection.copied(&self.cancel);
            let Some(piece) = piece.map_err(BaseBackupError::Stream)? else {
                self.is_over = true;
                return Ok(false);
            };
            match piece.first() {
                // Contents.
                Some(b'd') => (self.piece, self.at) = (piece, 1),
                // How far it is, which we see by ourselves.
                Some(b'p') => {}
                // A new archive: its name, and where the tablespace is that it holds.
                Some(b'n') => {
                    let name = piece.get(1..).unwrap_or_default();
                    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                    self.announced = Some(self.place_of(name)?);
                }
                _ => {
                    return Err(BaseBackupError::Form(
                        "a message of a kind that is not known",
                    ));
                }
            }
        }
        Ok(true)
    }

    /// Where the entries of an archive belong.
    fn place_of(&self, name: &[u8]) -> Result<EntryPath, BaseBackupError> {
        if name == b"base.tar" {
            return Ok(EntryPath::top());
        }
        let oid = name.strip_suffix(b".tar");
        let oid = oid.and_then(|oid| number(std::str::from_utf8(oid).ok()?));
        let known = |oid: &u32| self.spaces.iter().any(|space| space.oid == *oid);
        oid.filter(known)
            .map(space_path)
            .ok_or(BaseBackupError::Form("an archive of no tablespace"))
    }
}

/// Where a tablespace is below the data directory.
fn space_path(oid: u32) -> EntryPath {
    EntryPath(SPACES_DIR.to_vec()).join(oid.to_string().as_bytes())
}

/// A position and its timeline, as the server tells where a backup begins and ends.
fn position(rows: &[Row]) -> Option<(Lsn, Timeline)> {
    match rows.first().map(Vec::as_slice) {
        Some([Some(position), Some(timeline), ..]) => {
            Some((position.parse().ok()?, Timeline(timeline.parse().ok()?)))
        }
        _ => None,
    }
}

/// The tablespaces of an answer, without the data directory, which has no number.
fn sent_spaces(rows: &[Row]) -> Result<Vec<SentSpace>, BaseBackupError> {
    let mut spaces = Vec::new();
    for row in rows {
        match row.as_slice() {
            [None, ..] => {}
            [Some(oid), Some(location), ..] => spaces.push(SentSpace {
                oid: number(oid).ok_or(BaseBackupError::Answer("its tablespaces"))?,
                location: PathBuf::from(location),
            }),
            _ => return Err(BaseBackupError::Answer("its tablespaces")),
        }
    }
    Ok(spaces)
}

//! A volume in which each SQLite database is read as one file of one state, whatever programs do with it meanwhile.
//! It must never hide a file beside a database unless what it holds is in the copy of that database.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lifeboat_flow::{
    Cancel, ChunkRule, Content, Entry, EntryKind, EntryPath, Event, EventSink, Listing, Source,
    SourceError, chain,
};

use super::chunk_length::chunk_bytes_for;
use super::content::{BegunContent, CopyContent};
use super::copy::copy;
use super::files_copy::{FilesCopyError, Worth, copy_files};
use super::head::{HEAD_BYTES, Head, SMALLEST_BYTES};
use super::reader::{Reader, Refusal, refusal_of_head};
use super::scratch::{Room, Scratch};
use super::sides::{Sides, beside, index_name, side_names};
use super::turn::{FileKey, Turn};

/// How long a locked database is waited for. Who holds it longer keeps it locked for good, as some programs do.
const LOCKED_WAIT_MAX: Duration = Duration::from_secs(30);
/// How often a database is tried that is opened, closed or written while its files are copied.
const ROUNDS_MAX: u32 = 3;

/// A volume that lies in a directory of this machine, with its SQLite databases read through SQLite.
///
/// What is a database is told by its first bytes, whatever its name, when it is opened to be read: that costs a look at the
/// directory and a read of 100 bytes for each file that is read anyway, and nothing for those that did not change. Only
/// files that have a `-wal`, `-journal` or `-shm` beside them are opened for a listing: these files are left out of it, and
/// their times count for the database.
///
/// A database is copied by SQLite's backup interface over a read-only connection. Where that would have to write (a journal
/// to roll back, a `-wal` that nobody has open), or is not possible (locked for good, a directory that is not ours), its
/// files are copied, and SQLite puts the copy in order: if nothing changed meanwhile that is as good; if something did, it
/// is a fault. What SQLite does not read is kept as it is, with a fault and with the files beside it.
///
/// Programs that keep one state in several databases are not asked to agree: each database has an instant of its own.
pub struct SqliteSource<'a> {
    inner: &'a dyn Source,
    root: PathBuf,
    scratch: Scratch,
    cancel: Cancel,
    notes: &'a dyn EventSink,
    locked_wait_max: Duration,
    /// Databases that are kept as they are with what lies beside them, and why.
    as_they_are: Mutex<HashMap<EntryPath, String>>,
}

/// A copy, if there is one, and what is wrong with it.
enum Taken {
    Copy(Room, Vec<String>),
    AsItIs(String),
}

impl<'a> SqliteSource<'a> {
    /// The files of `inner`, whose top lies at `root` on this machine. Copies lie in `scratch` until they are stored, which
    /// needs room for as many databases as are read at once; `notes` hears what was done in another way than usual.
    #[must_use]
    pub fn new(
        inner: &'a dyn Source,
        root: PathBuf,
        scratch: PathBuf,
        cancel: &Cancel,
        notes: &'a dyn EventSink,
    ) -> Self {
        Self {
            inner,
            root,
            scratch: Scratch::new(scratch),
            cancel: cancel.clone(),
            notes,
            locked_wait_max: LOCKED_WAIT_MAX,
            as_they_are: Mutex::default(),
        }
    }

    /// Waits no longer than this for a locked database.
    #[must_use]
    pub fn waiting_at_most(mut self, locked_wait_max: Duration) -> Self {
        self.locked_wait_max = locked_wait_max;
        self
    }

    fn place(&self, path: &EntryPath) -> PathBuf {
        self.root.join(OsStr::from_bytes(&path.0))
    }

    /// Reads the beginning of a file. The content may only be dropped while it is the caller's turn.
    fn begin(&self, path: &EntryPath) -> Result<(Vec<u8>, Box<dyn Content>), SourceError> {
        let mut content = self.inner.open(path)?;
        let mut begin = Vec::with_capacity(HEAD_BYTES);
        (&mut *content)
            .take(HEAD_BYTES as u64)
            .read_to_end(&mut begin)
            .map_err(|cause| unreadable("read", path, cause))?;
        Ok((begin, content))
    }

    fn turn(&self, key: FileKey, path: &EntryPath) -> Result<Turn, SourceError> {
        Turn::take(key, &self.cancel)
            .map_err(|stopped| unreadable("wait for", path, io::Error::other(stopped)))
    }

    /// The names of a directory's databases that have files beside them. The listing may lack those by somebody's wish,
    /// which must not make a database look unchanged.
    fn candidates(&self, dir: &EntryPath, listing: &Listing) -> BTreeSet<Vec<u8>> {
        let listed = listing.entries.iter();
        let mut names: BTreeSet<Vec<u8>> = listed
            .filter_map(|entry| Some(beside(&entry.name)?.to_vec()))
            .collect();
        let on_disk = std::fs::read_dir(self.place(dir)).into_iter().flatten();
        names.extend(on_disk.flatten().filter_map(|entry| {
            let name = entry.file_name().into_vec();
            Some(beside(&name)?.to_vec())
        }));
        names
    }

    /// Looks at a file with others beside it: the names that its copy makes superfluous.
    fn look(&self, path: &EntryPath, entry: &mut Entry) -> Result<Vec<Vec<u8>>, SourceError> {
        let place = self.place(path);
        let Some((key, _)) = FileKey::of(&place) else {
            return Ok(Vec::new());
        };
        let _turn = self.turn(key, path)?;
        // What can't be read is told when it is to be read.
        let head = match self.begin(path) {
            Ok((begin, _)) => Head::parse(&begin),
            Err(_) => None,
        };
        let Some(head) = head else {
            return Ok(Vec::new());
        };
        let sides = Sides::of(&place);
        if sides.size_bytes() > 0
            && let Some(refusal) = self.refusal(&place, head, &sides)
        {
            self.keep_as_it_is(path, chain(&refusal));
            return Ok(vec![index_name(path.name())]);
        }
        sides.stamp(entry);
        Ok(side_names(path.name()).to_vec())
    }

    /// Why SQLite makes no database of it, as far as that can be told without a copy.
    fn refusal(&self, place: &Path, head: Head, sides: &Sides) -> Option<Refusal> {
        let place = real(place).ok()?;
        let refusal = refusal_of_head(&place);
        if refusal.is_some() || !has_way(head, sides) {
            return refusal;
        }
        let opened = Reader::open(&place, Duration::ZERO, &self.cancel);
        opened
            .err()
            .filter(|refusal| matches!(refusal, Refusal::NoDatabase(_)))
    }

    fn keep_as_it_is(&self, path: &EntryPath, why: String) {
        let mut kept = self.as_they_are();
        kept.insert(path.clone(), why);
    }

    fn as_they_are(&self) -> std::sync::MutexGuard<'_, HashMap<EntryPath, String>> {
        let kept = self.as_they_are.lock();
        kept.unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies a database while it is our turn and nothing of ours has it open.
    fn take(
        &self,
        path: &EntryPath,
        place: &Path,
        key: FileKey,
        mut head: Head,
    ) -> Result<Taken, SourceError> {
        let failed = |doing, cause| unreadable(doing, path, cause);
        let place = real(place).map_err(|cause| failed("find", cause))?;
        let mut refused = None;
        let mut last = None;
        for _ in 0..ROUNDS_MAX {
            let sides = Sides::of(&place);
            let size_bytes = match FileKey::of(&place) {
                Some((now, size_bytes)) if now == key => size_bytes,
                _ => return Err(replaced(path)),
            };
            let room = self.scratch.room(size_bytes + sides.size_bytes());
            let room = room.map_err(|cause| failed("make room for a copy of", cause))?;
            if has_way(head, &sides) && !matches!(refused, Some(Refusal::Busy(_))) {
                match self.through_sqlite(&place, key, &room) {
                    Ok(true) => return Ok(Taken::Copy(room, Vec::new())),
                    Ok(false) => return Err(replaced(path)),
                    Err(Refusal::Cancelled(stopped)) => {
                        return Err(failed("copy", io::Error::other(stopped)));
                    }
                    Err(refusal @ Refusal::NoDatabase(_)) => {
                        return Ok(Taken::AsItIs(chain(&refusal)));
                    }
                    Err(refusal) => refused = Some(refusal),
                }
            }
            // A copy that was begun is none.
            drop(room);
            let room = self.scratch.room(size_bytes + sides.size_bytes());
            let room = room.map_err(|cause| failed("make room for a copy of", cause))?;
            let content = || {
                let content = self.inner.open(path).map_err(io::Error::other)?;
                Ok(Box::new(content) as Box<dyn Read>)
            };
            match copy_files(&place, content, &room.path(), &self.cancel) {
                Ok(Worth::Settled) => {
                    if let Some(refusal @ Refusal::Busy(_)) = refused {
                        self.notes.event(Event::Note(format!(
                            "{}: {refusal}; it was taken from its files, which did not change meanwhile",
                            path.display()
                        )));
                    }
                    return Ok(Taken::Copy(room, Vec::new()));
                }
                Ok(Worth::Torn) => last = Some(Taken::Copy(room, vec![torn(refused.as_ref())])),
                Err(FilesCopyError::Refused(Refusal::Cancelled(stopped))) => {
                    return Err(failed("copy", io::Error::other(stopped)));
                }
                Err(FilesCopyError::Refused(refusal)) => {
                    last = Some(Taken::AsItIs(chain(&refusal)));
                }
                Err(FilesCopyError::Io(cause)) => return Err(failed("copy the files of", cause)),
            }
            // Somebody may have opened it, and in another mode.
            if let Ok((begin, _)) = self.begin(path)
                && let Some(now) = Head::parse(&begin)
            {
                head = now;
            }
        }
        last.ok_or_else(|| replaced(path))
    }

    /// Copies a database over a connection; false if it is not that file any more.
    fn through_sqlite(&self, place: &Path, key: FileKey, room: &Room) -> Result<bool, Refusal> {
        let reader = Reader::open(place, self.locked_wait_max, &self.cancel)?;
        let is_it = || FileKey::of(place).is_some_and(|(now, _)| now == key);
        if !is_it() {
            return Ok(false);
        }
        copy(&reader, &room.path(), &self.cancel)?;
        Ok(is_it())
    }
}

impl Source for SqliteSource<'_> {
    fn list(&self, dir: &EntryPath) -> Result<Listing, SourceError> {
        let mut listing = self.inner.list(dir)?;
        let mut hidden = BTreeSet::new();
        for name in self.candidates(dir, &listing) {
            let found = listing
                .entries
                .binary_search_by(|entry| entry.name.as_slice().cmp(&name));
            let entry = found.ok().and_then(|at| listing.entries.get_mut(at));
            let Some(entry) = entry.filter(|entry| {
                entry.kind == EntryKind::File && entry.size_bytes >= SMALLEST_BYTES
            }) else {
                continue;
            };
            hidden.extend(self.look(&dir.join(&name), entry)?);
        }
        let is_kept = |entry: &Entry| {
            entry.kind != EntryKind::File || !hidden.contains(entry.name.as_slice())
        };
        listing.entries.retain(is_kept);
        Ok(listing)
    }

    fn open(&self, path: &EntryPath) -> Result<Box<dyn Content>, SourceError> {
        let place = self.place(path);
        let key = match FileKey::of(&place) {
            Some((key, size_bytes)) if size_bytes >= SMALLEST_BYTES => key,
            _ => return self.inner.open(path),
        };
        let turn = self.turn(key, path)?;
        let (begin, mut content) = self.begin(path)?;
        let Some(head) = Head::parse(&begin) else {
            return Ok(Box::new(BegunContent {
                begin,
                given: 0,
                rest: content,
                fault: None,
                _turn: None,
            }));
        };
        let known = self.as_they_are().get(path).cloned();
        if let Some(why) = known {
            return Ok(as_it_is(begin, content, &why, turn));
        }
        let sides = Sides::of(&place);
        let mut entry = content.finish()?;
        if let Some(entry) = &mut entry {
            if (entry.device_id, entry.inode) != (key.device, key.inode) {
                return Err(replaced(path));
            }
            sides.stamp(entry);
        }
        // Closed before there is a connection.
        drop(content);
        match self.take(path, &place, key, head)? {
            Taken::Copy(room, faults) => {
                drop(turn);
                let failed = |cause| unreadable("read the copy of", path, cause);
                let file = room.into_file().map_err(failed)?;
                let size_bytes = file.metadata().map_err(failed)?.len();
                Ok(Box::new(CopyContent {
                    file,
                    entry,
                    rule: ChunkRule::Aligned {
                        bytes: chunk_bytes_for(head.page_bytes, size_bytes),
                    },
                    faults,
                    read_bytes: 0,
                }))
            }
            Taken::AsItIs(why) => {
                let (begin, content) = self.begin(path)?;
                Ok(as_it_is(begin, content, &why, turn))
            }
        }
    }
}

/// The content of a file that looks like a database and is not read as one.
fn as_it_is(begin: Vec<u8>, rest: Box<dyn Content>, why: &str, turn: Turn) -> Box<dyn Content> {
    Box::new(BegunContent {
        begin,
        given: 0,
        rest,
        fault: Some(format!("{why}; the file is kept as it is")),
        _turn: Some(turn),
    })
}

/// Whether a connection finds all that it needs: for a database in WAL mode, what others that have it open have made.
fn has_way(head: Head, sides: &Sides) -> bool {
    !head.is_wal || sides.has_log_in_use()
}

/// A path without links in what leads to the file, as SQLite wants it where it should follow none.
fn real(place: &Path) -> io::Result<PathBuf> {
    let (Some(dir), Some(name)) = (place.parent(), place.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    Ok(dir.canonicalize()?.join(name))
}

/// What is wrong with a copy of files that changed.
fn torn(refused: Option<&Refusal>) -> String {
    let why = match refused {
        Some(refusal) => chain(refusal),
        None => "no other program is let in by the one that has it open".to_owned(),
    };
    format!(
        "it was written while its files were copied, and may not be consistent: {why}. Let lifeboat run as the owner of the \
         database or root, and let the program share it (no locking_mode=EXCLUSIVE), or stop it for the capture"
    )
}

fn replaced(path: &EntryPath) -> SourceError {
    unreadable(
        "read",
        path,
        io::Error::other("another file took its place while it was read"),
    )
}

fn unreadable(doing: &'static str, path: &EntryPath, cause: io::Error) -> SourceError {
    SourceError::Unreadable {
        doing,
        path: path.display(),
        cause,
    }
}

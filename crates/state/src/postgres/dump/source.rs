//! The dumps of a server as a source: a file for each database, as `pg_dump` writes it, and one for its roles.
//! It must never give a dump for whole whose program failed, nor write one to a disk.

use std::io::{self, Read};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use lifeboat_flow::{
    Cancel, ChunkRule, Content, Entry, EntryKind, EntryPath, Listing, Source, SourceError,
    Timestamp, chain,
};

use super::super::client::{Address, PgError};
use super::super::verify::DatabaseBaseline;
use super::conninfo::client;
use super::database::DatabaseRecord;
use super::programs::ClientPrograms;
use super::record::DumpRecord;
use super::snapshot::Snapshot;
use super::words::Words;
use crate::command::CommandContent;

/// The directory of a capture that holds its dumps.
pub const DUMPS_DIR: &str = "dumps";
/// The file of a capture that holds its roles and tablespaces.
pub const GLOBALS_FILE: &str = "globals.sql";
/// How long a dump waits for the lock on a table, in seconds.
const LOCK_WAIT_SECONDS: u32 = 600;
/// What is in them is for whoever captures alone.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;
/// What ends the name of a dump.
const SUFFIX: &str = ".dump";

/// What was dumped.
#[derive(Clone, Debug)]
pub struct Dumped {
    /// Which database, and how.
    pub record: DumpRecord,
    /// What was in it, or why that could not be looked at.
    pub baseline: Result<DatabaseBaseline, String>,
}

/// The dumps of a server.
pub struct DumpSource {
    /// The server.
    pub address: Address,
    /// The programs that dump it.
    pub programs: ClientPrograms,
    /// Its databases.
    pub databases: Vec<DatabaseRecord>,
    /// Whether the passwords of roles may be read.
    pub role_passwords: bool,
    /// When it began, which is the time of its files.
    pub time: Timestamp,
    /// The time now.
    pub clock: fn() -> Timestamp,
    /// The wish to stop.
    pub cancel: Cancel,
    /// What is dumped.
    pub done: Arc<Mutex<Vec<Dumped>>>,
}

/// The file of a database: its name, with a percent sign and two digits for each byte that could be more than a name.
#[must_use]
pub fn file_name(database: &str) -> String {
    let mut name = String::new();
    for (at, byte) in database.bytes().enumerate() {
        let is_plain =
            byte.is_ascii_alphanumeric() || byte == b'_' || at > 0 && b".-".contains(&byte);
        match is_plain {
            true => name.push(char::from(byte)),
            false => name.push_str(&format!("%{byte:02X}")),
        }
    }
    name.push_str(SUFFIX);
    name
}

impl DumpSource {
    fn entry(&self, name: &str, kind: EntryKind) -> Entry {
        Entry {
            permissions: match kind {
                EntryKind::Dir => DIR_MODE,
                _ => FILE_MODE,
            },
            modified: self.time,
            accessed: self.time,
            changed: self.time,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            ..Entry::bare(name.as_bytes(), kind)
        }
    }

    fn globals(&self) -> Result<DumpContent, SourceError> {
        let mut command = client(&self.programs, "pg_dumpall", &self.address, "");
        command.args(["--globals-only", "--encoding=UTF8"]);
        if !self.role_passwords {
            command.arg("--no-role-passwords");
        }
        // It connects to `postgres` or `template1` otherwise. A name with this sign would be more than a name to it.
        let database = &self.address.database;
        if !database.contains(['=', ':']) {
            command.arg(format!("--database={database}"));
        }
        self.start(
            command,
            "the roles can't be dumped".to_owned(),
            GLOBALS_FILE,
        )
    }

    fn dump(&self, database: &DatabaseRecord) -> Result<DumpContent, SourceError> {
        let name = &database.name;
        let what = format!("the database {name} can't be dumped");
        let failed = |error| SourceError::Fatal {
            reason: format!("{what}: {}", chain(&error)),
        };
        let snapshot =
            Snapshot::take(&self.address, name, self.clock, &self.cancel).map_err(failed)?;
        let mut command = client(&self.programs, "pg_dump", &self.address, name);
        // Compressed, hardly anything of it would be shared with the dump before. Every version knows this form.
        command.args(["--format=custom", "--compress=0"]);
        command.arg(format!("--lock-wait-timeout={LOCK_WAIT_SECONDS}s"));
        command.arg(format!("--snapshot={}", snapshot.id));
        let file = file_name(name);
        let mut content = self.start(command, what, &file)?;
        content.pending = Some(Pending {
            database: database.clone(),
            file,
            snapshot,
            cancel: self.cancel.clone(),
        });
        Ok(content)
    }

    fn start(
        &self,
        command: Command,
        what: String,
        file: &str,
    ) -> Result<DumpContent, SourceError> {
        let words = Words::default();
        let program = command.get_program().to_string_lossy().into_owned();
        let entry = self.entry(file, EntryKind::File);
        let inner = CommandContent::start(command, program.clone(), entry, Some(words.listener()));
        Ok(DumpContent {
            inner: inner.map_err(|cause| SourceError::Fatal {
                reason: format!("{what}: {program} can't be started: {cause}"),
            })?,
            what,
            words,
            pending: None,
            looked: None,
            failed: None,
            done: Arc::clone(&self.done),
        })
    }
}

impl Source for DumpSource {
    fn list(&self, dir: &EntryPath) -> Result<Listing, SourceError> {
        let mut entries = match dir.0.as_slice() {
            b"" => vec![
                self.entry(DUMPS_DIR, EntryKind::Dir),
                self.entry(GLOBALS_FILE, EntryKind::File),
            ],
            _ => {
                let names = self
                    .databases
                    .iter()
                    .map(|database| file_name(&database.name));
                names
                    .map(|name| self.entry(&name, EntryKind::File))
                    .collect()
            }
        };
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Listing {
            entries,
            problems: Vec::new(),
        })
    }

    fn open(&self, path: &EntryPath) -> Result<Box<dyn Content>, SourceError> {
        if path.0 == GLOBALS_FILE.as_bytes() {
            return Ok(Box::new(self.globals()?));
        }
        let is_it =
            |database: &&DatabaseRecord| file_name(&database.name).as_bytes() == path.name();
        match self.databases.iter().find(is_it) {
            Some(database) => Ok(Box::new(self.dump(database)?)),
            None => Err(SourceError::Fatal {
                reason: format!("there is no database for {}", path.display()),
            }),
        }
    }
}

/// A database whose dump has not begun to come.
struct Pending {
    database: DatabaseRecord,
    file: String,
    snapshot: Snapshot,
    cancel: Cancel,
}

impl Pending {
    /// Looks at what is in the snapshot, which stays.
    fn look(mut self) -> Result<(Dumped, Snapshot), PgError> {
        let seen = self.snapshot.look(&self.database.name, &self.cancel)?;
        let dumped = Dumped {
            record: DumpRecord {
                database: self.database,
                file: self.file,
                instant: self.snapshot.instant,
                bytes: 0,
                tables: seen.baseline.as_ref().ok().map(|baseline| baseline.tables),
                objects: seen.objects,
            },
            baseline: seen.baseline,
        };
        Ok((dumped, self.snapshot))
    }
}

/// What a program writes, and what is said of it once it is whole.
struct DumpContent {
    // Before the snapshot, so that the program has ended when that goes.
    inner: CommandContent,
    what: String,
    words: Words,
    pending: Option<Pending>,
    looked: Option<(Dumped, Snapshot)>,
    failed: Option<PgError>,
    done: Arc<Mutex<Vec<Dumped>>>,
}

impl Read for DumpContent {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buf)?;
        // It writes nothing before it has its locks. A look before would have locks that somebody waits for who stands
        // in the way of the dump, and the dump would wait for ever.
        if length > 0
            && let Some(pending) = self.pending.take()
        {
            match pending.look() {
                Ok(looked) => self.looked = Some(looked),
                // The rest is of no use. `finish` tells why.
                Err(error) => {
                    self.failed = Some(error);
                    return Ok(0);
                }
            }
        }
        Ok(length)
    }
}

impl Content for DumpContent {
    fn finish(&mut self) -> Result<Option<Entry>, SourceError> {
        if let Some(error) = self.failed.take() {
            return Err(SourceError::Fatal {
                reason: format!("{}: {}", self.what, chain(&error)),
            });
        }
        let finished = self.inner.finish().map_err(|error| SourceError::Fatal {
            reason: format!("{}: {error}{}", self.what, self.words.after(": ")),
        })?;
        if let (Some((mut dumped, _)), Some(entry)) = (self.looked.take(), &finished) {
            dumped.record.bytes = entry.size_bytes;
            let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            done.push(dumped);
        }
        Ok(finished)
    }

    fn chunk_rule(&self) -> ChunkRule {
        ChunkRule::Small
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_file_of_its_own() {
        for (name, file) in [
            ("app", "app.dump"),
            ("My-app_2.0", "My-app_2.0.dump"),
            ("-rf", "%2Drf.dump"),
            (".hidden", "%2Ehidden.dump"),
            ("a/b=c", "a%2Fb%3Dc.dump"),
            ("ä%", "%C3%A4%25.dump"),
        ] {
            assert_eq!(file_name(name), file);
        }
    }
}

//! Captures databases as dumps: each flows from its program into the repository, and the record and snapshot come last.
//! It must never write that snapshot unless every dump is whole.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use lifeboat_flow::{Cancel, Cancelled, Counters, Event, EventSink, Source, Timestamp, chain};
use lifeboat_format::{Id, Snapshot, SnapshotSummary};
use lifeboat_plan::Flag;
use lifeboat_repo::{BlobReader, Index, Ingest, LockGuard, RepoError, Repository};
use lifeboat_state::StreamSource;
use lifeboat_state::postgres::client::{Address, Connection, PgError, Session};
use lifeboat_state::postgres::dump::{
    ClientPrograms, ClientProgramsError, DatabasesError, DumpSource, Dumped, LogicalCapture,
    LogicalMember, Needed, Record, ServerFacts, databases, flags,
};
use lifeboat_state::postgres::verify::{Baseline, EXACT_UP_TO_BYTES, Skipped};
use lifeboat_state::postgres::{
    CaptureKind, ENGINE, FactsError, MEMBER_FILE, MEMBER_VERSION, MemberError,
};

use super::super::capture::{sum, version_text};
use super::super::gather::Gather;
use super::super::parts::record_of;
use crate::backup::{Backup, BackupOptions, ProtectError, TreeOutcome, acknowledge};
use crate::fleet::Fleet;
use crate::graft::{Grafts, store};

/// From this version on `pg_restore` makes a setting that older servers do not know (`transaction_timeout`).
const WITH_TIMEOUT: u32 = 17;

/// A logical capture that runs once.
pub struct DumpCapture<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// Its index, compared with the listing of packs.
    pub index: &'a RwLock<Index>,
    /// The lock; a dry run has none.
    pub lock: Option<&'a LockGuard>,
    /// The server, and a database of it that lets us in.
    pub address: &'a Address,
    /// The databases; all that are no templates if none are named.
    pub databases: &'a [String],
    /// The directory of PostgreSQL's programs, if somebody named one.
    pub programs: Option<&'a Path>,
    /// Directories to look for them in after those that are known.
    pub other_dirs: &'a [PathBuf],
    /// The app that it belongs to.
    pub app: &'a str,
    /// Its name in the app.
    pub member: &'a str,
    /// The fleet that it belongs to; a dry run may not know it.
    pub fleet: Option<&'a Fleet>,
    /// The capture before.
    pub before: Option<(Id, &'a Snapshot)>,
    /// How to store; so many dumps run at once as there are readers.
    pub options: BackupOptions,
    /// Where progress is counted.
    pub counters: &'a Counters,
    /// Who is told of problems.
    pub events: &'a dyn EventSink,
    /// The wish to stop.
    pub cancel: &'a Cancel,
}

/// What a capture did.
#[derive(Clone, Debug)]
pub struct DumpCaptureOutcome {
    /// The snapshot; none for a dry run.
    pub snapshot: Option<Id>,
    /// Its tree; of a dry run, one that is not stored.
    pub tree: Id,
    /// The record.
    pub member: LogicalMember,
    /// What was done.
    pub summary: SnapshotSummary,
}

/// A capture can't go on. Nothing is acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum DumpCaptureError {
    /// The server can't be reached.
    #[error("dump the server")]
    Connect(#[source] PgError),
    /// The server is none that can be dumped.
    #[error("dump the server")]
    Facts(#[from] FactsError),
    /// The programs are not there, or too old.
    #[error(transparent)]
    Programs(#[from] ClientProgramsError),
    /// The databases are not what was asked for.
    #[error(transparent)]
    Databases(#[from] DatabasesError),
    /// A dump broke off.
    #[error("{0}; nothing was acknowledged")]
    Unread(String),
    /// The record can't be written.
    #[error("complete the capture")]
    Member(#[from] MemberError),
    /// Reading or storing failed.
    #[error(transparent)]
    Protect(#[from] ProtectError),
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

impl From<Cancelled> for DumpCaptureError {
    fn from(stop: Cancelled) -> Self {
        Self::Protect(stop.into())
    }
}

impl DumpCapture<'_> {
    /// Runs it. `draft` is the snapshot with everything but time, parent, tree and summary; `now` tells the time here.
    ///
    /// # Errors
    /// When any of the databases can't be dumped as a whole.
    pub fn run(
        self,
        draft: Snapshot,
        now: fn() -> Timestamp,
    ) -> Result<DumpCaptureOutcome, DumpCaptureError> {
        let mut connection = Connection::open(self.address, Session::Queries, self.cancel)
            .map_err(DumpCaptureError::Connect)?;
        let facts = ServerFacts::ask(&mut connection, self.cancel)?;
        let needed = Needed {
            at_least: facts.major(),
            best: facts.major(),
            by: "the server",
        };
        let programs = ClientPrograms::find(needed, self.programs, self.other_dirs)?;
        programs.can_reach(self.address)?;
        if programs.major() >= WITH_TIMEOUT && facts.major() < WITH_TIMEOUT {
            self.note(format!(
                "pg_dump {} writes what only pg_restore {WITH_TIMEOUT} and newer reads, which older servers refuse: install the programs of PostgreSQL {}, or it comes back into newer servers alone",
                programs.version(),
                facts.major()
            ));
        }
        let (chosen, left_out) =
            databases(&mut connection, facts.version, self.databases, self.cancel)?;
        drop(connection);
        for name in &left_out {
            self.note(format!(
                "the database {name} allows no connections, and is not in the capture"
            ));
        }
        if !facts.reads_passwords {
            self.note(format!(
                "the role {} may not read the passwords of roles: they are not in the capture",
                self.address.user
            ));
        }
        let before = self.before()?;
        let done = Arc::new(Mutex::new(Vec::new()));
        let count = chosen.len();
        let source = DumpSource {
            address: self.address.clone(),
            programs: programs.clone(),
            databases: chosen,
            role_passwords: facts.reads_passwords,
            time: now(),
            clock: now,
            cancel: self.cancel.clone(),
            done: Arc::clone(&done),
        };
        let dumps = self.part(&source, now)?;
        let mut dumped: Vec<Dumped> =
            std::mem::take(&mut *done.lock().unwrap_or_else(PoisonError::into_inner));
        dumped.sort_by(|one, other| one.record.file.cmp(&other.record.file));
        let oldest = dumped.iter().map(|dumped| dumped.record.instant).min();
        let Some(instant) = oldest.filter(|_| dumped.len() == count) else {
            return Err(DumpCaptureError::Unread(format!(
                "{} of {count} databases were dumped",
                dumped.len()
            )));
        };
        let baseline = self.baseline(&facts, &dumped);
        let member = LogicalMember {
            version: MEMBER_VERSION,
            app: self.app.to_owned(),
            member: self.member.to_owned(),
            fleet: self.fleet.map(|fleet| fleet.fleet.to_string()),
            instant,
            kind: CaptureKind::Logical,
            engine: ENGINE.to_owned(),
            engine_version: version_text(facts.version),
            files: dumps.summary.total_files_processed,
            bytes: dumps.summary.total_bytes_processed,
            flags: flags(before.as_ref(), &baseline),
            logical: LogicalCapture {
                system_id: facts.system_id.map(|id| id.to_string()),
                standby: facts.is_standby,
                dump_version: programs.version().to_owned(),
                role_passwords: facts.reads_passwords,
                databases: dumped.into_iter().map(|dumped| dumped.record).collect(),
                left_out,
            },
            baseline: Some(baseline),
        };
        let json = Cursor::new(member.to_json()?);
        let record = StreamSource::new(MEMBER_FILE.as_bytes(), instant, Box::new(json));
        let record = record.map_err(|error| DumpCaptureError::Unread(error.to_string()))?;
        let rest = self.part(&record, now)?;
        let tree = self.join(dumps.tree, rest.tree)?;
        let summary = sum(dumps.summary, &rest.summary);
        let snapshot = match self.options.ingest.dry_run {
            true => None,
            false => {
                let mut tags = draft.tags.clone();
                tags.extend(member.flags.first().map(|_| Flag::Emptied.tag()));
                let snapshot = Snapshot {
                    tags,
                    time: instant,
                    parent: self.before.map(|(id, _)| id),
                    tree,
                    summary: Some(summary.clone()),
                    ..draft
                };
                Some(acknowledge(
                    self.repository,
                    self.index,
                    self.lock,
                    self.cancel,
                    &snapshot,
                )?)
            }
        };
        Ok(DumpCaptureOutcome {
            snapshot,
            tree,
            member,
            summary,
        })
    }

    fn note(&self, text: String) {
        self.events.event(Event::Note(text));
    }

    /// The record of the capture before. One that can't be used says nothing about this one.
    fn before(&self) -> Result<Option<LogicalMember>, DumpCaptureError> {
        let Some((_, snapshot)) = self.before else {
            return Ok(None);
        };
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        match record_of(&BlobReader::new(self.repository, &index), snapshot.tree) {
            Ok(Record::Logical(member)) => Ok(Some(*member)),
            Ok(Record::Physical(_)) => {
                self.note(
                    "the capture before is a physical one; give each kind a name of its own"
                        .to_owned(),
                );
                Ok(None)
            }
            Err(ProtectError::Cancelled(stop)) => Err(stop.into()),
            Err(error) => {
                self.note(format!(
                    "the capture before can't be compared with: {}",
                    chain(&error)
                ));
                Ok(None)
            }
        }
    }

    fn baseline(&self, facts: &ServerFacts, dumped: &[Dumped]) -> Baseline {
        let (mut databases, mut skipped) = (Vec::new(), Vec::new());
        for dumped in dumped {
            let name = &dumped.record.database.name;
            match &dumped.baseline {
                Ok(baseline) => databases.push(baseline.clone()),
                Err(why) => {
                    self.note(format!(
                        "what is in the database {name} could not be counted: {why}"
                    ));
                    skipped.push(Skipped {
                        name: name.clone(),
                        why: why.clone(),
                    });
                }
            }
        }
        Baseline {
            version: facts.version,
            superuser: facts.superuser.clone(),
            preload_libraries: facts.preload_libraries.clone(),
            exact_up_to_bytes: EXACT_UP_TO_BYTES,
            databases,
            skipped,
        }
    }

    /// Stores what a source has, all of it.
    fn part(
        &self,
        source: &dyn Source,
        now: fn() -> Timestamp,
    ) -> Result<TreeOutcome, DumpCaptureError> {
        let gather = Gather::new(self.events);
        let outcome = Backup {
            repository: self.repository,
            index: self.index,
            lock: self.lock,
            source,
            options: self.options.clone(),
            counters: self.counters,
            events: &gather,
            cancel: self.cancel,
        }
        .tree(now);
        // What was interrupted fails in many ways.
        self.cancel.check()?;
        let outcome = outcome?;
        match gather.heard().unread {
            None => Ok(outcome),
            Some(first) => Err(DumpCaptureError::Unread(first.to_string())),
        }
    }

    /// Puts the record beside the dumps.
    fn join(&self, dumps: Id, record: Id) -> Result<Id, ProtectError> {
        if self.options.ingest.dry_run {
            return Ok(dumps);
        }
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let mut grafts = Grafts::new(BlobReader::new(self.repository, &index));
        let nodes = grafts.tree(record)?.nodes;
        let root = grafts.put(dumps, &[], nodes)?;
        let blobs = grafts.into_blobs();
        drop(index);
        Ingest::run(
            self.repository,
            self.index,
            self.lock,
            self.options.ingest,
            |ingest| store(ingest, &blobs),
        )?;
        Ok(root)
    }
}

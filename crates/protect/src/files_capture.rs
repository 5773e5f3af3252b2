//! Captures files as a member of an app: a volume or the output of a command, in `data/`, beside the record of it.
//! It must never take the loss of a source for its state without a flag that says so.

use std::sync::{Mutex, PoisonError, RwLock};

use lifeboat_flow::{Cancel, Counters, Event, EventSink, Problem, Source};
use lifeboat_format::{Id, Node, NodeKind, Snapshot, SnapshotSummary, Timestamp};
use lifeboat_plan::{
    FILES_FAULTS_KEPT_MAX, FILES_VERSION, FilesEngine, FilesKind, FilesRecord, Flag, guard,
};
use lifeboat_repo::{BlobReader, Index, LockGuard, Repository};

use crate::ProtectError;
use crate::backup::{Backup, BackupOptions, Parent, acknowledge};
use crate::fleet::Fleet;
use crate::postgres::subtree;
use crate::record::small_file;
use crate::small_tree::{SmallFile, store_top};

/// The directory in a capture that holds the files.
pub const DATA_DIR: &str = "data";
/// The record beside it.
const RECORD_FILE: &str = "member.json";
/// A longer record is none.
const RECORD_MAX_BYTES: u64 = 1024 * 1024;

/// A capture of files that runs once.
pub struct FilesCapture<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// Its index, compared with the listing of packs.
    pub index: &'a RwLock<Index>,
    /// The lock; a dry run has none.
    pub lock: Option<&'a LockGuard>,
    /// The app.
    pub app: &'a str,
    /// The member.
    pub member: &'a str,
    /// The fleet; a dry run may not know it.
    pub fleet: Option<&'a Fleet>,
    /// What the files are.
    pub engine: FilesEngine,
    /// Where they lie, or what prints them.
    pub origin: &'a str,
    /// The files.
    pub source: &'a dyn Source,
    /// The directory that they lie in, if they lie in one.
    pub dir: Option<Node>,
    /// Captures of the member, the newest first.
    pub before: &'a [(Id, &'a Snapshot)],
    /// Whether a source that was lost is told.
    pub guarded: bool,
    /// How to read and store; what it is compared with is filled in.
    pub options: BackupOptions,
    /// Where progress is counted.
    pub counters: &'a Counters,
    /// Who is told of problems.
    pub events: &'a dyn EventSink,
    /// The wish to stop.
    pub cancel: &'a Cancel,
}

/// What a capture of files did.
#[derive(Clone, Debug)]
pub struct FilesCaptured {
    /// The snapshot; none for a dry run.
    pub snapshot: Option<Id>,
    /// Its tree.
    pub tree: Id,
    /// The record.
    pub record: FilesRecord,
    /// What was done.
    pub summary: SnapshotSummary,
}

impl FilesCapture<'_> {
    /// Runs it. `draft` is the snapshot with everything but time, parent, tree and summary; `now` tells the time here.
    ///
    /// # Errors
    /// When the repository fails or the source can't be trusted; what can't be read is a fault of the capture.
    pub fn run(
        self,
        draft: Snapshot,
        now: impl Fn() -> Timestamp + Copy,
    ) -> Result<FilesCaptured, ProtectError> {
        let instant = now();
        let (parent, sound) = self.known()?;
        let heard = Faults {
            inner: self.events,
            kept: Mutex::default(),
        };
        let backup = Backup {
            repository: self.repository,
            index: self.index,
            lock: self.lock,
            source: self.source,
            options: BackupOptions {
                parent,
                refuse_empty: false,
                ..self.options.clone()
            },
            counters: self.counters,
            events: &heard,
            cancel: self.cancel,
        };
        let data = backup.tree(now)?;
        let faults = heard
            .kept
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let mut record = FilesRecord {
            version: FILES_VERSION,
            app: self.app.to_owned(),
            member: self.member.to_owned(),
            fleet: self.fleet.map(|fleet| fleet.fleet.to_string()),
            instant,
            kind: FilesKind::Files,
            engine: self.engine,
            origin: self.origin.to_owned(),
            files: data.summary.total_files_processed,
            bytes: data.summary.total_bytes_processed,
            faults,
            faults_count: data.problems,
            flag: None,
        };
        let sound = sound.filter(|_| self.guarded);
        record.flag = sound.and_then(|sound| guard(sound.extent(), record.extent()));
        let dir = self
            .dir
            .unwrap_or_else(|| Node::bare(DATA_DIR.as_bytes(), NodeKind::Dir));
        let dir = Node {
            name: DATA_DIR.as_bytes().to_vec(),
            subtree: Some(data.tree),
            ..dir
        };
        let json = record.to_json()?;
        let file = SmallFile {
            name: RECORD_FILE,
            content: &json,
        };
        let place = (self.repository, self.index, self.lock);
        let tree = store_top(place, self.options.ingest, vec![dir], &[file], instant)?;
        let summary = data.summary;
        let snapshot = match self.options.ingest.dry_run {
            true => None,
            false => {
                let mut tags = draft.tags.clone();
                tags.extend(record.flag.map(Flag::tag));
                let snapshot = Snapshot {
                    tags,
                    time: instant,
                    parent: self.before.first().map(|(id, _)| *id),
                    tree,
                    summary: Some(summary.clone()),
                    ..draft
                };
                let place = (self.repository, self.index, self.lock);
                Some(acknowledge(
                    place.0,
                    place.1,
                    place.2,
                    self.cancel,
                    &snapshot,
                )?)
            }
        };
        Ok(FilesCaptured {
            snapshot,
            tree,
            record,
            summary,
        })
    }

    /// What to compare with: the files of the newest capture, and the record of the newest that nothing was suspicious
    /// about. A capture that can't be read only costs time.
    fn known(&self) -> Result<(Option<Parent>, Option<FilesRecord>), ProtectError> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let reader = BlobReader::new(self.repository, &index);
        let mut parent = None;
        for (id, snapshot) in self.before {
            let read = files_record_of(&reader, snapshot.tree)
                .and_then(|record| Ok((record, subtree(&reader, snapshot.tree, &[DATA_DIR])?)));
            let (record, data) = match read {
                Ok(read) => read,
                Err(ProtectError::Repo(error)) if !error.is_damage() => return Err(error.into()),
                Err(_) => continue,
            };
            parent = parent.or(data.map(|tree| Parent {
                id: *id,
                tree,
                holds: None,
            }));
            if record.flag.is_none() {
                return Ok((parent, Some(record)));
            }
        }
        Ok((parent, None))
    }
}

/// The record of a capture of files.
///
/// # Errors
/// When the tree is none of such a capture, or the record can't be read.
pub fn files_record_of(reader: &BlobReader<'_>, root: Id) -> Result<FilesRecord, ProtectError> {
    let json = small_file(reader, root, RECORD_FILE, RECORD_MAX_BYTES)?.ok_or_else(|| {
        ProtectError::NotInSnapshot(format!("it is no capture: there is no {RECORD_FILE} in it"))
    })?;
    Ok(FilesRecord::parse(&json)?)
}

/// Keeps the first problems for the record, and passes everything on.
struct Faults<'a> {
    inner: &'a dyn EventSink,
    kept: Mutex<Vec<String>>,
}

impl Faults<'_> {
    fn keep(&self, problem: &Problem) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < FILES_FAULTS_KEPT_MAX {
            kept.push(problem.to_string());
        }
    }
}

impl EventSink for Faults<'_> {
    fn event(&self, event: Event) {
        if let Event::Problem(problem) = &event {
            self.keep(problem);
        }
        self.inner.event(event);
    }

    fn wants_items(&self) -> bool {
        self.inner.wants_items()
    }
}

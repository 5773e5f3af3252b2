//! Captures a cluster whose data directory is at hand: backup mode, files, label, log and record, one snapshot last.
//! It must never write that snapshot before all that a recovery needs is stored, nor leave the server in backup mode.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use lifeboat_flow::{Cancel, Cancelled, Counters, EventSink, SourceError, Timestamp, chain};
use lifeboat_format::{Id, Node, Snapshot, SnapshotSummary};
use lifeboat_repo::{BlobReader, Index, Ingest, LockGuard, RepoError, Repository};
use lifeboat_state::VolumeError;
use lifeboat_state::postgres::client::{Address, Connection, PgError, Session};
use lifeboat_state::postgres::verify::{Baseline, EXACT_UP_TO_BYTES, measure};
use lifeboat_state::postgres::{
    BASE_DIR, BackupMode, BackupModeError, BaseBackupError, CONTROL_FILE, CaptureKind, Closing,
    ClosingError, ClusterState, ConfigRecord, ControlFileError, DataSource, ENGINE, Facts,
    FactsError, LABEL_FILE, MEMBER_FILE, MEMBER_VERSION, Member, MemberError, PhysicalCapture,
    SPACES_FILE, SpaceRecord, Tablespace, Timeline, chunk_bytes_for, read_control, tablespaces,
};

use super::gather::{Gather, Heard};
use super::parts::{member_of, subtree};
use crate::backup::{
    Backup, BackupOptions, ChangeRule, Parent, ProtectError, TreeOutcome, acknowledge,
};
use crate::fleet::Fleet;
use crate::graft::{Grafts, store};

/// A file that was touched so shortly before the last capture began is read again: clocks of file systems tick slowly.
const SETTLED_AFTER_SECONDS: i64 = 2;

/// What a capture is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureStage {
    /// The server writes what it holds in memory.
    Checkpoint,
    /// Files are read.
    Files,
    /// The log is taken along.
    Log,
}

/// A capture that runs once.
pub struct Capture<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// Its index, compared with the listing of packs.
    pub index: &'a RwLock<Index>,
    /// The lock; a dry run has none.
    pub lock: Option<&'a LockGuard>,
    /// The server.
    pub address: &'a Address,
    /// Its data directory, if it does not tell or is elsewhere from here.
    pub data: Option<&'a Path>,
    /// The app that it belongs to.
    pub app: &'a str,
    /// Its name in the app.
    pub member: &'a str,
    /// The fleet that it belongs to; a dry run may not know it.
    pub fleet: Option<&'a Fleet>,
    /// Bytes of a chunk, if not what fits, or what the capture before has.
    pub chunk_bytes: Option<usize>,
    /// The capture before.
    pub before: Option<(Id, &'a Snapshot)>,
    /// How to read and store.
    pub options: BackupOptions,
    /// Where progress is counted.
    pub counters: &'a Counters,
    /// Who is told of problems.
    pub events: &'a dyn EventSink,
    /// Who is told what is done now.
    pub stage: &'a (dyn Fn(CaptureStage) + Sync),
    /// The wish to stop.
    pub cancel: &'a Cancel,
}

/// What a capture did.
#[derive(Clone, Debug)]
pub struct CaptureOutcome {
    /// The snapshot; none for a dry run.
    pub snapshot: Option<Id>,
    /// Its tree; of a dry run, one that is not stored.
    pub tree: Id,
    /// The record.
    pub member: Member,
    /// What was done.
    pub summary: SnapshotSummary,
    /// Segments of the log in it.
    pub segments: u64,
}

/// A capture can't go on. Nothing is acknowledged, and the server is not in backup mode.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The server can't be reached.
    #[error("capture the cluster")]
    Connect(#[source] PgError),
    /// The server is none that can be captured.
    #[error("capture the cluster")]
    Facts(#[from] FactsError),
    /// The backup mode did not begin or end.
    #[error("capture the cluster")]
    Mode(#[from] BackupModeError),
    /// The server does not tell where its files are.
    #[error("the role {user} may not see where the data directory is, and nobody said it")]
    NoDataDirectory {
        /// Who asked.
        user: String,
    },
    /// The control file can't be had.
    #[error("look at the data directory")]
    Control(#[from] ControlFileError),
    /// The directory is of another cluster.
    #[error(
        "{} is the data directory of the cluster {found}, and the server is {expected}", .path.display()
    )]
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// The cluster of its control file.
        found: u64,
        /// The cluster that the server says it is.
        expected: u64,
    },
    /// The directory is of another server of the same cluster.
    #[error("{} is not the data directory of this server, but of a standby, a primary or a copy of it", .path.display())]
    OtherServer {
        /// The directory.
        path: PathBuf,
    },
    /// The server can't be captured over the replication protocol.
    #[error("capture the cluster")]
    Remote(#[from] BaseBackupError),
    /// The server can't be asked while it sends its files.
    #[error("capture the cluster")]
    Ask(#[source] PgError),
    /// Its name leads to several.
    #[error("two connections to {0} came to different servers")]
    TwoServers(String),
    /// What it sent is none of its files, or not all of them.
    #[error("the server sent {0}")]
    Sent(String),
    /// A file that it sent can't be believed.
    #[error("{path}, as the server sent it, can't be believed")]
    SentFile {
        /// The file.
        path: String,
        /// Why.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something changed that a capture can't follow.
    #[error("{0} during the capture")]
    Moved(&'static str),
    /// A directory can't be looked at.
    #[error("look at the data directory")]
    Volume(#[from] VolumeError),
    /// The directory can't be read as a whole.
    #[error("read the data directory")]
    Source(#[from] SourceError),
    /// Files can't be read: without them there is no recovery.
    #[error("{count} of the data directory can't be read, the first is {first}", count = things(*.count))]
    Unread {
        /// How many.
        count: u64,
        /// The first, and why.
        first: String,
    },
    /// What comes last can't be had.
    #[error("complete the capture")]
    Closing(#[from] ClosingError),
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

fn things(count: u64) -> String {
    match count {
        1 => "1 entry".to_owned(),
        count => format!("{count} entries"),
    }
}

impl From<Cancelled> for CaptureError {
    fn from(stop: Cancelled) -> Self {
        Self::Protect(stop.into())
    }
}

impl Capture<'_> {
    /// Runs it. `draft` is the snapshot with everything but time, parent, tree and summary; `now` tells the time here.
    ///
    /// # Errors
    /// When anything that a recovery needs can't be had. Damaged pages are told and are in the record: what is there is
    /// better than nothing.
    pub fn run(
        self,
        draft: Snapshot,
        now: impl Fn() -> Timestamp + Copy,
    ) -> Result<CaptureOutcome, CaptureError> {
        let started = now();
        let mut connection = Connection::open(self.address, Session::Queries, self.cancel)
            .map_err(CaptureError::Connect)?;
        let facts = Facts::ask(&mut connection, self.cancel)?;
        let data = self
            .data
            .map(Path::to_path_buf)
            .or_else(|| facts.data_directory());
        let data = data.ok_or_else(|| CaptureError::NoDataDirectory {
            user: self.address.user.clone(),
        })?;
        let data = std::fs::canonicalize(&data).map_err(|cause| VolumeError::Unreadable {
            path: data.clone(),
            cause,
        })?;
        let (control, _) = read_control(&data, self.cancel)?;
        if control.system_id != facts.system_id {
            return Err(CaptureError::OtherCluster {
                path: data,
                found: control.system_id,
                expected: facts.system_id,
            });
        }
        let other_server = || CaptureError::OtherServer { path: data.clone() };
        let follows = matches!(
            control.state,
            ClusterState::InArchiveRecovery | ClusterState::ShutDownInRecovery
        );
        if follows != facts.is_standby {
            return Err(other_server());
        }
        let before = self.before(control.system_id)?;
        let kept_bytes = before
            .as_ref()
            .and_then(|(member, _)| usize::try_from(member.postgres.chunk_bytes).ok());
        let measured = || {
            let source = DataSource::new(&data, facts.major(), &control, 0, self.cancel)?;
            Ok::<_, CaptureError>(chunk_bytes_for(source.largest_dir_bytes()?))
        };
        let chunk_bytes = match self.chunk_bytes.or(kept_bytes) {
            Some(bytes) => bytes,
            None => measured()?,
        };
        (self.stage)(CaptureStage::Checkpoint);
        let mut mode = BackupMode::start(connection, &facts, self.cancel)?;
        // The checkpoint that the backup begins with stands in its control file, and in nobody else's.
        let (control, _) = read_control(&data, self.cancel)?;
        if control.redo < mode.start {
            return Err(other_server());
        }
        if !mode.keeps_log {
            self.events.event(lifeboat_flow::Event::Note(
                "the server keeps no log for this capture (no right to make a replication slot, or no free one); if it removes some before the end, the capture fails".to_owned(),
            ));
        }
        (self.stage)(CaptureStage::Files);
        let source = DataSource::new(&data, facts.major(), &control, chunk_bytes, self.cancel)?;
        let gather = Gather::new(self.events);
        let base = self.base(&source, &gather, before.as_ref(), now)?;
        let Heard {
            faults,
            faults_count,
            unread,
            unread_count,
        } = gather.heard();
        if let Some(first) = unread {
            return Err(CaptureError::Unread {
                count: unread_count,
                first: first.to_string(),
            });
        }
        // A standby is ahead of what comes back, and so would its baseline be.
        let baseline = match facts.is_standby {
            true => None,
            false => self.baseline()?,
        };
        // After everything else: on a standby it says how far a recovery must go at least.
        let (control, control_content) = read_control(&data, self.cancel)?;
        let stopped = mode.stop(self.cancel)?;
        let stop = stopped.stop.max(control.minimum_recovery);
        let is_elsewhere =
            |timeline: Timeline| timeline.0 != 0 && timeline != stopped.label.timeline;
        if facts.is_standby && is_elsewhere(control.minimum_recovery_timeline) {
            return Err(CaptureError::Moved(
                "the standby went over to another timeline",
            ));
        }
        let spaces = tablespaces(&data).map_err(|cause| VolumeError::Unreadable {
            path: data.clone(),
            cause,
        })?;
        // The log has the paths of those that were made, and a recovery would make them there.
        let is_same = |spaces: &[Tablespace]| {
            let known = source.tablespaces();
            known.len() == spaces.len() && known.iter().all(|space| spaces.contains(space))
        };
        if !is_same(&spaces) {
            return Err(CaptureError::Moved("a tablespace was made or dropped"));
        }
        (self.stage)(CaptureStage::Log);
        let mut closing = Closing::new(&data, control.system_id, stopped.time)?;
        let segments = closing.add_wal(
            &data,
            stopped.label.timeline,
            stopped.label.start,
            stop,
            &control,
        )?;
        closing.add(CONTROL_FILE, control_content);
        closing.add(LABEL_FILE, stopped.label_text.clone().into_bytes());
        if !stopped.tablespace_map.is_empty() {
            closing.add(SPACES_FILE, stopped.tablespace_map.clone().into_bytes());
        }
        let config_files = self.config(&mut closing, &facts, &data);
        let member = Member {
            version: MEMBER_VERSION,
            app: self.app.to_owned(),
            member: self.member.to_owned(),
            fleet: self.fleet.map(|fleet| fleet.fleet.to_string()),
            instant: stopped.time,
            kind: CaptureKind::Physical,
            engine: ENGINE.to_owned(),
            engine_version: version_text(facts.version),
            files: base.summary.total_files_processed,
            bytes: base.summary.total_bytes_processed,
            faults,
            faults_count,
            postgres: PhysicalCapture {
                system_id: control.system_id.to_string(),
                timeline: stopped.label.timeline.0,
                start_lsn: stopped.label.start.to_string(),
                stop_lsn: stop.to_string(),
                started,
                standby: stopped.label.is_of_standby,
                segment_bytes: control.segment_bytes.get(),
                page_checksums: control.has_checksums,
                chunk_bytes: chunk_bytes as u64,
                data_directory: data.clone(),
                tablespaces: source
                    .tablespaces()
                    .into_iter()
                    .map(|space| SpaceRecord {
                        oid: space.oid,
                        location: space.location,
                    })
                    .collect(),
                config_files,
                superuser: facts.superuser.clone(),
                settings: facts.settings.clone(),
            },
            baseline,
        };
        closing.add(MEMBER_FILE, member.to_json()?);
        let gather = Gather::new(self.events);
        let rest = self
            .part(&closing, &gather, None, ChangeRule::default())
            .tree(now)?;
        // The server may let the log go from here on.
        drop(mode);
        if let Some(first) = gather.heard().unread {
            return Err(CaptureError::Unread {
                count: 1,
                first: first.to_string(),
            });
        }
        let tree = self.join(base.tree, rest.tree)?;
        let summary = sum(base.summary, &rest.summary);
        let snapshot = self.acknowledged(draft, stopped.time, tree, &summary)?;
        Ok(CaptureOutcome {
            snapshot,
            tree,
            member,
            summary,
            segments,
        })
    }

    /// Writes the snapshot, unless it is a dry run.
    pub(super) fn acknowledged(
        &self,
        draft: Snapshot,
        time: Timestamp,
        tree: Id,
        summary: &SnapshotSummary,
    ) -> Result<Option<Id>, CaptureError> {
        if self.options.ingest.dry_run {
            return Ok(None);
        }
        let snapshot = Snapshot {
            time,
            parent: self.before.map(|(id, _)| id),
            tree,
            summary: Some(summary.clone()),
            ..draft
        };
        let (index, lock) = (self.index, self.lock);
        Ok(Some(acknowledge(
            self.repository,
            index,
            lock,
            self.cancel,
            &snapshot,
        )?))
    }

    /// The record of the capture before, and the tree of its files. One that can't be read, or is of another cluster, only
    /// costs time.
    pub(super) fn before(&self, system_id: u64) -> Result<Option<(Member, Id)>, CaptureError> {
        let Some((_, snapshot)) = self.before else {
            return Ok(None);
        };
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let reader = BlobReader::new(self.repository, &index);
        let member = match member_of(&reader, snapshot.tree) {
            Ok(member) => member,
            Err(error) => {
                self.events.event(lifeboat_flow::Event::Note(format!(
                    "the capture before can't be used, all files are read: {}",
                    chain(&error)
                )));
                return Ok(None);
            }
        };
        if member.postgres.system_id != system_id.to_string() {
            return Ok(None);
        }
        let base = subtree(&reader, snapshot.tree, &[BASE_DIR])?;
        Ok(base.map(|base| (member, base)))
    }

    /// Stores the files of the data directory.
    fn base(
        &self,
        source: &DataSource,
        gather: &Gather<'_>,
        before: Option<&(Member, Id)>,
        now: impl Fn() -> Timestamp,
    ) -> Result<TreeOutcome, ProtectError> {
        let (parent, rule) = match before {
            None => (None, ChangeRule::default()),
            Some((member, base)) => {
                let started = member.postgres.started;
                let parent = Parent {
                    id: Id::default(),
                    tree: *base,
                    holds: None,
                };
                let rule = ChangeRule {
                    settled_before: Some(Timestamp {
                        seconds: started.seconds - SETTLED_AFTER_SECONDS,
                        ..started
                    }),
                    ..ChangeRule::default()
                };
                (Some(parent), rule)
            }
        };
        self.part(source, gather, parent, rule).tree(now)
    }

    fn part<'b>(
        &'b self,
        source: &'b dyn lifeboat_flow::Source,
        events: &'b dyn EventSink,
        parent: Option<Parent>,
        change_rule: ChangeRule,
    ) -> Backup<'b> {
        Backup {
            repository: self.repository,
            index: self.index,
            lock: self.lock,
            source,
            options: BackupOptions {
                parent,
                change_rule,
                ..self.options.clone()
            },
            counters: self.counters,
            events,
            cancel: self.cancel,
        }
    }

    /// What is in the cluster, before the capture ends: then all of it is in the capture. Without it less can be verified.
    pub(super) fn baseline(&self) -> Result<Option<Baseline>, CaptureError> {
        match measure(self.address, EXACT_UP_TO_BYTES, self.cancel) {
            Ok(baseline) => Ok(Some(baseline)),
            Err(PgError::Cancelled(stop)) => Err(stop.into()),
            Err(error) => {
                self.events.event(lifeboat_flow::Event::Note(format!(
                    "what is in the cluster could not be counted: {}",
                    chain(&error)
                )));
                Ok(None)
            }
        }
    }

    /// Takes configuration along that is not in the data directory. What can't be read is said, and is no obstacle.
    fn config(&self, closing: &mut Closing, facts: &Facts, data: &Path) -> Vec<ConfigRecord> {
        let mut records = Vec::new();
        // What a link in the data directory leads to is outside.
        let is_outside = |path: &&PathBuf| {
            std::fs::canonicalize(path).map_or(true, |real| !real.starts_with(data))
        };
        for path in facts.config_files.iter().filter(is_outside) {
            match closing.add_config(path) {
                Ok(stored) => records.push(ConfigRecord {
                    path: path.clone(),
                    stored,
                }),
                Err(cause) => self.events.event(lifeboat_flow::Event::Note(format!(
                    "the configuration {} is not in the capture: {cause}",
                    path.display()
                ))),
            }
        }
        records
    }

    /// Joins the files and what came last to the tree of the capture.
    fn join(&self, base: Id, rest: Id) -> Result<Id, ProtectError> {
        if self.options.ingest.dry_run {
            return Ok(rest);
        }
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let mut grafts = Grafts::new(BlobReader::new(self.repository, &index));
        let mut top = grafts.tree(rest)?;
        let mut take = |name: &str| {
            let at = top
                .nodes
                .iter()
                .position(|node| node.name == name.as_bytes());
            at.map(|at| top.nodes.remove(at))
        };
        let control: Vec<Node> = take(CONTROL_FILE).into_iter().collect();
        let labels: Vec<Node> = [take(LABEL_FILE), take(SPACES_FILE)]
            .into_iter()
            .flatten()
            .collect();
        let base = grafts.put(base, &[b"global"], control)?;
        let base = grafts.put(base, &[], labels)?;
        if let Some(node) = top
            .nodes
            .iter_mut()
            .find(|node| node.name == BASE_DIR.as_bytes())
        {
            node.subtree = Some(base);
        }
        let root = grafts.add(top)?;
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

/// 150018 as 15.18.
pub(super) fn version_text(version: u32) -> String {
    format!("{}.{}", version / 10_000, version % 10_000)
}

/// What two parts of a capture did.
pub(super) fn sum(mut all: SnapshotSummary, more: &SnapshotSummary) -> SnapshotSummary {
    all.backup_end = more.backup_end;
    all.files_new += more.files_new;
    all.dirs_new += more.dirs_new;
    all.data_blobs += more.data_blobs;
    all.tree_blobs += more.tree_blobs;
    all.data_added += more.data_added;
    all.data_added_packed += more.data_added_packed;
    all.total_files_processed += more.total_files_processed;
    all.total_bytes_processed += more.total_bytes_processed;
    all
}

//! Captures a cluster to which there is only a connection: its server sends files and log over the replication protocol.
//! It must never write the snapshot before all of the log has come, nor take what two servers say for one.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::Ordering;

use lifeboat_flow::{ChunkRule, EntryPath, Event, EventSink, Problem, Timestamp, chain};
use lifeboat_format::{Snapshot, SnapshotSummary};
use lifeboat_repo::IngestStats;
use lifeboat_state::postgres::client::{Connection, Session};
use lifeboat_state::postgres::verify::Baseline;
use lifeboat_state::postgres::{
    BASE_DIR, BaseBackup, BaseBackupError, CaptureKind, ClosingError, Companion, ConfigRecord,
    ENGINE, Facts, Lsn, MEMBER_FILE, MEMBER_VERSION, Member, OLDEST_REMOTE_VERSION,
    PhysicalCapture, SpaceRecord, Timeline, chunk_bytes_for, config_name, identify, keep_log,
};

use super::capture::{Capture, CaptureError, CaptureOutcome, CaptureStage, version_text};
use super::gather::{Gather, Heard};
use super::reception::Received;
use crate::backup::VERIFYING;
use crate::grown_tree::{GrownMeta, GrownTree};
use crate::intake::Intake;

/// Permissions of what we make.
const FILE_MODE: u32 = 0o600;

/// A server that sends its files, and what was asked before.
struct Sending<'c> {
    started: Timestamp,
    facts: Facts,
    beside: Companion<'c>,
    backup: BaseBackup,
    chunk_bytes: usize,
    /// What was in it before.
    earlier: Option<Baseline>,
}

/// What a capture says of itself, when all of it was taken in.
struct Taken {
    member: Member,
    segments: u64,
    files: u64,
    dirs: u64,
    bytes: u64,
}

impl Capture<'_> {
    /// Runs it over the replication protocol. `draft` and `now` are those of [`run`](Capture::run).
    ///
    /// # Errors
    /// When anything that a recovery needs can't be had. Damaged pages are told and are in the record: what is there is
    /// better than nothing.
    pub fn run_remote(
        self,
        draft: Snapshot,
        now: impl Fn() -> Timestamp,
    ) -> Result<CaptureOutcome, CaptureError> {
        let mut sending = self.begin(now())?;
        let taken = Intake::run(
            self.repository,
            self.index,
            self.lock,
            &self.options,
            self.counters,
            |intake| self.take_in(&mut sending, intake),
        )?;
        let value = &taken.value;
        let summary = summary(sending.started, now(), value, &taken.stored);
        let snapshot = self.acknowledged(draft, value.member.instant, taken.tree, &summary)?;
        Ok(CaptureOutcome {
            snapshot,
            tree: taken.tree,
            segments: value.segments,
            member: taken.value.member,
            summary,
        })
    }

    /// Asks the server what is to be known before, and lets it begin.
    fn begin(&self, started: Timestamp) -> Result<Sending<'_>, CaptureError> {
        let cancel = self.cancel;
        let mut connection = Connection::open(self.address, Session::Queries, cancel)
            .map_err(CaptureError::Connect)?;
        let facts = Facts::ask(&mut connection, cancel)?;
        if facts.version < OLDEST_REMOTE_VERSION {
            return Err(BaseBackupError::TooOld(facts.major()).into());
        }
        let mut beside =
            Companion::new(connection, facts.is_standby, cancel).map_err(CaptureError::Ask)?;
        let before = self.before(facts.system_id)?;
        let kept = before.and_then(|(member, _)| member.postgres.chunk_bytes.try_into().ok());
        let chunk_bytes = match self.chunk_bytes.or(kept) {
            Some(bytes) => bytes,
            None => chunk_bytes_for(beside.largest_database_bytes().map_err(CaptureError::Ask)?),
        };
        // A standby is ahead of what comes back, and so would its baseline be.
        let earlier = match facts.is_standby {
            true => None,
            false => self.baseline()?,
        };
        let session = self.replication(&facts, &mut beside)?;
        (self.stage)(CaptureStage::Checkpoint);
        let backup = BaseBackup::start(session, self.options.scan, cancel)?;
        (self.stage)(CaptureStage::Files);
        if self.options.scan {
            let total = &self.counters.bytes_total;
            total.store(backup.estimate_bytes, Ordering::Relaxed);
        }
        Ok(Sending {
            started,
            facts,
            beside,
            backup,
            chunk_bytes,
            earlier,
        })
    }

    /// Takes in what the server sends, and what else belongs to the capture; the record comes last.
    fn take_in(
        &self,
        sending: &mut Sending<'_>,
        intake: &Intake<'_>,
    ) -> Result<(GrownTree, Taken), CaptureError> {
        let Sending {
            started,
            facts,
            beside,
            backup,
            chunk_bytes,
            earlier,
        } = sending;
        let rule = ChunkRule::Aligned {
            bytes: *chunk_bytes,
        };
        let mut received = self.receive(backup, intake, beside, facts, rule)?;
        let stop = self.check(&received, backup, beside, facts)?;
        let (start, size) = (received.label.start, received.control.segment_bytes);
        let segments = received.log.check(start, stop, size);
        let segments = segments.map_err(ClosingError::from)?;
        let heard = self.faults(&mut received, backup);
        // When the backup ended was for the server to say: what was there before and after was there then.
        let baseline = match earlier.take() {
            None => None,
            Some(earlier) => self.baseline()?.map(|later| earlier.lasting(&later)),
        };
        let ours = GrownMeta {
            permissions: FILE_MODE,
            modified: received.moment.time,
            ..received.owner
        };
        let config_files = self.sent_config(intake, &mut received, beside, facts, ours)?;
        let (label, control) = (&received.label, &received.control);
        let spaces = backup.spaces.iter().map(|space| SpaceRecord {
            oid: space.oid,
            location: space.location.clone(),
        });
        let member = Member {
            version: MEMBER_VERSION,
            app: self.app.to_owned(),
            member: self.member.to_owned(),
            fleet: self.fleet.map(|fleet| fleet.fleet.to_string()),
            instant: received.moment.time,
            kind: CaptureKind::Physical,
            engine: ENGINE.to_owned(),
            engine_version: version_text(facts.version),
            files: received.files,
            bytes: received.bytes,
            faults: heard.faults,
            faults_count: heard.faults_count,
            postgres: PhysicalCapture {
                system_id: facts.system_id.to_string(),
                superuser: facts.superuser.clone(),
                timeline: label.timeline.0,
                start_lsn: label.start.to_string(),
                stop_lsn: stop.to_string(),
                started: *started,
                standby: label.is_of_standby,
                segment_bytes: control.segment_bytes.get(),
                page_checksums: control.has_checksums,
                chunk_bytes: *chunk_bytes as u64,
                data_directory: facts.data_directory().unwrap_or_default(),
                tablespaces: spaces.collect(),
                config_files,
                settings: facts.settings.clone(),
            },
            baseline,
        };
        let record = intake.bytes(&member.to_json()?)?;
        let mut grown = received.grown;
        grown.put_file(&EntryPath(MEMBER_FILE.into()), ours, record)?;
        let taken = Taken {
            member,
            segments,
            files: grown.files,
            dirs: grown.dirs,
            bytes: grown.bytes,
        };
        Ok((grown, taken))
    }

    /// Tells of the pages that the server found damaged.
    fn faults(&self, received: &mut Received, backup: &BaseBackup) -> Heard {
        let gather = Gather::new(self.events);
        let report = std::mem::take(&mut received.report);
        let faults = match received.end.is_damaged {
            true => report.faults(&backup.spaces, received.control.file_pages),
            false => Vec::new(),
        };
        for fault in faults {
            let problem = Problem {
                path: fault.path.display(),
                doing: VERIFYING.into(),
                why: fault.why,
            };
            let path = EntryPath(BASE_DIR.into()).join(&fault.path.0);
            received.grown.note_error(path, &problem.why);
            self.counters.problems.fetch_add(1, Ordering::Relaxed);
            gather.event(Event::Problem(problem));
        }
        gather.heard()
    }

    /// A session of the replication protocol with the same server, which keeps its log from now on if it can.
    fn replication(
        &self,
        facts: &Facts,
        beside: &mut Companion<'_>,
    ) -> Result<Connection, CaptureError> {
        let session = Connection::open(self.address, Session::Replication, self.cancel);
        let mut session = session.map_err(BaseBackupError::Session)?;
        let two_servers = || CaptureError::TwoServers(self.address.to_string());
        let identity = identify(&mut session, self.cancel).map_err(BaseBackupError::Session)?;
        if identity.system_id != facts.system_id {
            return Err(two_servers());
        }
        let slot = beside.slot_name().map_err(CaptureError::Ask)?;
        if !keep_log(&mut session, &slot, self.cancel)? {
            self.note("the server keeps no log for this capture (there is no free replication slot); if it removes some before the end, the capture fails".into());
        } else if !beside.has_slot(&slot).map_err(CaptureError::Ask)? {
            // A primary and its standbys are one cluster, and only one of them has it.
            return Err(two_servers());
        }
        Ok(session)
    }

    /// Whether what came is of this server and of one state of it, and the position that a recovery must reach.
    fn check(
        &self,
        received: &Received,
        backup: &BaseBackup,
        beside: &mut Companion<'_>,
        facts: &Facts,
    ) -> Result<Lsn, CaptureError> {
        let Received {
            label,
            control,
            end,
            ..
        } = received;
        if control.system_id != facts.system_id || label.is_of_standby != facts.is_standby {
            return Err(CaptureError::TwoServers(self.address.to_string()));
        }
        if label.start != backup.start {
            return Err(CaptureError::Sent("the label of another backup".into()));
        }
        let is_elsewhere = |timeline: Timeline| timeline.0 != 0 && timeline != label.timeline;
        let recovered = control.minimum_recovery_timeline;
        if is_elsewhere(end.timeline)
            || is_elsewhere(backup.timeline)
            || label.is_of_standby && is_elsewhere(recovered)
        {
            return Err(CaptureError::Moved(
                "the server went over to another timeline",
            ));
        }
        // The log has the paths of those that were made, and a recovery would make them there.
        let known: BTreeSet<u32> = backup.spaces.iter().map(|space| space.oid).collect();
        if beside.tablespaces().map_err(CaptureError::Ask)? != known {
            return Err(CaptureError::Moved("a tablespace was made or dropped"));
        }
        Ok(end.stop.max(control.minimum_recovery))
    }

    /// Takes configuration along that did not come with the data directory. What can't be read is said, and is no obstacle.
    fn sent_config(
        &self,
        intake: &Intake<'_>,
        received: &mut Received,
        beside: &mut Companion<'_>,
        facts: &Facts,
        meta: GrownMeta,
    ) -> Result<Vec<ConfigRecord>, CaptureError> {
        let data = facts.data_directory().unwrap_or_default();
        let base = EntryPath(BASE_DIR.into());
        let mut records: Vec<ConfigRecord> = Vec::new();
        for path in &facts.config_files {
            let inside = path.strip_prefix(&data).ok().and_then(Path::to_str);
            if inside.is_some_and(|inside| received.grown.has_file(&base.join(inside.as_bytes()))) {
                continue;
            }
            let why = match beside.config_file(path) {
                Ok(Some(content)) => {
                    let stored = config_name(path, |stored| {
                        records.iter().all(|record| record.stored != stored)
                    });
                    let at = EntryPath(stored.clone().into_bytes());
                    received
                        .grown
                        .put_file(&at, meta, intake.bytes(&content)?)?;
                    records.push(ConfigRecord {
                        path: path.clone(),
                        stored,
                    });
                    continue;
                }
                Ok(None) => "it is not there".to_owned(),
                Err(error) => chain(&error),
            };
            self.note(format!(
                "the configuration {} is not in the capture: {why}",
                path.display()
            ));
        }
        Ok(records)
    }

    pub(super) fn note(&self, text: String) {
        self.events.event(Event::Note(text));
    }
}

/// What was done. All files came, and were read.
fn summary(
    started: Timestamp,
    ended: Timestamp,
    taken: &Taken,
    stored: &IngestStats,
) -> SnapshotSummary {
    SnapshotSummary {
        backup_start: Some(started),
        backup_end: Some(ended),
        files_new: taken.files,
        files_changed: 0,
        files_unmodified: 0,
        dirs_new: taken.dirs,
        dirs_changed: 0,
        dirs_unmodified: 0,
        data_blobs: i64::try_from(stored.data_blobs).unwrap_or(i64::MAX),
        tree_blobs: i64::try_from(stored.tree_blobs).unwrap_or(i64::MAX),
        data_added: stored.plain_bytes,
        data_added_packed: stored.stored_bytes,
        total_files_processed: taken.files,
        total_bytes_processed: taken.bytes,
    }
}

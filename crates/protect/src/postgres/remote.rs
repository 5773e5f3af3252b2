//! Captures a cluster to which there is only a connection: its server sends files and log over the replication protocol.
//! It must never write the snapshot before all of the log has come, nor take what two servers say for one.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::Ordering;

use lifeboat_flow::{ChunkRule, EntryPath, Event, Problem, Timestamp, chain};
use lifeboat_format::{Snapshot, SnapshotSummary};
use lifeboat_repo::IngestStats;
use lifeboat_state::postgres::client::{Connection, Session};
use lifeboat_state::postgres::{
    Arrival, BASE_DIR, BackupLabel, BaseBackup, BaseBackupEnd, BaseBackupError, CONFIG_DIR,
    CONTROL_FILE, CaptureKind, ChecksumReport, ClosingError, Companion, ConfigRecord, Control,
    ENGINE, Facts, Fate, LABEL_FILE, MEMBER_FILE, MEMBER_VERSION, Member, Moment,
    OLDEST_REMOTE_VERSION, PhysicalCapture, SPACES_FILE, SentLog, SpaceRecord, Timeline, WAL_DIR,
    WalHeader, WalName, chunk_bytes_for, fate, has_checksums, identify, keep_log,
};

use super::capture::{Capture, CaptureError, CaptureOutcome, CaptureStage, version_text};
use super::gather::Gather;
use crate::backup::VERIFYING;
use crate::grown_tree::{GrownMeta, GrownTree};
use crate::intake::{Intake, TakenFile};

/// Where the control file is below the data directory.
const CONTROL_PATH: &str = "global/pg_control";
/// The longest of the files that are read here, in bytes: the label, the control file and the map of tablespaces.
const READ_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Permissions of what we make.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// What came, and what was read of it.
struct Received {
    grown: GrownTree,
    /// Files of the data directory that came as they are, and their bytes.
    files: u64,
    bytes: u64,
    label: BackupLabel,
    control: Control,
    end: BaseBackupEnd,
    log: SentLog,
    report: ChecksumReport,
    /// Who owns the data directory.
    owner: GrownMeta,
    moment: Moment,
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
        let started = now();
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
        let mut backup = BaseBackup::start(session, self.options.scan, cancel)?;
        (self.stage)(CaptureStage::Files);
        if self.options.scan {
            let total = &self.counters.bytes_total;
            total.store(backup.estimate_bytes, Ordering::Relaxed);
        }
        let gather = Gather::new(self.events);
        let taken = Intake::run(
            self.repository,
            self.index,
            self.lock,
            &self.options,
            self.counters,
            |intake| {
                let rule = ChunkRule::Aligned { bytes: chunk_bytes };
                let mut received = self.receive(&mut backup, intake, &mut beside, &facts, rule)?;
                let stop = self.check(&received, &backup, &mut beside, &facts)?;
                let segments = received
                    .log
                    .check(received.label.start, stop, received.control.segment_bytes)
                    .map_err(ClosingError::from)?;
                if received.end.is_damaged {
                    let report = std::mem::take(&mut received.report);
                    for fault in report.faults(&backup.spaces, received.control.file_pages) {
                        let problem = Problem {
                            path: fault.path.display(),
                            doing: VERIFYING.into(),
                            why: fault.why,
                        };
                        let path = EntryPath(BASE_DIR.into()).join(&fault.path.0);
                        received.grown.note_error(path, &problem.why);
                        self.counters.problems.fetch_add(1, Ordering::Relaxed);
                        lifeboat_flow::EventSink::event(&gather, Event::Problem(problem));
                    }
                }
                // When the backup ended was for the server to say: what was there before and after was there then.
                let baseline = match earlier {
                    None => None,
                    Some(earlier) => self.baseline()?.map(|later| earlier.lasting(&later)),
                };
                let heard = gather.heard();
                let instant = received.moment.time;
                let ours = GrownMeta {
                    permissions: FILE_MODE,
                    modified: instant,
                    ..received.owner
                };
                let config_files =
                    self.sent_config(intake, &mut received, &mut beside, &facts, ours)?;
                let (label, control) = (&received.label, &received.control);
                let member = Member {
                    version: MEMBER_VERSION,
                    app: self.app.to_owned(),
                    member: self.member.to_owned(),
                    fleet: None,
                    instant,
                    kind: CaptureKind::Physical,
                    engine: ENGINE.to_owned(),
                    engine_version: version_text(facts.version),
                    files: received.files,
                    bytes: received.bytes,
                    faults: heard.faults,
                    faults_count: heard.faults_count,
                    postgres: PhysicalCapture {
                        system_id: facts.system_id.to_string(),
                        timeline: label.timeline.0,
                        start_lsn: label.start.to_string(),
                        stop_lsn: stop.to_string(),
                        started,
                        standby: label.is_of_standby,
                        segment_bytes: control.segment_bytes.get(),
                        page_checksums: control.has_checksums,
                        chunk_bytes: chunk_bytes as u64,
                        data_directory: facts.data_directory().unwrap_or_default(),
                        tablespaces: backup
                            .spaces
                            .iter()
                            .map(|space| SpaceRecord {
                                oid: space.oid,
                                location: space.location.clone(),
                            })
                            .collect(),
                        config_files,
                        settings: facts.settings.clone(),
                    },
                    baseline,
                };
                let record = intake.bytes(&member.to_json()?)?;
                let mut grown = received.grown;
                grown.put_file(&EntryPath(MEMBER_FILE.into()), ours, record)?;
                let read = (grown.files, grown.dirs, grown.bytes);
                Ok::<_, CaptureError>((grown, (member, segments, read)))
            },
        )?;
        let (member, segments, read) = taken.value;
        let summary = summary(started, now(), read, &taken.stored);
        let snapshot = self.acknowledged(draft, member.instant, taken.tree, &summary)?;
        Ok(CaptureOutcome {
            snapshot,
            member,
            summary,
            segments,
        })
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
        if identify(&mut session, self.cancel)?.system_id != facts.system_id {
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

    /// Takes in all that the server sends.
    fn receive(
        &self,
        backup: &mut BaseBackup,
        intake: &Intake<'_>,
        beside: &mut Companion<'_>,
        facts: &Facts,
        rule: ChunkRule,
    ) -> Result<Received, CaptureError> {
        let mut moment = beside.moment().map_err(CaptureError::Ask)?;
        let mut ended = None;
        let (mut label, mut control, mut owner) = (None, None, None);
        let mut log = SentLog::new(facts.system_id, backup.timeline);
        let (mut grown, mut report) = (GrownTree::default(), ChecksumReport::default());
        let base = EntryPath(BASE_DIR.into());
        let (mut files, mut bytes) = (0, 0);
        while let Some(arrival) = backup.arrival()? {
            let path = base.join(&arrival.path.0);
            let meta = meta_of(&arrival);
            let Some(size_bytes) = arrival.size_bytes else {
                if fate(&arrival.path.0, |_| false) != Fate::Leave {
                    grown.put_dir(&path, meta)?;
                }
                continue;
            };
            match arrival.path.0.as_slice() {
                b"backup_label" => {
                    let content = read(backup, &arrival)?;
                    let text = String::from_utf8_lossy(&content);
                    let parsed = BackupLabel::parse(&text);
                    label = Some(parsed.map_err(|cause| believed(&arrival, cause))?);
                    // The server makes it as it makes its own files.
                    owner = Some(meta);
                    grown.put_file(
                        &base.join(LABEL_FILE.as_bytes()),
                        meta,
                        intake.bytes(&content)?,
                    )?;
                }
                b"tablespace_map" => {
                    let content = read(backup, &arrival)?;
                    // Without tablespaces there is nothing in it.
                    if !content.is_empty() {
                        let path = base.join(SPACES_FILE.as_bytes());
                        grown.put_file(&path, meta, intake.bytes(&content)?)?;
                    }
                }
                name if name == CONTROL_PATH.as_bytes() => {
                    let content = read(backup, &arrival)?;
                    let parsed = Control::parse(&content);
                    control = Some(parsed.map_err(|cause| believed(&arrival, cause))?);
                    grown.put_file(&path, meta, intake.bytes(&content)?)?;
                }
                name => {
                    if let Some(name) = log.wanted(name) {
                        // The log comes when the backup has ended, and not before.
                        if ended.is_none() {
                            ended = Some(beside.moment().map_err(CaptureError::Ask)?);
                            (self.stage)(CaptureStage::Log);
                        }
                        let file = take_log(backup, intake, &mut log, name, &arrival)?;
                        let path = EntryPath(WAL_DIR.into()).join(name.to_string().as_bytes());
                        grown.put_file(&path, meta, file)?;
                    } else if fate(name, |_| false) == Fate::Keep {
                        // The content of unlogged relations is left out by the server.
                        let rule = match has_checksums(name) {
                            Some(_) => rule,
                            None => ChunkRule::Restic,
                        };
                        let mut file = intake.file(rule, size_bytes);
                        while let Some(piece) = backup.content()? {
                            file.write(piece)?;
                        }
                        grown.put_file(&path, meta, file.finish()?)?;
                        files += 1;
                        bytes += size_bytes;
                    }
                }
            }
            self.hear(backup, &mut report);
        }
        let end = backup.finish()?;
        self.hear(backup, &mut report);
        let lacks = |what: &str| CaptureError::Sent(format!("no {what}"));
        if let Some(later) = ended {
            // What a standby says may already be of a checkpoint behind the end.
            if later.checkpoint.is_none_or(|at| at <= end.stop) {
                moment = later;
            }
        }
        let owner = GrownMeta {
            permissions: DIR_MODE,
            modified: moment.time,
            ..owner.ok_or_else(|| lacks(LABEL_FILE))?
        };
        grown.put_dir(&base, owner)?;
        Ok(Received {
            grown,
            files,
            bytes,
            label: label.ok_or_else(|| lacks(LABEL_FILE))?,
            control: control.ok_or_else(|| lacks(CONTROL_FILE))?,
            end,
            log,
            report,
            owner,
            moment,
        })
    }

    /// Whether what came is of this server and of one state of it, and the position that a recovery must reach.
    fn check(
        &self,
        received: &Received,
        backup: &BaseBackup,
        beside: &mut Companion<'_>,
        facts: &Facts,
    ) -> Result<lifeboat_state::postgres::Lsn, CaptureError> {
        let Received {
            label,
            control,
            end,
            ..
        } = received;
        if control.system_id != facts.system_id || label.is_of_standby != facts.is_standby {
            return Err(CaptureError::TwoServers(self.address.to_string()));
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
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    let stored = free_name(&name, &records);
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

    /// Takes what the server says beside its files; what is not of pages is passed on.
    fn hear(&self, backup: &mut BaseBackup, report: &mut ChecksumReport) {
        for notice in backup.take_notices() {
            if !report.hear(&notice) {
                self.note(format!("the server says: {notice}"));
            }
        }
    }

    fn note(&self, text: String) {
        self.events.event(Event::Note(text));
    }
}

/// Takes a file of the log in, when it is the one that its name says.
fn take_log(
    backup: &mut BaseBackup,
    intake: &Intake<'_>,
    log: &mut SentLog,
    name: WalName,
    arrival: &Arrival,
) -> Result<TakenFile, CaptureError> {
    let mut file = intake.file(ChunkRule::Restic, arrival.size_bytes.unwrap_or(0));
    let mut beginning = Vec::new();
    while let Some(piece) = backup.content()? {
        let lacks = WalHeader::BYTES.saturating_sub(beginning.len());
        beginning.extend(piece.iter().take(lacks));
        file.write(piece)?;
    }
    let file = file.finish()?;
    log.take(name, &beginning, file.size_bytes)
        .map_err(|cause| believed(arrival, cause))?;
    Ok(file)
}

/// The content of a small file.
fn read(backup: &mut BaseBackup, arrival: &Arrival) -> Result<Vec<u8>, CaptureError> {
    if arrival.size_bytes.is_none_or(|size| size > READ_MAX_BYTES) {
        let path = arrival.path.display();
        return Err(CaptureError::Sent(format!(
            "{path} of more than {READ_MAX_BYTES} bytes"
        )));
    }
    let mut content = Vec::new();
    while let Some(piece) = backup.content()? {
        content.extend_from_slice(piece);
    }
    Ok(content)
}

fn believed(
    arrival: &Arrival,
    cause: impl std::error::Error + Send + Sync + 'static,
) -> CaptureError {
    CaptureError::SentFile {
        path: arrival.path.display(),
        cause: Box::new(cause),
    }
}

fn meta_of(arrival: &Arrival) -> GrownMeta {
    GrownMeta {
        permissions: arrival.permissions,
        uid: arrival.uid,
        gid: arrival.gid,
        modified: Timestamp::utc(arrival.modified_seconds, 0),
    }
}

/// Where a file of configuration goes: several may have one name.
fn free_name(name: &str, records: &[ConfigRecord]) -> String {
    let path = |number: usize| match number {
        0 => format!("{CONFIG_DIR}/{name}"),
        number => format!("{CONFIG_DIR}/{number}-{name}"),
    };
    let is_free = |path: &String| records.iter().all(|record| record.stored != *path);
    (0..).map(path).find(is_free).unwrap_or_default()
}

/// What was done. All files came, and were read.
fn summary(
    started: Timestamp,
    ended: Timestamp,
    (files, dirs, bytes): (u64, u64, u64),
    stored: &IngestStats,
) -> SnapshotSummary {
    SnapshotSummary {
        backup_start: Some(started),
        backup_end: Some(ended),
        files_new: files,
        files_changed: 0,
        files_unmodified: 0,
        dirs_new: dirs,
        dirs_changed: 0,
        dirs_unmodified: 0,
        data_blobs: i64::try_from(stored.data_blobs).unwrap_or(i64::MAX),
        tree_blobs: i64::try_from(stored.tree_blobs).unwrap_or(i64::MAX),
        data_added: stored.plain_bytes,
        data_added_packed: stored.stored_bytes,
        total_files_processed: files,
        total_bytes_processed: bytes,
    }
}

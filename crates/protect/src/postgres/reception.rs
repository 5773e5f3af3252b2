//! What a server sends of a base backup, taken in as it comes: files, the log behind them, and what the server says meanwhile.
//! It must never take a file in that does not belong into a capture, nor date it before its end.

use lifeboat_flow::{ChunkRule, EntryPath, Timestamp};
use lifeboat_state::postgres::{
    Arrival, BASE_DIR, BackupLabel, BaseBackup, BaseBackupEnd, CONTROL_FILE, ChecksumReport,
    Companion, Control, Facts, Fate, LABEL_FILE, Moment, SPACES_FILE, SentLog, WAL_DIR, WalHeader,
    WalName, fate, has_checksums,
};

use super::capture::{Capture, CaptureError, CaptureStage};
use crate::grown_tree::{GrownMeta, GrownTree};
use crate::intake::{Intake, TakenFile};

/// Where the control file is below the data directory.
const CONTROL_PATH: &[u8] = b"global/pg_control";
/// The longest of the files that are read here, in bytes: the label, the control file and the map of tablespaces.
const READ_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Permissions of the data directory.
const DIR_MODE: u32 = 0o700;

/// What came, and what was read of it.
pub(super) struct Received {
    pub(super) grown: GrownTree,
    /// Files of the data directory that came as they are, and their bytes.
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) label: BackupLabel,
    pub(super) control: Control,
    pub(super) end: BaseBackupEnd,
    pub(super) log: SentLog,
    pub(super) report: ChecksumReport,
    /// Who owns the data directory.
    pub(super) owner: GrownMeta,
    pub(super) moment: Moment,
}

impl Capture<'_> {
    /// Takes in all that the server sends.
    pub(super) fn receive(
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
                CONTROL_PATH => {
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

    /// Takes what the server says beside its files; what is not of pages is passed on.
    fn hear(&self, backup: &mut BaseBackup, report: &mut ChecksumReport) {
        for notice in backup.take_notices() {
            if !report.hear(&notice) {
                self.note(format!("the server says: {notice}"));
            }
        }
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

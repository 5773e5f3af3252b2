//! The label of a base backup, which the server gives when it ends: from where a recovery of it must read the log.
//! It must never be put into a live data directory: a server that starts there would go back to that position.

use super::lsn::{Lsn, Timeline};
use super::wal_name::{SegmentName, WalName};

/// What `backup_label` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupLabel {
    /// The position that a recovery begins at.
    pub start: Lsn,
    /// The segment that holds it.
    pub segment: SegmentName,
    /// The timeline it is on.
    pub timeline: Timeline,
    /// The checkpoint of the backup.
    pub checkpoint: Lsn,
    /// Whether a standby was read.
    pub is_of_standby: bool,
}

/// It is no label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the backup label has no {0} that can be read")]
pub struct LabelError(pub &'static str);

impl BackupLabel {
    /// Reads the text that `pg_backup_stop` gives (PostgreSQL manual, "Making a Base Backup Using the Low Level API").
    ///
    /// # Errors
    /// When one of its lines is missing.
    pub fn parse(text: &str) -> Result<Self, LabelError> {
        let value = |key: &'static str| {
            let lines = text.lines();
            let mut values = lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
            values.next().ok_or(LabelError(key))
        };
        // "0/2000028 (file 000000010000000000000002)"
        let key = "START WAL LOCATION";
        let (start, file) = value(key)?.split_once(" (file ").ok_or(LabelError(key))?;
        let segment = match file.strip_suffix(')').and_then(|name| name.parse().ok()) {
            Some(WalName::Segment(segment)) => segment,
            _ => return Err(LabelError(key)),
        };
        let checkpoint = "CHECKPOINT LOCATION";
        // Servers before 11 do not tell the timeline by itself.
        let timeline = match value("START TIMELINE") {
            Ok(text) => text
                .parse()
                .map(Timeline)
                .map_err(|_| LabelError("START TIMELINE"))?,
            Err(_) => segment.timeline,
        };
        Ok(Self {
            start: start.parse().map_err(|_| LabelError(key))?,
            segment,
            timeline,
            checkpoint: value(checkpoint)?
                .parse()
                .map_err(|_| LabelError(checkpoint))?,
            is_of_standby: value("BACKUP FROM")? == "standby",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n\
        CHECKPOINT LOCATION: 0/2000060\n\
        BACKUP METHOD: streamed\n\
        BACKUP FROM: primary\n\
        START TIME: 2026-11-21 10:00:00 UTC\n\
        LABEL: a: b\n\
        START TIMELINE: 1\n";

    #[test]
    fn a_label_says_from_where_to_recover() {
        let label = BackupLabel::parse(TEXT).expect("a label");
        assert_eq!(label.start, Lsn(0x200_0028));
        assert_eq!(label.segment.to_string(), "000000010000000000000002");
        assert_eq!(label.checkpoint, Lsn(0x200_0060));
        assert_eq!((label.timeline, label.is_of_standby), (Timeline(1), false));
        let standby = BackupLabel::parse(&TEXT.replace("primary", "standby"));
        assert!(standby.expect("a label").is_of_standby);
    }

    #[test]
    fn a_line_that_is_missing_or_wrong_is_named() {
        for (from, to, key) in [
            ("START WAL", "STOP WAL", "START WAL LOCATION"),
            ("02)", "0G)", "START WAL LOCATION"),
            ("0/2000028", "x", "START WAL LOCATION"),
            ("0/2000060", "", "CHECKPOINT LOCATION"),
            ("TIMELINE: 1", "TIMELINE: one", "START TIMELINE"),
            ("BACKUP FROM", "BACKUP", "BACKUP FROM"),
        ] {
            let text = TEXT.replace(from, to);
            assert_eq!(BackupLabel::parse(&text), Err(LabelError(key)), "{text}");
        }
    }
}

//! What a server is told about a recovery: from where it takes the log, up to where it replays, and what it does then.
//! It must never write a value into a configuration file as it came: a quote in it would begin another setting.

use jiff::Timestamp;

use super::lsn::{Lsn, Timeline};

/// The empty file in a data directory that begins a recovery from an archive (PostgreSQL manual, "Archive Recovery").
pub const RECOVERY_SIGNAL: &str = "recovery.signal";
/// What fetches nothing: a server asks for a `restore_command` even if all of the log lies in `pg_wal`. Its status says that
/// there is no more.
const NO_ARCHIVE: &str = "exit 1";

/// A recovery: a new timeline begins when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Up to where.
    pub target: RecoveryTarget,
    /// Whether the record, instant or transaction of the target is replayed too.
    pub is_inclusive: bool,
    /// On which timeline.
    pub timeline: RecoveryTimeline,
    /// What happens at the target.
    pub action: Action,
    /// The command that fetches a file of the archive; without one the log in `pg_wal` is all there is.
    pub restore_command: Option<String>,
}

/// Up to where the log is replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveryTarget {
    /// All of it. A server takes the end of what it finds for the end of all: the position it came to must be compared.
    Latest,
    /// Only until the backup is consistent.
    Immediate,
    /// Up to an instant; what is finer than a microsecond is cut off.
    Time(Timestamp),
    /// Up to a position.
    Lsn(Lsn),
    /// Up to a restore point that somebody named.
    Name(String),
    /// Up to a transaction.
    Xid(u64),
}

/// Which timeline is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveryTimeline {
    /// The newest that the archive knows.
    Latest,
    /// That of the backup.
    Current,
    /// This one.
    Numbered(Timeline),
}

/// What the server does when it has come to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It becomes a primary.
    Promote,
    /// It waits, and can be looked at.
    Pause,
    /// It stops.
    Shutdown,
}

/// A value that no configuration file can hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the setting {0} can't hold a zero byte")]
pub struct SettingError(pub &'static str);

impl Recovery {
    /// Everything that there is, from `pg_wal` alone.
    #[must_use]
    pub fn to_the_end() -> Self {
        Self {
            target: RecoveryTarget::Latest,
            is_inclusive: true,
            timeline: RecoveryTimeline::Latest,
            action: Action::Promote,
            restore_command: None,
        }
    }

    /// The lines for `postgresql.conf`; beside them the server needs [`RECOVERY_SIGNAL`] (PostgreSQL manual, "Recovery
    /// Target"). A server that finds another target elsewhere refuses to start.
    ///
    /// # Errors
    /// When a text has a zero byte.
    pub fn settings(&self) -> Result<String, SettingError> {
        let command = self.restore_command.as_deref().unwrap_or(NO_ARCHIVE);
        let target = match &self.target {
            RecoveryTarget::Latest => None,
            RecoveryTarget::Immediate => Some(("recovery_target", "immediate".to_owned())),
            RecoveryTarget::Time(instant) => Some(("recovery_target_time", time(*instant))),
            RecoveryTarget::Lsn(position) => Some(("recovery_target_lsn", position.to_string())),
            RecoveryTarget::Name(name) => Some(("recovery_target_name", name.clone())),
            RecoveryTarget::Xid(number) => Some(("recovery_target_xid", number.to_string())),
        };
        let timeline = match self.timeline {
            RecoveryTimeline::Latest => "latest".to_owned(),
            RecoveryTimeline::Current => "current".to_owned(),
            RecoveryTimeline::Numbered(timeline) => timeline.to_string(),
        };
        let action = match self.action {
            Action::Promote => "promote",
            Action::Pause => "pause",
            Action::Shutdown => "shutdown",
        };
        let is_inclusive = if self.is_inclusive { "on" } else { "off" };
        let always = [
            ("restore_command", command.to_owned()),
            ("recovery_target_inclusive", is_inclusive.to_owned()),
            ("recovery_target_timeline", timeline),
            ("recovery_target_action", action.to_owned()),
        ];
        let mut text = String::new();
        for (name, value) in always.into_iter().chain(target) {
            let value = quoted(&value).ok_or(SettingError(name))?;
            text.push_str(&format!("{name} = {value}\n"));
        }
        Ok(text)
    }
}

/// As a server reads it, whatever its own time zone is.
fn time(instant: Timestamp) -> String {
    instant.strftime("%Y-%m-%d %H:%M:%S.%6f+00").to_string()
}

/// A value as `postgresql.conf` wants it, in quotes; `None` if it has a zero byte, which nothing there can say
/// (PostgreSQL source, `guc-file.l`).
#[must_use]
pub fn quoted(value: &str) -> Option<String> {
    let mut text = String::from("'");
    for character in value.chars() {
        match character {
            '\0' => return None,
            '\'' => text.push_str("''"),
            '\\' => text.push_str(r"\\"),
            '\n' => text.push_str(r"\n"),
            '\r' => text.push_str(r"\r"),
            other => text.push(other),
        }
    }
    text.push('\'');
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(recovery: &Recovery) -> Vec<String> {
        let text = recovery.settings().expect("settings");
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_recovery_to_the_end_takes_what_lies_there() {
        assert_eq!(
            lines(&Recovery::to_the_end()),
            [
                "restore_command = 'exit 1'",
                "recovery_target_inclusive = 'on'",
                "recovery_target_timeline = 'latest'",
                "recovery_target_action = 'promote'",
            ]
        );
    }

    #[test]
    fn each_target_is_one_setting() {
        let instant: Timestamp = "2026-11-21T11:00:00.123456789+01:00"
            .parse()
            .expect("a time");
        for (target, line) in [
            (RecoveryTarget::Immediate, "recovery_target = 'immediate'"),
            (
                RecoveryTarget::Time(instant),
                "recovery_target_time = '2026-11-21 10:00:00.123456+00'",
            ),
            (
                RecoveryTarget::Lsn(Lsn(0x16_B374_D848)),
                "recovery_target_lsn = '16/B374D848'",
            ),
            (
                RecoveryTarget::Name("before 'it'".into()),
                "recovery_target_name = 'before ''it'''",
            ),
            (RecoveryTarget::Xid(4711), "recovery_target_xid = '4711'"),
        ] {
            let recovery = Recovery {
                target,
                is_inclusive: false,
                timeline: RecoveryTimeline::Numbered(Timeline(16)),
                action: Action::Pause,
                restore_command: Some("get %f \"%p\"".into()),
            };
            assert_eq!(
                lines(&recovery),
                [
                    "restore_command = 'get %f \"%p\"'",
                    "recovery_target_inclusive = 'off'",
                    "recovery_target_timeline = '16'",
                    "recovery_target_action = 'pause'",
                    line,
                ]
            );
        }
    }

    #[test]
    fn no_value_ends_its_quotes() {
        assert_eq!(quoted("a'b\\c\nd\re").as_deref(), Some(r"'a''b\\c\nd\re'"));
        assert_eq!(quoted(r"\'").as_deref(), Some(r"'\\'''"));
        assert_eq!(quoted("a\0"), None);
        let recovery = Recovery {
            restore_command: Some("\0".into()),
            ..Recovery::to_the_end()
        };
        assert_eq!(recovery.settings(), Err(SettingError("restore_command")));
    }
}

//! How far a recovery goes, and from where the server gets the log on its way there.
//! It must never put a password into what the server is told: it names the file that has it.

use std::ffi::OsStr;

use clap::Args;
use lifeboat_format::Timestamp;
use lifeboat_plan::parse_time;
use lifeboat_repo::backend::Location;
use lifeboat_state::postgres::recovery::{Action, Recovery, RecoveryTarget, RecoveryTimeline};
use lifeboat_state::postgres::{Lsn, Member, Timeline};

use crate::args::Global;
use crate::failure::Failure;
use crate::words;

/// The options that say how far.
#[derive(Args)]
#[command(next_help_heading = "How far to recover (as far as the capture if nothing is said)")]
pub struct UntilArgs {
    /// To the end of the archived log
    #[arg(long, group = "until")]
    to_end: bool,
    /// To a moment, as "2026-11-21 03:00:00": what was committed until then
    #[arg(long, value_name = "TIME", group = "until")]
    to_time: Option<String>,
    /// To a position of the log, as 16/B374D848
    #[arg(long, value_name = "LSN", group = "until")]
    to_lsn: Option<Lsn>,
    /// To a restore point that somebody named with pg_create_restore_point
    #[arg(long, value_name = "NAME", group = "until")]
    to_name: Option<String>,
    /// To a transaction
    #[arg(long, value_name = "XID", group = "until")]
    to_xid: Option<u64>,
    /// Stop just before the time, position or transaction
    #[arg(long, requires = "until")]
    before: bool,
    /// Follow this timeline instead of the newest
    #[arg(long, value_name = "NUMBER", requires = "until")]
    timeline: Option<u32>,
    /// The command by which the server gets the log, instead of one that is put together from these options
    #[arg(long, value_name = "COMMAND", requires = "until")]
    restore_command: Option<String>,
}

impl UntilArgs {
    /// The moment that is wanted, if it is one.
    pub fn time(&self) -> Result<Option<Timestamp>, Failure> {
        let Some(text) = &self.to_time else {
            return Ok(None);
        };
        let zone = jiff::tz::TimeZone::system();
        let time = parse_time(text, lifeboat_repo::now(), &zone);
        let time = time.map_err(|error| Failure::from_error(&error).while_doing("--to-time"))?;
        Ok(Some(time))
    }

    /// Whether the log beyond the capture is needed.
    pub fn needs_archive(&self) -> bool {
        self.to_time.is_some() || self.target().is_some()
    }

    /// Whether somebody else says how the server gets the log.
    pub fn has_own_command(&self) -> bool {
        self.restore_command.is_some()
    }

    /// The timeline that is followed, if not the newest.
    pub fn timeline(&self) -> Option<Timeline> {
        self.timeline.map(Timeline)
    }

    /// Whether a hole in the log anywhere is in the way: elsewhere nobody knows before which segment the target lies.
    pub fn needs_all_until(&self) -> Option<Option<Lsn>> {
        match (self.to_end, self.to_lsn) {
            (true, _) => Some(None),
            (_, Some(lsn)) => Some(Some(lsn)),
            _ => None,
        }
    }

    fn target(&self) -> Option<RecoveryTarget> {
        if self.to_end {
            return Some(RecoveryTarget::Latest);
        }
        let lsn = self.to_lsn.map(RecoveryTarget::Lsn);
        let name = self.to_name.clone().map(RecoveryTarget::Name);
        let xid = self.to_xid.map(RecoveryTarget::Xid);
        lsn.or(name).or(xid)
    }

    /// The recovery of this capture.
    pub fn recovery(&self, member: &Member, global: &Global) -> Result<Recovery, Failure> {
        let time = self.time()?;
        let of_time = time.map(|time| {
            let nanoseconds = i32::try_from(time.nanoseconds).unwrap_or(0);
            jiff::Timestamp::new(time.seconds, nanoseconds)
                .map(RecoveryTarget::Time)
                .map_err(|error| Failure::from_error(&error).while_doing("--to-time"))
        });
        let target = match of_time {
            Some(target) => Some(target?),
            None => self.target(),
        };
        let Some(target) = target else {
            return Ok(Recovery {
                target: RecoveryTarget::Immediate,
                is_inclusive: true,
                timeline: RecoveryTimeline::Current,
                action: Action::Promote,
                restore_command: None,
            });
        };
        self.after_capture(&target, member)?;
        let command = match &self.restore_command {
            Some(command) => command.clone(),
            None => fetch_command(global)?,
        };
        Ok(Recovery {
            target,
            is_inclusive: !self.before,
            timeline: match self.timeline {
                None => RecoveryTimeline::Latest,
                Some(number) => RecoveryTimeline::Numbered(Timeline(number)),
            },
            action: Action::Promote,
            restore_command: Some(command),
        })
    }

    /// A recovery goes forward only.
    fn after_capture(&self, target: &RecoveryTarget, member: &Member) -> Result<(), Failure> {
        let stop: Option<Lsn> = member.postgres.stop_lsn.parse().ok();
        let is_before = match target {
            RecoveryTarget::Lsn(lsn) => stop.is_some_and(|stop| *lsn < stop),
            RecoveryTarget::Time(_) => self.time()?.is_some_and(|time| time < member.instant),
            _ => false,
        };
        match is_before {
            false => Ok(()),
            true => Err(Failure::new(format!(
                "the capture is of {} and {}, and a recovery can't go back from there",
                crate::format::time(member.instant),
                member.postgres.stop_lsn
            ))
            .hint("name an older capture: `lifeboat repo snapshots --tag lifeboat` lists them")),
        }
    }
}

/// The command by which the server gets the log from the repository that this command reads.
fn fetch_command(global: &Global) -> Result<String, Failure> {
    let hint = "the server runs it when it recovers, on its own; with --restore-command you say how, as 'lifeboat wal fetch %f %p'";
    let program = std::env::current_exe()
        .map_err(|error| Failure::from_error(&error).while_doing("find this program"))?;
    if let Some(location) = &global.repo
        && let Ok(
            Location::Rest {
                password: Some(_), ..
            }
            | Location::Rclone(_),
        ) = location.parse()
    {
        return Err(Failure::new(
            "the location may have a password in it, and what the server is told is read by others",
        )
        .hint(format!(
            "put it into a file and name that with --repository-file; {hint}"
        )));
    }
    if global.password_file.is_none() && global.password_command.is_none() {
        return Err(Failure::new(
            "the server would not find the password of the repository: it is in no file and comes from no command",
        )
        .hint(format!("give --password-file; {hint}")));
    }
    let mut command = format!("{} wal fetch %f %p", quoted(program.as_os_str())?);
    for word in words::access(global)? {
        command.push(' ');
        command.push_str(word.option);
        if let Some(value) = &word.value {
            command.push(' ');
            command.push_str(&quoted(value)?);
        }
    }
    Ok(command)
}

/// A word for the shell in a setting in which the server replaces what follows a percent sign.
fn quoted(word: &OsStr) -> Result<String, Failure> {
    let text = word.to_str().ok_or_else(|| {
        Failure::new(format!(
            "{} is no UTF-8, which settings of the server are",
            word.display()
        ))
    })?;
    let quoted = shlex::try_quote(text).map_err(|error| Failure::from_error(&error))?;
    Ok(quoted.replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(change: impl FnOnce(&mut Global)) -> Result<String, String> {
        let mut global = Global {
            repo: Some("/srv/no such place/100%".to_owned()),
            password_file: Some("/etc/it's".into()),
            ..Global::default()
        };
        change(&mut global);
        fetch_command(&global).map_err(|failure| failure.message)
    }

    #[test]
    fn a_server_is_told_all_that_it_needs_and_no_password() {
        let told = command(|global| {
            global.key_hint = Some("abc".into());
            global.remote.insecure_tls = true;
            global.remote.options = vec!["s3.region=eu".into()];
        });
        let told = told.unwrap();
        let (program, rest) = told.split_once(" wal fetch %f %p ").unwrap();
        assert!(!program.is_empty());
        for part in [
            "'/srv/no such place/100%%'",
            "--option 's3.region=eu'",
            "--key-hint abc",
            "--insecure-tls",
        ] {
            assert!(rest.contains(part), "{part}: {rest}");
        }
        assert!(rest.contains("--password-file \"/etc/it's\""), "{rest}");
        for location in [
            "rest:https://me:geheim@host/repo",
            "rclone::s3,secret_access_key=geheim:bucket",
        ] {
            let refused = command(|global| global.repo = Some(location.to_owned())).unwrap_err();
            assert!(
                !refused.contains("geheim") && refused.contains("password"),
                "{refused}"
            );
        }
        assert!(command(|global| global.repo = Some("rest:https://me@host/repo".into())).is_ok());
        let refused = command(|global| global.password_file = None).unwrap_err();
        assert!(refused.contains("would not find the password"), "{refused}");
    }
}

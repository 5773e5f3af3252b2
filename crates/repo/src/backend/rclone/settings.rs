//! What a `rclone:` location and its options say: which program, its arguments, how long it may take to start.
//! It must never run anything through a shell.

use std::time::Duration;

use super::remote::Veil;
use crate::backend::rest::CONNECTIONS_MAX;
use crate::backend::{BackendOptions, OptionError, Secret};

/// Requests at once, if nobody says otherwise. restic has 5.
const CONNECTIONS_DEFAULT: usize = 10;
/// How long rclone may take to answer for the first time, if nobody says otherwise (restic's default).
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// Longer nobody wants to wait.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// restic's defaults. Backblaze would otherwise hide files instead of removing them.
const PROGRAM_DEFAULT: &str = "rclone";
const ARGUMENTS_DEFAULT: &str = "serve restic --stdio --b2-hard-delete";

const PROGRAM: &str = "rclone.program";
const ARGUMENTS: &str = "rclone.args";
const CONNECTIONS: &str = "rclone.connections";
const TIMEOUT: &str = "rclone.timeout";
/// All options that there are.
pub(in crate::backend) const OPTIONS: &[&str] = &[PROGRAM, ARGUMENTS, CONNECTIONS, TIMEOUT];

/// How to run rclone.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The program.
    pub(super) program: String,
    /// Its arguments, the remote last.
    pub(super) arguments: Vec<String>,
    /// Variables for it, beside those that we have ourselves.
    pub(super) variables: Vec<(String, Secret)>,
    /// How long it may take to answer for the first time.
    pub(super) timeout: Duration,
    /// Requests at once.
    pub(super) connections: usize,
    /// What of the remote nobody may see.
    pub(super) veil: Veil,
}

impl Settings {
    pub(super) fn read(remote: &str, options: &BackendOptions) -> Result<Self, OptionError> {
        options.only("rclone", OPTIONS)?;
        let error = |name: &str, why: &str| OptionError {
            name: name.to_owned(),
            why: why.to_owned(),
        };
        let words = |name: &str, default: &str| {
            shlex::split(options.setting(name).unwrap_or(default))
                .ok_or_else(|| error(name, "a quote in it has no end"))
        };
        // The program may bring arguments of its own, as `ssh host rclone`.
        let mut all = words(PROGRAM, PROGRAM_DEFAULT)?.into_iter();
        let program = all
            .next()
            .filter(|program| !program.is_empty())
            .ok_or_else(|| error(PROGRAM, "it names no program"))?;
        let mut arguments: Vec<String> = all.collect();
        arguments.extend(words(ARGUMENTS, ARGUMENTS_DEFAULT)?);
        arguments.push(remote.to_owned());
        let timeout = match options.setting(TIMEOUT) {
            None => TIMEOUT_DEFAULT,
            Some(text) => duration(text)
                .filter(|time| !time.is_zero() && *time <= TIMEOUT_MAX)
                .ok_or_else(|| {
                    error(
                        TIMEOUT,
                        &format!("{text:?} is no time up to an hour, as 90s or 2m"),
                    )
                })?,
        };
        let of_rclone = |(name, value): (&String, &Secret)| {
            name.starts_with("RCLONE_")
                .then(|| (name.clone(), value.clone()))
        };
        Ok(Self {
            program,
            arguments,
            variables: options.variables.iter().filter_map(of_rclone).collect(),
            timeout,
            connections: options.number(CONNECTIONS, CONNECTIONS_DEFAULT, 1..=CONNECTIONS_MAX)?,
            veil: Veil::of(remote),
        })
    }
}

/// A time as Go writes it, in whole numbers: `90s`, `1m30s`; a number alone counts seconds.
fn duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let unit_at = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let (number, tail) = rest.split_at(unit_at);
        let number: u32 = number.parse().ok()?;
        let unit_end = tail
            .find(|letter: char| letter.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, after) = tail.split_at(unit_end);
        let unit = match unit {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return None,
        };
        total = total.checked_add(unit.checked_mul(number)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(settings: &[(&str, &str)]) -> Result<Settings, String> {
        let mut options = BackendOptions::default();
        for (name, value) in settings {
            options.settings.insert((*name).into(), (*value).into());
        }
        Settings::read("b2:bucket/a path", &options).map_err(|error| error.to_string())
    }

    #[test]
    fn the_remote_is_the_last_word_and_one_word() {
        let settings = read(&[]).unwrap();
        let arguments = [
            "serve",
            "restic",
            "--stdio",
            "--b2-hard-delete",
            "b2:bucket/a path",
        ];
        assert_eq!(settings.program, "rclone");
        assert_eq!(settings.arguments, arguments);
        let settings = read(&[
            ("rclone.program", "ssh -p 22 host '/opt/my rclone'"),
            ("rclone.args", "serve restic --stdio"),
        ]);
        let settings = settings.unwrap();
        assert_eq!(settings.program, "ssh");
        assert_eq!(settings.arguments[3], "/opt/my rclone");
        assert_eq!(settings.arguments.len(), 8);
    }

    #[test]
    fn times_are_read_as_go_reads_them() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("1m30s", 90), ("1h", 3600)] {
            let settings = read(&[("rclone.timeout", text)]).unwrap();
            assert_eq!(settings.timeout, Duration::from_secs(seconds), "{text}");
        }
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        for wrong in [
            "",
            "0",
            "soon",
            "5x",
            "-1s",
            "2h",
            "99999999999999999999s",
            "s",
        ] {
            assert!(read(&[("rclone.timeout", wrong)]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_can_not_be_run_is_refused() {
        for (name, value, expected) in [
            ("rclone.program", "", "rclone.program: it names no program"),
            (
                "rclone.args",
                "serve 'restic",
                "rclone.args: a quote in it has no end",
            ),
        ] {
            assert_eq!(read(&[(name, value)]).unwrap_err(), expected);
        }
        assert!(read(&[("rclone.arg", "x")]).is_err());
    }
}

//! What a command needed: time on the wall, time on the processors, memory at its peak.
//! It measures whole processes from outside and believes nothing that they say of themselves.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result, While};
use crate::shell;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measurement {
    pub wall: Duration,
    pub cpu_seconds: f64,
    pub peak_kib: u64,
}

impl fmt::Display for Measurement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wall, peak_mib) = (self.wall.as_secs_f64(), self.peak_kib / 1024);
        write!(
            out,
            "{wall:8.2} s wall {:8.2} s CPU {peak_mib:6} MiB",
            self.cpu_seconds
        )
    }
}

/// Runs `command` under GNU time, which writes its report to `report`.
pub(super) fn run(command: &Command, report: &Path) -> Result<Measurement> {
    // What the one before left to be written is not this one's work.
    rustix::fs::sync();
    let mut timed =
        Command::new(shell::find("time").ok_or_else(|| Failure::new("GNU time is missing"))?);
    timed
        .args(["-q", "-f", "%U %S %M", "-o"])
        .arg(report)
        .arg("--");
    timed.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => timed.env(name, value),
            None => timed.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        timed.current_dir(dir);
    }
    let start = Instant::now();
    let output = timed
        .stdin(Stdio::null())
        .output()
        .doing(|| "cannot start GNU time".into())?;
    let wall = start.elapsed();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::new(format!(
            "`{}` failed: {}\n{said}",
            shell::show(command),
            output.status
        )));
    }
    let text =
        std::fs::read_to_string(report).doing(|| "cannot read what GNU time wrote".into())?;
    read_report(&text, wall).ok_or_else(|| Failure::new(format!("GNU time wrote {text:?}")))
}

fn read_report(text: &str, wall: Duration) -> Option<Measurement> {
    let mut words = text.split_whitespace();
    let (user, system): (f64, f64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Measurement {
        wall,
        cpu_seconds: user + system,
        peak_kib: words.next()?.parse().ok()?,
    })
}

/// The median of all measurements, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    pub(super) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() {
            0 => f64::NAN,
            even if even % 2 == 0 => f64::midpoint(values[middle - 1], values[middle]),
            _ => values[middle],
        };
        let end = |value: Option<&f64>| value.copied().unwrap_or(f64::NAN);
        Spread {
            median,
            least: end(values.first()),
            most: end(values.last()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_has_its_ends_beside_it() {
        let expected = Spread {
            median: 2.0,
            least: 1.0,
            most: 9.0,
        };
        assert_eq!(Spread::of(vec![9.0, 1.0, 2.0]), expected);
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 9.0]).median, 3.0);
        assert!(Spread::of(Vec::new()).median.is_nan());
    }

    #[test]
    fn a_report_of_gnu_time_is_read() {
        let wall = Duration::from_secs(1);
        let expected = Measurement {
            wall,
            cpu_seconds: 2.0,
            peak_kib: 51200,
        };
        assert_eq!(read_report("1.50 0.50 51200\n", wall), Some(expected));
        assert_eq!(read_report("Command exited", wall), None);
    }
}

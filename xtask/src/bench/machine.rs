//! The machine a benchmark ran on, and what was measured on it.
//! It names kinds of hardware and never a host or a person.

use std::process::Command;

use crate::failure::Result;
use crate::{shell, workspace};

#[derive(Debug)]
pub(super) struct Machine {
    pub date: String,
    pub processor: String,
    pub cores: usize,
    pub memory_gib: f64,
    pub kernel: String,
    pub commit: String,
    pub compiler: String,
}

impl Machine {
    pub(super) fn look() -> Result<Self> {
        let git = |arguments: &[&str]| {
            shell::output(
                Command::new("git")
                    .current_dir(workspace::root())
                    .args(arguments),
            )
        };
        let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
        let commit = git(&["rev-parse", "--short", "HEAD"])?;
        let note = if changed.trim().is_empty() {
            ""
        } else {
            " with uncommitted changes"
        };
        Ok(Self {
            date: jiff::Zoned::now().date().to_string(),
            processor: fact("/proc/cpuinfo", "model name")
                .unwrap_or_else(|| std::env::consts::ARCH.into()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: memory_gib(),
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            commit: format!("{}{note}", commit.trim()),
            compiler: shell::output(Command::new("rustc").arg("--version"))?
                .trim()
                .to_owned(),
        })
    }
}

fn memory_gib() -> f64 {
    let kib = fact("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / f64::from(1 << 20)
}

/// The first value of `key` in a file of `key: value` lines.
fn fact(path: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == key).then(|| value.trim().to_owned())
    })
}

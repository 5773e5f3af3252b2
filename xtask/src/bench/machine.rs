//! The machine a benchmark ran on, and what was measured on it.
//! It names kinds of hardware and never a host or a person.

use std::process::Command;

use serde_json::{Map, Value, json};

use crate::failure::Result;
use crate::{shell, workspace};

/// What has to be known of a section to believe it.
pub(super) fn stamp(programs: &[String], runs: usize, place: &str) -> Result<Map<String, Value>> {
    let git = |arguments: &[&str]| {
        shell::output(
            Command::new("git")
                .current_dir(workspace::root())
                .args(arguments),
        )
    };
    // What a benchmark writes itself is no change of what it measures.
    let changed = git(&[
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        ":!bench",
    ])?;
    let note = match changed.trim().is_empty() {
        true => "",
        false => " with uncommitted changes",
    };
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    let processor =
        fact("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.into());
    // What the firmware keeps for itself is missing from the total.
    let memory_gib = memory_bytes("MemTotal").map(|bytes| (bytes + (1 << 29)) >> 30);
    let facts = [
        ("date", json!(jiff::Zoned::now().date().to_string())),
        ("commit", json!(format!("{}{note}", commit.trim()))),
        ("runs", json!(runs)),
        ("place", json!(place)),
        ("processor", json!(processor)),
        (
            "cores",
            json!(std::thread::available_parallelism().map_or(1, usize::from)),
        ),
        ("memory GiB", json!(memory_gib)),
        (
            "Linux",
            json!(rustix::system::uname().release().to_string_lossy()),
        ),
        (
            "compiler",
            json!(shell::output(Command::new("rustc").arg("--version"))?.trim()),
        ),
        ("programs", json!(programs.join(", "))),
        ("AVX-512", json!(has_avx512())),
    ];
    let facts = facts.map(|(name, value)| (name.to_owned(), value));
    Ok(Map::from_iter(facts))
}

/// Whether the processor has what the widest kernel needs.
fn has_avx512() -> bool {
    let flags = fact("/proc/cpuinfo", "flags").unwrap_or_default();
    let has = |wanted: &str| flags.split(' ').any(|flag| flag == wanted);
    has("avx512f") && has("avx512bw") && has("gfni")
}

/// A line of the system's table of memory, in bytes.
pub(super) fn memory_bytes(name: &str) -> Option<u64> {
    let kib = fact("/proc/meminfo", name)?;
    Some(kib.split(' ').next()?.parse::<u64>().ok()? << 10)
}

/// The first value of `key` in a file of `key: value` lines.
fn fact(path: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == key).then(|| value.trim().to_owned())
    })
}

//! One corpus on a real disk, where what is acknowledged has to be durable, and what each program syncs for that.
//! What a program says of itself counts for nothing: its calls to the system are counted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::Bench;
use super::corpus::{Corpus, Kind};
use super::data::{Quantity, Table, Values};
use super::place::{self, Place};
use super::tool::{Operation, REPOSITORY, RESTORED};
use crate::failure::{Result, While};
use crate::tools::cache_dir;
use crate::{shell, tree};

pub(super) const TABLE: Table<'static> = Table {
    section: "disk",
    name: "disk",
};
const SYNCS: Table<'static> = Table {
    section: "disk",
    name: "syncs",
};
const CALLS: &str = "trace=fsync,fdatasync,syncfs,sync,sync_file_range";

/// The file system that people's caches are on.
pub(super) fn place() -> Result<Place> {
    Ok(Place::on_disk(&cache_dir()?))
}

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let disk = place()?;
    let corpus = bench.corpus(Kind::Random)?;
    let title = format!("on a real disk, with fsync: {}", corpus.title());
    bench.data.title(TABLE, &title);
    for run in 1..=bench.runs {
        let scratch = disk.scratch(&corpus, bench.tools.len() as u64 + 1)?;
        let report = scratch.join("time");
        for operation in [Operation::FirstBackup, Operation::Restore] {
            for at in bench.order(run) {
                let tool = &bench.tools[at];
                let dir = scratch.join(tool.name);
                if operation == Operation::FirstBackup {
                    tool.prepare(&dir)?;
                }
                let command = tool.command(operation, &dir, &corpus.path)?;
                let (row, name) = (operation.name(), tool.name);
                bench.perform(TABLE, row, at, run, &command, &report)?;
                // Whoever leaves writing to the system is done later than it says.
                let left = Values::from([(Quantity::StillToSync, sync(scratch.path())?)]);
                bench.data.add(TABLE, row, name, run, left);
                if operation == Operation::Restore {
                    corpus.is_below(&dir.join(RESTORED))?;
                    place::remove(&dir.join(RESTORED))?;
                }
            }
        }
    }
    count_syncs(bench, &disk)
}

/// Seconds until nothing is left to be written.
fn sync(dir: &Path) -> Result<f64> {
    let began = Instant::now();
    let dir = std::fs::File::open(dir).doing(|| "cannot open the directory".into())?;
    rustix::fs::syncfs(dir).doing(|| "cannot sync the file system".into())?;
    Ok(began.elapsed().as_secs_f64())
}

/// One small backup and restore of each program, watched.
fn count_syncs(bench: &mut Bench, disk: &Place) -> Result<()> {
    let corpus = bench.warm(Kind::Remote.ensure(true)?)?;
    let scratch = disk.scratch(&corpus, 2 * bench.tools.len() as u64)?;
    for at in 0..bench.tools.len() {
        let tool = &bench.tools[at];
        let (name, dir) = (tool.name, scratch.join(tool.name));
        tool.prepare(&dir)?;
        for operation in [Operation::FirstBackup, Operation::Restore] {
            let command = tool.command(operation, &dir, &corpus.path)?;
            let Some(text) = watched(&command, &scratch.join("calls"))? else {
                println!("  strace may not look at programs here: what they sync is not counted");
                return Ok(());
            };
            let syncs = Syncs::read(&text);
            println!("  {:<20} {name:<9} {syncs:?}", operation.name());
            bench
                .data
                .add(SYNCS, operation.name(), name, 1, syncs.values());
        }
    }
    let stored = stored_files(&scratch.join(bench.tools[0].name), &corpus)?;
    bench.data.title(SYNCS, &stored);
    Ok(())
}

fn stored_files(dir: &Path, corpus: &Corpus) -> Result<String> {
    let files = tree::measure(&dir.join(REPOSITORY))?.files;
    Ok(format!(
        "what is synced for {}, which {files} files hold in the repository",
        corpus.description()
    ))
}

/// The calls of a command that sync something; nothing where it may not be watched.
fn watched(command: &Command, calls: &Path) -> Result<Option<String>> {
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-y", "-e", CALLS, "-o"])
        .arg(calls);
    let may = shell::output(Command::new("strace").args(["-qq", "-e", CALLS, "true"]));
    if may.is_err() {
        return Ok(None);
    }
    strace
        .arg("--")
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        strace.current_dir(dir);
    }
    shell::output(&mut strace)?;
    let read = std::fs::read_to_string(calls);
    read.map(Some)
        .doing(|| "cannot read what strace wrote".into())
}

/// How often what was synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Syncs {
    files: u32,
    directories: u32,
    disks: u32,
}

impl Syncs {
    /// From lines like `17 fsync(5</srv/repository/data>) = 0`.
    fn read(text: &str) -> Self {
        let mut syncs = Self::default();
        for line in text.lines() {
            let Some((before, after)) = line.split_once('(') else {
                continue;
            };
            let path = after
                .split_once('<')
                .and_then(|(_, path)| path.split_once('>'));
            // What is gone had another name before it was renamed, which only files are.
            let is_directory = path.is_some_and(|(path, _)| PathBuf::from(path).is_dir());
            match before.rsplit(' ').next() {
                Some("syncfs" | "sync") => syncs.disks += 1,
                Some(_) if is_directory => syncs.directories += 1,
                Some(_) => syncs.files += 1,
                None => {}
            }
        }
        syncs
    }

    fn values(self) -> Values {
        Values::from([
            (Quantity::FileSyncs, self.files.into()),
            (Quantity::DirectorySyncs, self.directories.into()),
            (Quantity::DiskSyncs, self.disks.into()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_apart() {
        let text = "17 fsync(5</>) = 0\n\
                    17 fsync(6</gone/tmp-1>) = 0\n\
                    18 fdatasync(6</gone/tmp-2> <unfinished ...>\n\
                    18 <... fdatasync resumed>) = 0\n\
                    19 syncfs(3</>) = 0\n\
                    17 +++ exited with 0 +++\n";
        let expected = Syncs {
            files: 2,
            directories: 1,
            disks: 1,
        };
        assert_eq!(Syncs::read(text), expected);
    }
}

//! A repository of ten million blobs: what it takes to open it and to plan a prune, with a cache and without.
//! No data of it can be read, so nothing is measured that would have to; and nobody writes to it.

mod subject;

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::data::Table;
use super::{Bench, corpus, place};
use crate::failure::{Failure, Result, While};
use crate::tree::{self, Amount};
use crate::{shell, units, workspace};
use subject::{Subject, Task};

pub(super) const TABLE: Table<'static> = Table {
    section: "blobs",
    name: "blobs",
};
/// The rows of which targets speak; the others are compared with ours by one row for both of those without a cache.
pub(super) const CACHED: &str = "open with a cache";
pub(super) const MAKING_CACHE: &str = "open without a cache by making one";
pub(super) const NO_CACHE: &str = "open without a cache by `--no-cache`";
const NO_CACHE_OF_OTHERS: &str = "open without a cache";
const PRUNE: &str = "prune --dry-run";

const EXAMPLE: &str = "many_blobs";

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let blobs = if bench.quick { 600_000 } else { 10_000_000 };
    let quick = bench.quick;
    let repository = corpus::once(&format!("blobs-{blobs}"), |dir| make(dir, blobs, quick))?;
    let title = title(blobs, &repository)?;
    println!("\n== {title}");
    bench.data.title(TABLE, &title);
    let mut stored = Amount::default();
    warm(&repository, &mut stored)?;
    // A cache holds no more than all but the data; we have a second one.
    let copies = bench.tools.len() as u64 + 1;
    let scratch = bench.place.scratch_for(stored, copies)?;
    let snapshot = only_snapshot(&repository)?;
    let subject = Subject::prepare(&bench.tools, repository, snapshot, scratch.path())?;
    for run in 1..=bench.runs {
        for (number, task) in Task::ALL.into_iter().enumerate() {
            for at in bench.order(run + number) {
                let tool = &bench.tools[at];
                let Some(row) = task.row(tool.dialect) else {
                    continue;
                };
                if task == Task::MakingCache {
                    place::remove(&subject.cache(tool, task))?;
                }
                let command = subject.command(tool, task);
                let dialect = tool.dialect;
                dialect.trying(|| {
                    bench.perform(TABLE, row, at, run, &command, &scratch.join("time"))
                })?;
            }
        }
    }
    Ok(())
}

/// To try the benchmark itself, what is quick to build will do.
fn make(dir: &Path, blobs: u64, quick: bool) -> Result<()> {
    let profile: &[&str] = if quick { &[] } else { &["--release"] };
    let mut run = workspace::cargo();
    run.args(["run", "--quiet", "-p", "lifeboat-testkit", "--example"]);
    run.arg(EXAMPLE).args(profile).arg("--").arg(dir);
    shell::output(run.args([&blobs.to_string(), "trees"])).map(drop)
}

fn title(blobs: u64, repository: &Path) -> Result<String> {
    let index = tree::measure(&repository.join("index"))?;
    Ok(format!(
        "{} blobs: an index of {} files, {}",
        units::count(blobs),
        units::count(index.files),
        units::size(index.bytes)
    ))
}

/// Reads what is really there and adds it up: packs of data are nothing but holes.
fn warm(path: &Path, stored: &mut Amount) -> Result<()> {
    let meta = path.symlink_metadata();
    let meta = meta.doing(|| format!("cannot look at {}", path.display()))?;
    if meta.is_dir() {
        return tree::list(path)?
            .iter()
            .try_for_each(|path| warm(path, stored));
    }
    if meta.blocks() > 0 {
        let content = std::fs::read(path).doing(|| format!("cannot read {}", path.display()))?;
        stored.files += 1;
        stored.bytes += content.len() as u64;
    }
    Ok(())
}

/// The ID of the one snapshot: not everybody's `cat` knows the latest.
fn only_snapshot(repository: &Path) -> Result<String> {
    let snapshots = tree::list(&repository.join("snapshots"))?;
    match snapshots.as_slice() {
        [one] => Ok(one.file_name().unwrap_or_default().to_string_lossy().into()),
        others => Err(Failure::new(format!(
            "{} has {} snapshots instead of one: remove it, and it is made anew",
            repository.display(),
            others.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn holes_are_neither_read_nor_counted() {
        let scratch = Scratch::create("blobs").unwrap();
        std::fs::create_dir(scratch.join("data")).unwrap();
        let sparse = std::fs::File::create(scratch.join("data/pack")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        std::fs::write(scratch.join("config"), "twelve bytes").unwrap();
        let mut stored = Amount::default();
        warm(scratch.path(), &mut stored).unwrap();
        let expected = Amount {
            files: 1,
            bytes: 12,
        };
        assert_eq!(stored, expected);
    }

    #[test]
    fn one_snapshot_is_named_and_two_are_refused() {
        let scratch = Scratch::create("one-snapshot").unwrap();
        std::fs::create_dir(scratch.join("snapshots")).unwrap();
        assert!(only_snapshot(scratch.path()).is_err());
        std::fs::write(scratch.join("snapshots/abcd"), "").unwrap();
        assert_eq!(only_snapshot(scratch.path()).unwrap(), "abcd");
        std::fs::write(scratch.join("snapshots/ef"), "").unwrap();
        assert!(only_snapshot(scratch.path()).is_err());
    }
}

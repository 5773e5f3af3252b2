//! Ten changed files of a large tree: what a backup takes that is told of them, and one that has to look for them.
//! The corpus itself is never changed: everybody works on one private copy of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Bench;
use super::corpus::Kind;
use super::data::{OPENING, Table};
use super::local::OPENINGS;
use super::tool::Operation;
use crate::failure::{Failure, Result, While};
use crate::noise::noise;
use crate::{shell, tree};

pub(super) const TABLE: Table<'static> = Table {
    section: "changed",
    name: "tree",
};
/// The row of which a target speaks.
pub(super) const TOLD: &str = "backup of 10 changed files, told by whom that can be";
const LOOKING: &str = "backup of 10 changed files, looking for them";
const CHANGED_FILES: usize = 10;

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let corpus = bench.corpus(Kind::Tree)?;
    bench
        .data
        .title(TABLE, &format!("10 changed files of {}", corpus.title()));
    // The copy, and a repository of each.
    let copies = bench.tools.len() as u64 + 1;
    let scratch = bench.place.scratch(&corpus, copies)?;
    let source = scratch.join("source");
    let mut copy = Command::new("cp");
    shell::run(copy.args(["-a", "--"]).arg(&corpus.path).arg(&source))?;
    let dirs: Vec<PathBuf> = bench
        .tools
        .iter()
        .map(|tool| scratch.join(tool.name))
        .collect();
    for (tool, dir) in bench.tools.iter().zip(&dirs) {
        tool.prepare(dir)?;
        shell::output(&mut tool.command(Operation::FirstBackup, dir, &source)?)?;
    }
    let mut files = Vec::new();
    regular(&source, &mut files)?;
    let chosen = choose(&files);
    let (list, report) = (scratch.join("list"), scratch.join("time"));
    let lines: Vec<String> = chosen
        .iter()
        .map(|path| format!("{}\n", path.display()))
        .collect();
    std::fs::write(&list, lines.concat()).doing(|| "cannot write the list".into())?;
    for run in 1..=bench.runs {
        for (number, row) in [LOOKING, TOLD].into_iter().enumerate() {
            change(&chosen, (2 * run + number) as u64)?;
            for at in bench.order(run + number) {
                let command = match row {
                    TOLD => bench.tools[at].backup_of_changed(&dirs[at], &source, &list)?,
                    _ => bench.tools[at].command(Operation::UnchangedBackup, &dirs[at], &source)?,
                };
                bench.perform(TABLE, row, at, run, &command, &report)?;
            }
        }
        for number in 0..OPENINGS {
            for at in bench.order(run + number) {
                let command = bench.tools[at].command(Operation::Snapshots, &dirs[at], &source)?;
                bench.perform(TABLE, OPENING, at, run, &command, &report)?;
            }
        }
    }
    Ok(())
}

/// All files below a directory that have something in them and a name that fits on a line.
fn regular(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for path in tree::list(dir)? {
        let meta = path
            .symlink_metadata()
            .doing(|| format!("cannot look at {}", path.display()))?;
        if meta.is_dir() {
            regular(&path, files)?;
        } else if meta.is_file() && meta.len() > 0 {
            files.extend(
                path.to_str()
                    .filter(|name| !name.contains('\n'))
                    .map(PathBuf::from),
            );
        }
    }
    Ok(())
}

/// Some from everywhere.
fn choose(files: &[PathBuf]) -> Vec<PathBuf> {
    let step = (files.len() / CHANGED_FILES).max(1);
    let chosen = files.iter().skip(step / 2).step_by(step);
    chosen.take(CHANGED_FILES).cloned().collect()
}

/// Gives each file new content of the same length, in place.
fn change(files: &[PathBuf], seed: u64) -> Result<()> {
    for (number, path) in files.iter().enumerate() {
        let meta = path.metadata();
        let length = meta
            .doing(|| format!("cannot look at {}", path.display()))?
            .len();
        let length = usize::try_from(length).map_err(|_| Failure::new("a file is too long"))?;
        std::fs::write(path, noise(seed << 32 | number as u64, length))
            .doing(|| format!("cannot change {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn ten_files_from_everywhere_get_new_content_of_the_same_length() {
        let scratch = Scratch::create("changed").unwrap();
        for number in 0..45 {
            let dir = scratch.join(&format!("{}", number % 5));
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join(format!("{number}")), "twelve bytes").unwrap();
        }
        std::fs::write(scratch.join("empty"), "").unwrap();
        let mut files = Vec::new();
        regular(scratch.path(), &mut files).unwrap();
        assert_eq!(files.len(), 45);
        let chosen = choose(&files);
        assert_eq!(chosen.len(), CHANGED_FILES);
        assert!(chosen.first().unwrap().parent() != chosen.last().unwrap().parent());
        change(&chosen, 1).unwrap();
        let first = std::fs::read(&chosen[0]).unwrap();
        change(&chosen, 2).unwrap();
        let second = std::fs::read(&chosen[0]).unwrap();
        assert!(first.len() == 12 && second.len() == 12 && first != second);
        assert_eq!(choose(&files[..3]).len(), 3);
    }
}

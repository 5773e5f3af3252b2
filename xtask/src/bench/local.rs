//! Everything that is done with one corpus and a repository in memory, by all programs in turn.
//! Nobody is measured on a repository that restic would not call sound.

use std::path::Path;
use std::process::Command;

use super::Bench;
use super::corpus::{Corpus, Kind};
use super::data::{OURS, Quantity, Table, Values};
use super::measure::{self, Measurement};
use super::place;
use super::stages;
use super::tool::{KERNEL_VARIABLE, Operation, REPOSITORY, RESTORED, Tool};
use crate::failure::{Failure, Result, While};
use crate::tree;

/// Opening is taken off other numbers and takes longer than some of them, so it has to be known better.
pub(super) const OPENINGS: usize = 3;

/// The section of one corpus.
pub(super) fn measure(bench: &mut Bench, kind: Kind) -> Result<()> {
    let corpus = bench.corpus(kind)?;
    let table = Table {
        section: kind.name(),
        name: kind.name(),
    };
    bench.data.title(table, &corpus.title());
    stages::measure(bench, table.section, &corpus)?;
    for run in 1..=bench.runs {
        // A repository of each, and what one of them restored.
        let copies = bench.tools.len() as u64 + 1;
        let scratch = bench.place.scratch(&corpus, copies)?;
        let dirs: Vec<_> = bench
            .tools
            .iter()
            .map(|tool| scratch.join(tool.name))
            .collect();
        for (tool, dir) in bench.tools.iter().zip(&dirs) {
            tool.prepare(dir)?;
        }
        let turn = |bench: &mut Bench, number: usize, operations: &[Operation]| -> Result<()> {
            for at in bench.order(run + number) {
                for operation in operations {
                    let command = bench.tools[at].command(*operation, &dirs[at], &corpus.path)?;
                    let report = scratch.join("time");
                    bench.perform(table, operation.name(), at, run, &command, &report)?;
                    if Operation::RESTORES.contains(operation) {
                        corpus.is_below(&dirs[at].join(RESTORED))?;
                    }
                }
                place::remove(&dirs[at].join(RESTORED))?;
            }
            Ok(())
        };
        turn(bench, 0, &[Operation::FirstBackup])?;
        if run == 1 {
            cross_check(&bench.tools, &dirs)?;
        }
        turn(bench, 1, &[Operation::UnchangedBackup])?;
        turn(bench, 2, &[Operation::Snapshots; OPENINGS])?;
        // Each restores and gives the room back before the next one does.
        turn(bench, 3, &Operation::RESTORES)?;
        turn(bench, 4, &[Operation::Check])?;
        for (tool, dir) in bench.tools.iter().zip(&dirs) {
            let bytes = tree::measure(&dir.join(REPOSITORY))?.bytes;
            let size = bytes as f64 / f64::from(1 << 20);
            let values = Values::from([(Quantity::Repository, size)]);
            bench
                .data
                .add(table, Operation::FirstBackup.name(), tool.name, run, values);
        }
    }
    Ok(())
}

/// restic reads all that each program has stored.
fn cross_check(tools: &[Tool], dirs: &[impl AsRef<Path>]) -> Result<()> {
    let restic = tools.iter().find(|tool| tool.name == "restic");
    let restic = restic.ok_or_else(|| Failure::new("restic takes no part"))?;
    for (tool, dir) in tools.iter().zip(dirs) {
        let checked = restic.cross_check(dir.as_ref());
        checked.doing(|| format!("restic does not trust what {} stored", tool.name))?;
    }
    println!("  restic check --read-data finds each repository sound");
    Ok(())
}

/// The first backups once more, ours with each set of instructions that this processor has.
pub(super) fn measure_kernels(bench: &mut Bench) -> Result<()> {
    let ours = bench.tools.iter().position(|tool| tool.name == OURS);
    let ours =
        ours.ok_or_else(|| Failure::new("kernels are those of lifeboat, which takes no part"))?;
    let kernels = bench.tools[ours].kernels()?;
    for kind in Kind::LOCAL {
        let corpus = bench.corpus(kind)?;
        let table = Table {
            section: "kernels",
            name: kind.name(),
        };
        bench
            .data
            .title(table, &format!("first backup, {}", corpus.title()));
        for run in 1..=bench.runs {
            for at in bench.order(run) {
                let kernels = kernels.iter().map(|kernel| Some(kernel.as_str()));
                let kernels: Vec<Option<&str>> = match at == ours {
                    true => kernels.collect(),
                    false => vec![None],
                };
                for kernel in kernels {
                    first_backup(bench, table, &corpus, at, run, kernel)?;
                }
            }
        }
    }
    Ok(())
}

/// A first backup into a repository that goes away again.
fn first_backup(
    bench: &mut Bench,
    table: Table,
    corpus: &Corpus,
    at: usize,
    run: usize,
    kernel: Option<&str>,
) -> Result<()> {
    let scratch = bench.place.scratch(corpus, 1)?;
    let dir = scratch.join("repository");
    bench.tools[at].prepare(&dir)?;
    let mut command = bench.tools[at].command(Operation::FirstBackup, &dir, &corpus.path)?;
    let mut row = Operation::FirstBackup.name().to_owned();
    if let Some(kernel) = kernel {
        command.env(KERNEL_VARIABLE, kernel);
        row = format!("{row} by {kernel}");
    }
    let report = scratch.join("time");
    bench
        .perform(table, &row, at, run, &command, &report)
        .map(drop)
}

impl Bench {
    /// The corpus of this kind, in the page cache.
    pub(super) fn corpus(&self, kind: Kind) -> Result<Corpus> {
        self.warm(kind.ensure(self.quick)?)
    }

    /// Everybody reads from memory: disks differ more than programs do.
    pub(super) fn warm(&self, corpus: Corpus) -> Result<Corpus> {
        println!("\n== {}: {}", corpus.name, corpus.description());
        corpus.warm()?;
        Ok(corpus)
    }

    /// The programs by number. Another one goes first each time, so that nobody always follows the same neighbour.
    pub(super) fn order(&self, number: usize) -> Vec<usize> {
        let count = self.tools.len();
        (0..count).map(|turn| (turn + number) % count).collect()
    }

    /// Runs a command and keeps what it needed.
    pub(super) fn perform(
        &mut self,
        table: Table,
        row: &str,
        tool: usize,
        run: usize,
        command: &Command,
        report: &Path,
    ) -> Result<Measurement> {
        let measured = measure::run(command, report)?;
        let tool = self.tools[tool].name;
        println!("  {:<48} {tool:<9} {measured}", format!("run {run} {row}"));
        self.data.add(table, row, tool, run, measured);
        Ok(measured)
    }
}

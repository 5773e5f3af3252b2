//! The benchmark: the same work by Lifeboat, restic and rustic, in one run on one machine.
//! No measurement is dropped, and no result is taken over from another run or machine.

mod corpus;
mod machine;
mod measure;
mod s3;
mod table;
mod tool;

use std::path::Path;

use crate::failure::{Failure, Result, While};
use crate::scratch::Scratch;
use crate::tools::{Toolbox, create_dir, packages, restic, rustic};
use crate::{tree, workspace};
use corpus::Corpus;
use measure::{Measurement, Series};
use table::CorpusResult;
use tool::{Operation, Tool};

const USAGE: &str = "\
usage: cargo xtask bench [options]
  --runs N             how often everything is measured (default 3)
  --only CORPUS        one of: random, tree, postgres, s3
  --quick              small corpora, to try the benchmark itself; writes nothing
  --no-write           print the results only
  --without-lifeboat   measure the other programs alone; writes nothing";

struct Options {
    runs: usize,
    only: Option<String>,
    quick: bool,
    write: bool,
    with_lifeboat: bool,
}

fn read_options(options: &[String]) -> Result<Options> {
    let mut read = Options {
        runs: 3,
        only: None,
        quick: false,
        write: true,
        with_lifeboat: true,
    };
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| Failure::new(USAGE));
        match option.as_str() {
            "--runs" => {
                read.runs = value()?
                    .parse()
                    .ok()
                    .filter(|runs| *runs > 0)
                    .ok_or_else(|| Failure::new(USAGE))?
            }
            "--only" => read.only = Some(value()?.clone()),
            "--quick" => (read.quick, read.write) = (true, false),
            "--no-write" => read.write = false,
            "--without-lifeboat" => (read.with_lifeboat, read.write) = (false, false),
            _ => return Err(Failure::new(USAGE)),
        }
    }
    Ok(read)
}

pub(crate) fn run(options: &[String]) -> Result<()> {
    let options = read_options(options)?;
    packages::ensure(packages::FOR_BENCH)?;
    let tools = tools(options.with_lifeboat)?;
    let only = options.only.as_deref();
    let kinds = match only {
        Some("s3") => Vec::new(),
        _ => corpus::kinds(only).ok_or_else(|| Failure::new(USAGE))?,
    };
    let mut results = Vec::new();
    for kind in kinds {
        let corpus = kind.ensure(options.quick)?;
        results.push(measure_corpus(&corpus, &tools, options.runs)?);
    }
    let remote = match only {
        None | Some("s3") => s3::measure(&tools, options.runs, options.quick)?,
        Some(_) => Vec::new(),
    };
    let machine = machine::Machine::look()?;
    let page = table::page(&machine, &tools, options.runs, &results, &remote);
    println!("\n{page}");
    if options.write {
        let path = workspace::root().join("bench/RESULTS.md");
        create_dir(path.parent().unwrap_or(Path::new(".")))?;
        std::fs::write(&path, page).doing(|| format!("cannot write {}", path.display()))?;
        println!("written to bench/RESULTS.md");
    }
    Ok(())
}

/// Ours first, where it takes part.
fn tools(with_lifeboat: bool) -> Result<Vec<Tool>> {
    let toolbox = Toolbox::open()?;
    let mut tools = Vec::new();
    if with_lifeboat {
        tools.push(Tool::lifeboat(
            workspace::root().join("target/release/lifeboat"),
        )?);
    }
    tools.push(Tool::restic(restic::current(&toolbox)?)?);
    tools.push(Tool::rustic(rustic::ensure(&toolbox)?)?);
    Ok(tools)
}

fn measure_corpus(corpus: &Corpus, tools: &[Tool], runs: usize) -> Result<CorpusResult> {
    println!("\n== {}: {}", corpus.name, corpus.description());
    // Everybody reads from memory: disks differ more than programs do.
    corpus.warm()?;
    let mut series: Vec<Vec<Series>> =
        vec![vec![Series::default(); tools.len()]; Operation::ALL.len()];
    let mut repository_bytes = vec![0; tools.len()];
    for run in 0..runs {
        let scratch = Scratch::create("bench")?;
        for tool in tools {
            tool.prepare(&scratch.join(tool.name))?;
        }
        for (row, operation) in Operation::ALL.iter().enumerate() {
            for turn in 0..tools.len() {
                // Another one goes first each time, so that nobody always follows the same neighbour.
                let column = (turn + run + row) % tools.len();
                let tool = &tools[column];
                let measured = perform(*operation, tool, corpus, &scratch)?;
                println!(
                    "  {:<38} {:<9} {measured}",
                    format!("run {} {}", run + 1, operation.name()),
                    tool.name
                );
                series[row][column].add(measured);
            }
        }
        for (column, tool) in tools.iter().enumerate() {
            repository_bytes[column] =
                tree::measure(&scratch.join(tool.name).join("repository"))?.bytes;
        }
    }
    Ok(CorpusResult {
        title: corpus.title(),
        series,
        repository_bytes,
    })
}

fn perform(
    operation: Operation,
    tool: &Tool,
    corpus: &Corpus,
    scratch: &Scratch,
) -> Result<Measurement> {
    let dir = scratch.join(tool.name);
    let command = tool.command(operation, &dir, &corpus.path)?;
    let measured = measure::run(&command, &scratch.join("time"))?;
    if operation.restores() {
        let restored = tool.restored(&dir, &corpus.path);
        let found = tree::measure(&restored)?;
        if found != corpus.amount {
            let why = format!("{} restored {found:?} of {:?}", tool.name, corpus.amount);
            return Err(Failure::new(why));
        }
    }
    Ok(measured)
}

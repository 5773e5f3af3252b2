//! The benchmark: the same work by Lifeboat, restic and rustic, in one run on one machine.
//! No measurement is dropped, and no section mixes measurements of two runs or machines.

mod blobs;
mod captures;
mod changed;
mod cluster;
mod corpus;
mod data;
mod disk;
mod growth;
mod limit;
mod local;
mod machine;
mod measure;
mod page;
mod pgbackrest;
mod place;
mod plot;
mod pushes;
mod s3;
mod section;
mod stages;
mod table;
mod targets;
mod tls;
mod tool;

use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result, While};
use crate::tools::{Toolbox, create_dir, packages, restic, rustic};
use crate::workspace;
use data::Data;
use place::Place;
use section::Section;
use tool::Tool;

const USAGE: &str = "\
usage: cargo xtask bench [options]
  --runs N             how often everything is measured (default 5)
  --only SECTIONS      some of: random, tree, postgres, kernels, changed, s3, disk, growth, blobs, captures, pushes; with
                       commas between.
                       The other sections stay as they were measured before
  --render             measure nothing, and make the page and its plots from what was measured before
  --quick              small corpora, to try the benchmark itself; writes nothing unless --into is given
  --place DIRECTORY    where repositories lie, where /dev/shm has no room for them; the results say so
  --into DIRECTORY     write data, page and plots there instead of to bench/
  --no-write           print the page only
  --all-grow           measure the growth of the other programs too
  --lifeboat PROGRAM   measure this build of it instead of target/release/lifeboat
  --without-lifeboat   measure the other programs alone; writes nothing unless --into is given";

/// The data, beside which the page and its plots lie.
const DATA: &str = "results.jsonl";
const PAGE: &str = "RESULTS.md";

#[derive(Debug)]
struct Options {
    runs: usize,
    sections: Vec<Section>,
    quick: bool,
    all_grow: bool,
    place: Option<PathBuf>,
    /// Where the results go, if anywhere.
    into: Option<PathBuf>,
    /// Ours, if it takes part.
    lifeboat: Option<PathBuf>,
}

fn read_options(options: &[String]) -> Option<Options> {
    let mut read = Options {
        runs: 5,
        sections: Section::ALL.to_vec(),
        quick: false,
        all_grow: false,
        place: None,
        into: None,
        lifeboat: Some(workspace::root().join("target/release/lifeboat")),
    };
    // What is no measurement of this checkout, whole, must not replace one.
    let mut is_for_us = true;
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        match option.as_str() {
            "--runs" => read.runs = rest.next()?.parse().ok().filter(|runs| *runs > 0)?,
            "--only" => read.sections = Section::of_names(rest.next()?)?,
            "--render" => read.sections.clear(),
            "--quick" => (read.quick, is_for_us) = (true, false),
            "--place" => read.place = Some(rest.next()?.into()),
            "--into" => read.into = Some(rest.next()?.into()),
            "--no-write" => is_for_us = false,
            "--all-grow" => read.all_grow = true,
            "--lifeboat" => (read.lifeboat, is_for_us) = (Some(rest.next()?.into()), false),
            "--without-lifeboat" => (read.lifeboat, is_for_us) = (None, false),
            _ => return None,
        }
    }
    if read.into.is_none() && is_for_us {
        read.into = Some(workspace::root().join("bench"));
    }
    if read.lifeboat.is_none() {
        // Nobody else has a choice of instructions.
        read.sections.retain(|section| *section != Section::Kernels);
    }
    Some(read)
}

/// What every section needs, and where its numbers go.
struct Bench {
    tools: Vec<Tool>,
    runs: usize,
    quick: bool,
    all_grow: bool,
    place: Place,
    data: Data,
}

pub(crate) fn run(options: &[String]) -> Result<()> {
    let options = read_options(options).ok_or_else(|| Failure::new(USAGE))?;
    packages::ensure(packages::FOR_BENCH)?;
    let mut bench = Bench {
        tools: tools(options.lifeboat)?,
        runs: options.runs,
        quick: options.quick,
        all_grow: options.all_grow,
        place: Place::choose(options.place.as_deref())?,
        data: Data::default(),
    };
    let mut data = match &options.into {
        Some(dir) => read(dir)?,
        None => Data::default(),
    };
    for section in options.sections {
        let place = match section {
            Section::Disk => disk::place()?.description(),
            _ => bench.place.description(),
        };
        let facts = machine::stamp(&section.programs(&bench.tools)?, bench.runs, place)?;
        bench.data.stamp(section.name(), facts);
        section.measure(&mut bench)?;
        data.merge(std::mem::take(&mut bench.data));
        // After each, so that what takes an hour is not lost with what fails after it.
        if let Some(dir) = &options.into {
            write(dir, &data)?;
        }
    }
    if let Some(dir) = &options.into {
        write(dir, &data)?;
    }
    match options.into {
        Some(dir) => println!("\nwritten to {}", dir.display()),
        None => println!("\n{}", page::page(&data, &[], false)),
    }
    Ok(())
}

/// What was measured before.
fn read(dir: &Path) -> Result<Data> {
    let path = dir.join(DATA);
    if !path.exists() {
        return Ok(Data::default());
    }
    let text =
        std::fs::read_to_string(&path).doing(|| format!("cannot read {}", path.display()))?;
    Data::parse(&text).doing(|| path.display().to_string())
}

fn write(dir: &Path, data: &Data) -> Result<()> {
    create_dir(dir)?;
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).doing(|| format!("cannot write {}", path.display()))
    };
    write(DATA, &data.to_lines())?;
    let plots = plot::all(data, &targets::all(data));
    for plot in &plots {
        write(plot.file, &plot.svg)?;
    }
    let has_reasons = dir.join(page::REASONS).exists();
    write(PAGE, &page::page(data, &plots, has_reasons))
}

/// Ours first, where it takes part.
fn tools(lifeboat: Option<PathBuf>) -> Result<Vec<Tool>> {
    let toolbox = Toolbox::open()?;
    let mut tools = Vec::new();
    if let Some(lifeboat) = lifeboat {
        tools.push(Tool::lifeboat(lifeboat)?);
    }
    tools.push(Tool::restic(restic::current(&toolbox)?)?);
    tools.push(Tool::rustic(rustic::ensure(&toolbox)?)?);
    Ok(tools)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Option<Options> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        read_options(&words)
    }

    #[test]
    fn only_whole_measurements_of_this_checkout_are_committed() {
        let usual = options("").unwrap();
        assert_eq!((usual.runs, usual.sections.len()), (5, Section::ALL.len()));
        assert!(usual.into.unwrap().ends_with("bench"));
        assert!(options("--only s3 --place /srv").unwrap().into.is_some());
        for other in [
            "--quick",
            "--no-write",
            "--lifeboat /x",
            "--without-lifeboat",
        ] {
            assert!(options(other).unwrap().into.is_none(), "{other}");
        }
        assert_eq!(
            options("--quick --into /x").unwrap().into,
            Some("/x".into())
        );
        for bad in ["--runs 0", "--runs", "--only all", "more"] {
            assert!(options(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn results_are_kept_beside_newer_ones() {
        use data::tests::{TREE, sample};
        let scratch = crate::scratch::Scratch::create("results").unwrap();
        assert_eq!(read(scratch.path()).unwrap(), Data::default());
        let data = sample(TREE, &[("restore", "restic", &[1.0])]);
        write(scratch.path(), &data).unwrap();
        assert_eq!(read(scratch.path()).unwrap(), data);
        assert!(scratch.join(PAGE).exists());
    }
}

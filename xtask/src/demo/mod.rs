//! The demo: real files of this machine are backed up, changed, backed up again, and both states come back.
//! It never touches the originals: it works on copies in a directory of its own, which it removes.

mod compare;
mod edits;
mod material;
mod oddities;
mod program;
mod screen;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result};
use crate::scratch::Scratch;
use crate::tools::Toolbox;
use crate::{shell, tree, units, workspace};
use compare::{Comparison, compare};
use program::{Program, Summary};
use screen::Screen;

const USAGE: &str = "usage: cargo xtask demo [--keep] [--binary PATH] [--stand-in RESTIC]";

/// Temporary copies: the live files, their first state, the repository, two restores; and some air.
const SPACE_FACTOR: u64 = 6;
const MATERIAL_BYTES_MAX: u64 = 300 << 20;
const MATERIAL_BYTES_MIN: u64 = 16 << 20;

struct Options {
    keep: bool,
    program: Program,
}

fn read_options(options: &[String]) -> Result<Options> {
    let mut keep = false;
    let mut program = Program::lifeboat(workspace::root().join("target/release/lifeboat"));
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        let mut value = || {
            rest.next()
                .map(PathBuf::from)
                .ok_or_else(|| Failure::new(USAGE))
        };
        match option.as_str() {
            "--keep" => keep = true,
            "--binary" => program = Program::lifeboat(value()?),
            "--stand-in" => program = Program::stand_in(value()?),
            _ => return Err(Failure::new(USAGE)),
        }
    }
    Ok(Options { keep, program })
}

pub(crate) fn run(options: &[String]) -> Result<()> {
    let Options { keep, program } = read_options(options)?;
    program.must_exist()?;
    let mut scratch = Scratch::create("demo")?;
    let shown = show(&program, &scratch);
    if keep {
        scratch.keep();
        println!("\n  kept: {}", scratch.path().display());
    }
    shown
}

/// What the story has shown so far and will be told again at its end.
struct Story<'a> {
    screen: Screen,
    program: &'a Program,
    scratch: &'a Scratch,
    live: PathBuf,
}

/// One backup, with what it needed.
struct Backup {
    summary: Summary,
    took: Duration,
    repository_bytes: u64,
}

fn show(program: &Program, scratch: &Scratch) -> Result<()> {
    let story = Story {
        screen: Screen::new(),
        program,
        scratch,
        live: scratch.join("live"),
    };
    story.gather()?;

    story.screen.chapter("A repository, and a first backup");
    let repository = program.repository(&scratch.join("repository"), &scratch.join("password"))?;
    story.timed("init", || repository.init())?;
    let first = story.backup(&repository)?;
    let first_state = scratch.join("first-state");
    copy(&story.live, &first_state)?;

    story.screen.chapter("Life goes on, and a second backup");
    for edit in edits::make(&story.live)? {
        story.screen.note(&edit);
    }
    let second = story.backup(&repository)?;
    story.screen.text(&repository.snapshots()?);

    story
        .screen
        .chapter("Both states come back, compared with copies that were never backed up");
    let first_back = story.restore(&repository, &first.summary, &first_state)?;
    let second_back = story.restore(&repository, &second.summary, &story.live)?;
    story.ask_restic(&repository)?;

    story.conclude(&first, &second, &[first_back, second_back])
}

impl Story<'_> {
    fn gather(&self) -> Result<()> {
        self.screen
            .title("Lifeboat: your own files, there and back");
        self.screen
            .chapter("Real files of this machine, copied so that they may be changed");
        let space = self.scratch.free_bytes()? / SPACE_FACTOR;
        if space < MATERIAL_BYTES_MIN {
            let why = format!(
                "too little space in {}: set TMPDIR",
                self.scratch.path().display()
            );
            return Err(Failure::new(why));
        }
        for taken in material::gather(&self.live, space.min(MATERIAL_BYTES_MAX))? {
            let what = format!(
                "{} files, {}",
                units::count(taken.files),
                units::size(taken.bytes)
            );
            self.screen.row(&shorten(&taken.from), &what, "");
        }
        let odd = oddities::make(&self.live.join("odd"))?;
        self.screen
            .row("and what is easily lost", &odd.made.join(", "), "");
        for missing in odd.impossible {
            self.screen.note(&format!("not on this machine: {missing}"));
        }
        Ok(())
    }

    fn backup(&self, repository: &program::Repository<'_>) -> Result<Backup> {
        let start = Instant::now();
        let summary = repository.backup(&self.live)?;
        let took = start.elapsed();
        let what = format!(
            "{} files, {}; {} stored",
            units::count(summary.files),
            units::size(summary.bytes),
            units::size(summary.stored_bytes),
        );
        self.screen.row("backup", &what, &units::duration(took));
        let what = format!(
            "{} new, {} changed, {} as before",
            units::count(summary.new),
            units::count(summary.changed),
            units::count(summary.unchanged),
        );
        self.screen.row("", &what, "");
        Ok(Backup {
            summary,
            took,
            repository_bytes: tree::measure(repository.path())?.bytes,
        })
    }

    fn restore(
        &self,
        repository: &program::Repository<'_>,
        of: &Summary,
        state: &Path,
    ) -> Result<Comparison> {
        let id = of.short_id();
        let target = self.scratch.join(&format!("restored-{id}"));
        let start = Instant::now();
        repository.restore(&of.snapshot, &target)?;
        let took = start.elapsed();
        let rate = format!("{}, {}", units::size(of.bytes), units::rate(of.bytes, took));
        self.screen
            .row(&format!("restore {id}"), &rate, &units::duration(took));
        let start = Instant::now();
        // As restic does: an absolute path appears whole below the target.
        let restored = target.join(self.live.strip_prefix("/").unwrap_or(&self.live));
        let comparison = compare(state, &restored)?;
        let verdict = match comparison.differences.len() {
            0 => format!(
                "{} entries, {}, no difference",
                units::count(comparison.entries),
                units::size(comparison.bytes)
            ),
            many => format!("{many} differences"),
        };
        self.screen
            .row("  compare", &verdict, &units::duration(start.elapsed()));
        Ok(comparison)
    }

    /// The format is restic's: where restic is at hand, it is asked.
    fn ask_restic(&self, repository: &program::Repository<'_>) -> Result<()> {
        let restic = Toolbox::open()?.bin("restic-0.19");
        if self.program.is_stand_in() || !restic.exists() {
            return Ok(());
        }
        let restic = Program::stand_in(restic);
        let theirs = restic.open(repository);
        self.timed("restic check --read-data", || theirs.check())
    }

    fn conclude(&self, first: &Backup, second: &Backup, back: &[Comparison]) -> Result<()> {
        let differences: Vec<&String> = back
            .iter()
            .flat_map(|comparison| &comparison.differences)
            .collect();
        if !differences.is_empty() {
            for difference in differences.iter().take(20) {
                self.screen.note(difference);
            }
            return Err(Failure::new(format!(
                "{} differences between what was and what came back",
                differences.len()
            )));
        }
        self.screen.chapter("What this showed");
        let kept = first.summary.bytes + second.summary.bytes;
        let ratio = kept as f64 / second.repository_bytes.max(1) as f64;
        let size = format!(
            "{} of backups in a repository of {}: {ratio:.1} to 1",
            units::size(kept),
            units::size(second.repository_bytes)
        );
        self.screen.row("deduplication", &size, "");
        let faster = first.took.as_secs_f64() / second.took.as_secs_f64().max(0.001);
        let again = format!(
            "{} instead of {}: {faster:.1} times as fast, {} stored",
            units::duration(second.took),
            units::duration(first.took),
            units::size(
                second.repository_bytes - first.repository_bytes.min(second.repository_bytes)
            ),
        );
        self.screen.row("second backup", &again, "");
        let sum = |of: fn(&Comparison) -> u64| units::count(back.iter().map(of).sum());
        let proof = format!(
            "every byte, mode, owner, time, link and attribute is back:\n    {} entries compared, with {} hard links and {} attributes",
            sum(|c| c.entries),
            sum(|c| c.hard_links),
            sum(|c| c.attributes),
        );
        self.screen.verdict(&proof);
        Ok(())
    }

    fn timed(&self, what: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
        let start = Instant::now();
        run()?;
        self.screen
            .row(what, "done", &units::duration(start.elapsed()));
        Ok(())
    }
}

/// A path with the home directory as `~`.
fn shorten(path: &Path) -> String {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    match home.as_ref().and_then(|home| path.strip_prefix(home).ok()) {
        Some(rest) => format!("~/{}", rest.display()),
        None => path.display().to_string(),
    }
}

/// A copy with everything, made by a program that has nothing to do with us.
fn copy(from: &Path, to: &Path) -> Result<()> {
    shell::output(
        Command::new("cp")
            .args(["-a", "--reflink=auto", "--"])
            .arg(from)
            .arg(to),
    )
    .map(drop)
}

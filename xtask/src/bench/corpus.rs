//! The data that is backed up: made once, kept in the cache, the same in each run.
//! Making it never counts as work of anybody who is measured.

mod files;
mod postgres;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result, While};
use crate::noise::noise;
use crate::tools::{cache_dir, create_dir};
use crate::tree::{self, Amount};
use crate::units;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Random,
    Tree,
    Postgres,
    /// For servers: large and small files, half of them in a directory of their own.
    Remote,
}

#[derive(Debug)]
pub(super) struct Corpus {
    pub name: String,
    pub path: PathBuf,
    pub amount: Amount,
    what: &'static str,
}

impl Kind {
    /// Those that are backed up to a local repository.
    pub(super) const LOCAL: [Self; 3] = [Self::Random, Self::Tree, Self::Postgres];

    /// Its name among the results.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Tree => "tree",
            Self::Postgres => "postgres",
            Self::Remote => "remote",
        }
    }

    /// The corpus of this kind, made if it is not there yet.
    pub(super) fn ensure(self, quick: bool) -> Result<Corpus> {
        self.ensure_part(quick, 1)
    }

    /// The same with this part of the work: a file as short, or as few of them.
    pub(super) fn ensure_part(self, quick: bool, part: u64) -> Result<Corpus> {
        let (what, number) = match self {
            Self::Random => ("random data", if quick { 64 } else { 2048 }),
            Self::Tree => ("small real files", if quick { 3_000 } else { 110_000 }),
            Self::Postgres => ("a PostgreSQL data directory", if quick { 1 } else { 30 }),
            Self::Remote => ("random data and small files", if quick { 32 } else { 256 }),
        };
        let number = (number / part).max(1);
        let name = match self {
            Self::Random => format!("random-{number}-mib"),
            Self::Tree => format!("tree-{number}-files"),
            Self::Postgres => format!("postgres-scale-{number}"),
            Self::Remote => format!("remote-{number}-mib"),
        };
        let path = once(&name, |partial| match self {
            Self::Random => random(partial, number),
            Self::Tree => files::make(partial, number),
            Self::Postgres => postgres::make(partial, number),
            Self::Remote => remote(partial, number),
        })?;
        Ok(Corpus {
            amount: tree::measure(&path)?,
            name,
            path,
            what,
        })
    }
}

/// What is kept by this name, made if it is not there yet; what was half made is never taken for it.
pub(super) fn once(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let path = cache_dir()?.join("corpora").join(name);
    if !path.exists() {
        println!("making the corpus {name} (once)");
        let partial = path.with_extension(format!("partial-{}", std::process::id()));
        create_dir(&partial)?;
        make(&partial)?;
        std::fs::rename(&partial, &path)
            .doing(|| format!("cannot put {} in its place", path.display()))?;
    }
    Ok(path)
}

impl Corpus {
    pub(super) fn description(&self) -> String {
        let Amount { files, bytes } = self.amount;
        let unit = if files == 1 { "file" } else { "files" };
        format!("{} {unit}, {}", units::count(files), units::size(bytes))
    }

    pub(super) fn title(&self) -> String {
        format!("{}: {}", self.what, self.description())
    }

    /// Reads everything once.
    pub(super) fn warm(&self) -> Result<()> {
        read_all(&self.path)
    }

    /// What was restored below `target` is all there.
    pub(super) fn is_below(&self, target: &Path) -> Result<()> {
        let found = tree::measure(&target.join(self.path.strip_prefix("/").unwrap_or(&self.path)))?;
        if found == self.amount {
            return Ok(());
        }
        let why = format!("restored {found:?} of {:?}", self.amount);
        Err(Failure::new(why))
    }
}

fn read_all(path: &Path) -> Result<()> {
    let meta = path
        .symlink_metadata()
        .doing(|| format!("cannot look at {}", path.display()))?;
    if meta.is_dir() {
        return tree::list(path)?.iter().try_for_each(|path| read_all(path));
    }
    if meta.is_file() {
        let copied = File::open(path).and_then(|mut file| io::copy(&mut file, &mut io::sink()));
        copied.doing(|| format!("cannot read {}", path.display()))?;
    }
    Ok(())
}

/// Files of 16 MiB, and twenty small ones for each MiB.
fn remote(dir: &Path, mib: u64) -> Result<()> {
    for (part, seed) in [("half", 1u64), ("rest", 2)] {
        let dir = dir.join(part);
        create_dir(&dir.join("small"))?;
        let write = |path: PathBuf, content: Vec<u8>| {
            std::fs::write(&path, content).doing(|| format!("cannot write {}", path.display()))
        };
        for number in 0..mib / 32 {
            let content = noise(seed << 32 | number, 16 << 20);
            write(dir.join(format!("large {number}")), content)?;
        }
        for number in 0..mib * 10 {
            let length = 500 + usize::try_from(number % 97).unwrap_or(0) * 100;
            let content = noise(seed << 40 | number, length);
            let folder = dir.join("small").join(format!("{}", number % 50));
            create_dir(&folder)?;
            write(folder.join(format!("{number}")), content)?;
        }
    }
    Ok(())
}

fn random(dir: &Path, mib: u64) -> Result<()> {
    let path = dir.join("random.bin");
    let write = || -> io::Result<()> {
        let mut file = File::create(&path)?;
        for number in 0..mib {
            file.write_all(&noise(number.wrapping_mul(0xd134_2543_de82_ef95), 1 << 20))?;
        }
        Ok(())
    };
    write().doing(|| format!("cannot write {}", path.display()))
}

//! The programs that are compared, and what each is told to do for an operation.
//! Each gets the same task in its own words: as hard a compression, no second look at what it stores, and else its own
//! defaults; none gets an option whose like another has and is not given.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::data::{OPENING, OURS};
use super::place;
use crate::failure::{Failure, Result, While};
use crate::shell;
use crate::tools::{create_dir, restic, rustic};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    FirstBackup,
    UnchangedBackup,
    /// Almost nothing but opening the repository, which is slow on purpose: it is in every other number too.
    Snapshots,
    Restore,
    /// Over what was just restored, reading it to be sure.
    RestoreVerifying,
    /// Over what was just restored, trusting sizes and times.
    RestoreTrusting,
    Check,
}

impl Operation {
    pub(super) const RESTORES: [Self; 3] =
        [Self::Restore, Self::RestoreVerifying, Self::RestoreTrusting];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::FirstBackup => "first backup",
            Self::UnchangedBackup => "unchanged backup",
            Self::Snapshots => OPENING,
            Self::Restore => "restore",
            Self::RestoreVerifying => "restore over the same, verifying",
            Self::RestoreTrusting => "restore over the same, trusting times",
            Self::Check => "check --read-data",
        }
    }
}

/// Where a repository lies in a program's directory, and what is restored from it.
pub(super) const REPOSITORY: &str = "repository";
pub(super) const RESTORED: &str = "restored";
/// Where its password lies.
pub(super) const PASSWORD: &str = "password";

/// The variable that picks the instructions of our hot loops.
pub(super) const KERNEL_VARIABLE: &str = "LIFEBOAT_KERNEL";

/// How a program wants to be spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Lifeboat,
    Restic,
    Rustic,
}

#[derive(Clone, Debug)]
pub(super) struct Tool {
    pub name: &'static str,
    pub version: String,
    program: PathBuf,
    pub dialect: Dialect,
}

/// How often another program may try: rustic's threads fall over each other now and then when they fill its cache.
const OTHERS_TRIES: usize = 5;

impl Dialect {
    /// Does something with a program, and again if it is another one that failed.
    pub(super) fn trying<T>(self, mut work: impl FnMut() -> Result<T>) -> Result<T> {
        let tries = match self {
            Self::Lifeboat => 1,
            _ => OTHERS_TRIES,
        };
        for _ in 1..tries {
            match work() {
                Err(failure) => println!("  once more, for: {failure}"),
                done => return done,
            }
        }
        work()
    }
}

impl Tool {
    pub(super) fn lifeboat(program: PathBuf) -> Result<Self> {
        let said = shell::output(Command::new(&program).arg("--version")).doing(|| {
            format!(
                "{} does not run: use `make bench`, which builds it",
                program.display()
            )
        })?;
        let version = said.split_whitespace().nth(1).unwrap_or("?").to_owned();
        Ok(Self {
            name: OURS,
            version,
            program,
            dialect: Dialect::Lifeboat,
        })
    }

    pub(super) fn restic(program: PathBuf) -> Result<Self> {
        let version =
            restic::version(&program).ok_or_else(|| Failure::new("restic does not run"))?;
        Ok(Self {
            name: "restic",
            version,
            program,
            dialect: Dialect::Restic,
        })
    }

    pub(super) fn rustic(program: PathBuf) -> Result<Self> {
        let version =
            rustic::version(&program).ok_or_else(|| Failure::new("rustic does not run"))?;
        Ok(Self {
            name: "rustic",
            version,
            program,
            dialect: Dialect::Rustic,
        })
    }

    /// An empty repository in `dir`; not measured.
    pub(super) fn prepare(&self, dir: &Path) -> Result<()> {
        create_dir(dir)?;
        std::fs::write(dir.join(PASSWORD), "benchmark\n")
            .doing(|| "cannot write a password".into())?;
        let mut init = self.base(dir);
        shell::output(init.arg("init").args(self.effort())).map(drop)
    }

    /// What makes the effort for a new repository that of the others: rustic would compress with level 3 of the zstd
    /// with which we take 1 for most blobs, and would decrypt everything again before it stores it.
    pub(super) fn effort(&self) -> &'static [&'static str] {
        match self.dialect {
            Dialect::Rustic => &["--set-compression", "1", "--set-extra-verify", "false"],
            _ => &[],
        }
    }

    /// A backup that is told which files changed, by the program that can be told so; the others look at everything.
    pub(super) fn backup_of_changed(
        &self,
        dir: &Path,
        corpus: &Path,
        list: &Path,
    ) -> Result<Command> {
        let mut command = self.command(Operation::UnchangedBackup, dir, corpus)?;
        if self.dialect == Dialect::Lifeboat {
            command.arg("--changed-files").arg(list);
        }
        Ok(command)
    }

    /// The instructions that our hot loops can use here, the best first; nobody else has a choice of them.
    pub(super) fn kernels(&self) -> Result<Vec<String>> {
        let mut asked = self.bare();
        asked
            .env(KERNEL_VARIABLE, "none")
            .args(["-r", "/", "snapshots"]);
        let output = asked.output().doing(|| "cannot start lifeboat".into())?;
        let said = String::from_utf8_lossy(&output.stderr);
        let names = said.split_once("it can run: ").map(|(_, names)| names);
        let names = names.and_then(|names| names.lines().next());
        let names = names.ok_or_else(|| {
            Failure::new(format!(
                "this lifeboat knows no {KERNEL_VARIABLE}: it is too old\n{said}"
            ))
        })?;
        Ok(names.split(", ").map(str::to_owned).collect())
    }

    /// Whether restic finds the repository of another program sound, every byte of it.
    pub(super) fn cross_check(&self, dir: &Path) -> Result<()> {
        let mut check = self.base(dir);
        shell::output(check.args(["check", "--read-data"])).map(drop)
    }

    pub(super) fn command(
        &self,
        operation: Operation,
        dir: &Path,
        corpus: &Path,
    ) -> Result<Command> {
        let mut command = self.base(dir);
        match operation {
            Operation::FirstBackup | Operation::UnchangedBackup => {
                command.arg("backup").arg(corpus);
            }
            Operation::Restore | Operation::RestoreVerifying | Operation::RestoreTrusting => {
                command.args(["restore", "latest"]);
                if self.dialect != Dialect::Rustic {
                    command.arg("--target");
                }
                command
                    .arg(dir.join(RESTORED))
                    .args(self.restore_options(operation));
            }
            Operation::Snapshots => {
                command.arg("snapshots");
            }
            Operation::Check => {
                command.args(["check", "--read-data"]);
            }
        }
        self.forget_cache(dir)?;
        Ok(command)
    }

    /// Two programs verify by default and one trusts by default: all are told which one is meant.
    fn restore_options(&self, operation: Operation) -> &'static [&'static str] {
        match (self.dialect, operation) {
            (Dialect::Rustic, Operation::RestoreVerifying) => &["--verify-existing"],
            (Dialect::Rustic, _) => &[],
            (_, Operation::RestoreVerifying) => &["--overwrite", "always"],
            (_, Operation::RestoreTrusting) => &["--overwrite", "if-changed"],
            _ => &[],
        }
    }

    /// A command of ours on databases.
    pub(super) fn database(&self, dir: &Path, name: &str) -> Command {
        let mut command = self.of_area(dir, "db");
        command.arg(name).env("RESTIC_CACHE_DIR", dir.join("cache"));
        command
            .arg("-r")
            .arg(dir.join(REPOSITORY))
            .arg("--password-file")
            .arg(dir.join(PASSWORD));
        command
    }

    /// Ours on another area than repositories.
    pub(super) fn of_area(&self, dir: &Path, area: &str) -> Command {
        let mut command = self.unset();
        command.arg(area).current_dir(dir);
        command
    }

    /// The program, with nothing of what a user may have set for it.
    pub(super) fn bare(&self) -> Command {
        let mut command = self.unset();
        match self.dialect {
            Dialect::Lifeboat => {
                command.arg("repo");
            }
            // Neither we nor rustic, as it is set up here, decrypt again what was just encrypted.
            Dialect::Restic => {
                command.arg("--no-extra-verify");
            }
            Dialect::Rustic => {}
        }
        command
    }

    fn unset(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_remove(KERNEL_VARIABLE);
        for (name, _) in std::env::vars_os() {
            let shown = name.to_string_lossy();
            if shown.starts_with("RESTIC_") || shown.starts_with("RUSTIC_") {
                command.env_remove(&name);
            }
        }
        command
    }

    fn base(&self, dir: &Path) -> Command {
        let mut command = self.bare();
        match self.dialect {
            Dialect::Lifeboat => {}
            Dialect::Restic => {
                command.arg("--no-cache");
            }
            Dialect::Rustic => {
                command.args(["--no-cache", "--no-progress", "--log-level", "warn"]);
            }
        }
        command
            .env("RESTIC_CACHE_DIR", dir.join("cache"))
            .current_dir(dir);
        command
            .arg("-r")
            .arg(dir.join(REPOSITORY))
            .arg("--password-file")
            .arg(dir.join(PASSWORD));
        command
    }

    /// The peers run without a cache; ours starts with none each time.
    fn forget_cache(&self, dir: &Path) -> Result<()> {
        place::remove(&dir.join("cache"))
    }
}

//! The programs that are compared, and what each is told to do for an operation.
//! Each gets the same task in its own words, with its own defaults; none gets an option that another lacks.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Result, While};
use crate::shell;
use crate::tools::{create_dir, restic, rustic};

/// What is measured, in the order in which it is done.
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
    pub(super) const ALL: [Self; 7] = [
        Self::FirstBackup,
        Self::UnchangedBackup,
        Self::Snapshots,
        Self::Restore,
        Self::RestoreVerifying,
        Self::RestoreTrusting,
        Self::Check,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::FirstBackup => "first backup",
            Self::UnchangedBackup => "unchanged backup",
            Self::Snapshots => "snapshots",
            Self::Restore => "restore",
            Self::RestoreVerifying => "restore over the same, verifying",
            Self::RestoreTrusting => "restore over the same, trusting times",
            Self::Check => "check --read-data",
        }
    }

    pub(super) fn restores(self) -> bool {
        matches!(
            self,
            Self::Restore | Self::RestoreVerifying | Self::RestoreTrusting
        )
    }
}

/// How a program wants to be spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Lifeboat,
    Restic,
    Rustic,
}

#[derive(Debug)]
pub(super) struct Tool {
    pub name: &'static str,
    pub version: String,
    program: PathBuf,
    pub dialect: Dialect,
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
            name: "lifeboat",
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
        std::fs::write(dir.join("password"), "benchmark\n")
            .doing(|| "cannot write a password".into())?;
        shell::output(self.base(dir).arg("init")).map(drop)
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
                    .arg(dir.join("restored"))
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
            (_, Operation::RestoreTrusting) => &["--overwrite", "if-changed"],
            _ => &[],
        }
    }

    /// Where `corpus` is after a restore.
    pub(super) fn restored(&self, dir: &Path, corpus: &Path) -> PathBuf {
        dir.join("restored")
            .join(corpus.strip_prefix("/").unwrap_or(corpus))
    }

    /// The program, with nothing of what a user may have set for it.
    pub(super) fn bare(&self) -> Command {
        let mut command = Command::new(&self.program);
        if self.dialect == Dialect::Lifeboat {
            command.arg("repo");
        }
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
            .arg(dir.join("repository"))
            .arg("--password-file")
            .arg(dir.join("password"));
        command
    }

    /// The peers run without a cache; ours starts with none each time.
    fn forget_cache(&self, dir: &Path) -> Result<()> {
        let cache = dir.join("cache");
        if !cache.exists() {
            return Ok(());
        }
        std::fs::remove_dir_all(&cache).doing(|| format!("cannot remove {}", cache.display()))
    }
}

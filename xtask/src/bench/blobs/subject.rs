//! What each program is told to do with the repository of many blobs, in its own words.
//! It never lets anybody write to it: locks are left out and a prune is only planned.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{CACHED, MAKING_CACHE, NO_CACHE, NO_CACHE_OF_OTHERS, PRUNE};
use crate::bench::tool::{Dialect, Tool};
use crate::failure::{Failure, Result, While};
use crate::shell;

/// What the generator gives each repository.
const PASSWORD: &str = "password\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// With the cache that the same command left.
    Cached,
    /// With an empty folder of caches, as when a machine sees the repository for the first time.
    MakingCache,
    NoCache,
    Prune,
}

impl Task {
    pub(super) const ALL: [Self; 4] = [Self::Cached, Self::MakingCache, Self::NoCache, Self::Prune];

    /// The row where this is shown; nothing for what only we are measured with.
    pub(super) fn row(self, dialect: Dialect) -> Option<&'static str> {
        match (self, dialect) {
            (Self::Cached, _) => Some(CACHED),
            (Self::MakingCache, Dialect::Lifeboat) => Some(MAKING_CACHE),
            (Self::MakingCache, _) => None,
            (Self::NoCache, Dialect::Lifeboat) => Some(NO_CACHE),
            (Self::NoCache, _) => Some(NO_CACHE_OF_OTHERS),
            (Self::Prune, _) => Some(PRUNE),
        }
    }
}

/// What everybody works on.
pub(super) struct Subject {
    repository: PathBuf,
    snapshot: String,
    /// Where caches lie.
    dir: PathBuf,
}

impl Subject {
    /// With caches in `dir`, which a first run has filled.
    pub(super) fn prepare(
        tools: &[Tool],
        repository: PathBuf,
        snapshot: String,
        dir: &Path,
    ) -> Result<Self> {
        let subject = Self {
            repository,
            snapshot,
            dir: dir.to_owned(),
        };
        std::fs::write(subject.password(), PASSWORD).doing(|| "cannot write a password".into())?;
        subject.fill_caches(tools)?;
        Ok(subject)
    }

    fn password(&self) -> PathBuf {
        self.dir.join("password")
    }

    pub(super) fn cache(&self, tool: &Tool, task: Task) -> PathBuf {
        let purpose = match task {
            Task::MakingCache => "new",
            _ => "kept",
        };
        self.dir.join(format!("{}-{purpose}", tool.name))
    }

    /// The first run of what is measured with a cache. What was opened is the same for all.
    fn fill_caches(&self, tools: &[Tool]) -> Result<()> {
        let mut trees = Vec::new();
        for tool in tools {
            trees.push(shell::output(&mut self.command(tool, Task::Cached))?);
            tool.dialect
                .trying(|| shell::output(&mut self.command(tool, Task::Prune)))?;
            if !self.cache(tool, Task::Cached).exists() {
                let name = tool.name;
                return Err(Failure::new(format!("{name} leaves no cache: too old?")));
            }
        }
        let differs = |pair: &[String]| pair[0].trim_end() != pair[1].trim_end();
        match trees.windows(2).any(differs) {
            true => Err(Failure::new("not everybody finds the same tree")),
            false => Ok(()),
        }
    }

    pub(super) fn command(&self, tool: &Tool, task: Task) -> Command {
        let mut command = tool.bare();
        command.current_dir(&self.dir);
        command.arg("-r").arg(&self.repository);
        command.arg("--password-file").arg(self.password());
        match task {
            Task::NoCache => command.arg("--no-cache"),
            _ => command.arg("--cache-dir").arg(self.cache(tool, task)),
        };
        match tool.dialect {
            // It has no locks.
            Dialect::Rustic => command.args(["--no-progress", "--log-level", "warn"]),
            Dialect::Lifeboat | Dialect::Restic => command.arg("--no-lock"),
        };
        match task {
            Task::Prune => command.args(["prune", "--dry-run"]),
            // It needs the index for one tree, and everybody loads it whole.
            _ => command.args(["cat", "tree", &self.snapshot]),
        };
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_of_ours_without_a_cache_are_compared_with_one_of_the_others() {
        for ours in [Task::MakingCache, Task::NoCache] {
            let row = ours.row(Dialect::Lifeboat).unwrap();
            let (row, _) = row.split_once(" by ").unwrap();
            assert_eq!(Task::NoCache.row(Dialect::Restic), Some(row));
        }
        assert_eq!(Task::MakingCache.row(Dialect::Rustic), None);
    }
}

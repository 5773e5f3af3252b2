//! What each program is told to do with a repository in a bucket, in its own words and with its own defaults.
//! None gets an option whose like another has and is not given; each keeps its cache, but restores without one.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::server::Bucket;
use crate::bench::place;
use crate::bench::tool::{Dialect, RESTORED, Tool};
use crate::failure::{Result, While};
use crate::shell;
use crate::tools::create_dir;

/// What is measured, in the order in which it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    FirstBackup,
    UnchangedBackup,
    Restore,
    /// Into a second repository with the same chunker.
    Copy,
    /// After the snapshot of everything was forgotten and one of a half is left.
    Prune,
}

impl Task {
    pub(super) const ALL: [Self; 5] = [
        Self::FirstBackup,
        Self::UnchangedBackup,
        Self::Restore,
        Self::Copy,
        Self::Prune,
    ];

    /// Those that do without a second repository.
    pub(super) const USUAL: [Self; 3] = [Self::FirstBackup, Self::UnchangedBackup, Self::Restore];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::FirstBackup => "first backup",
            Self::UnchangedBackup => "unchanged backup",
            Self::Restore => "restore",
            Self::Copy => "copy",
            Self::Prune => "prune",
        }
    }
}

/// The part of the corpus that is left when the rest is forgotten.
const HALF: &str = "half";
/// The names of a tool's two repositories.
const REPOSITORIES: [&str; 2] = ["one", "two"];

/// Two repositories of one tool in a bucket, and the directory that it works in.
pub(super) struct Place {
    tool: Tool,
    dir: PathBuf,
    bucket: Bucket,
}

impl Place {
    /// Makes the repositories; not measured.
    pub(super) fn prepare(tool: &Tool, dir: &Path, bucket: &Bucket) -> Result<Self> {
        create_dir(dir)?;
        let write = |name: &str, text: &str| {
            std::fs::write(dir.join(name), text).doing(|| format!("cannot write {name}"))
        };
        write("password", "benchmark\n")?;
        let place = Self {
            tool: tool.clone(),
            dir: dir.to_owned(),
            bucket: bucket.clone(),
        };
        let [one, two] = REPOSITORIES;
        if tool.dialect == Dialect::Rustic {
            for name in REPOSITORIES {
                write(&format!("{name}.toml"), &place.profile(name))?;
            }
        }
        shell::output(place.base(one).arg("init").args(tool.effort()))?;
        match tool.dialect {
            // With nothing to copy yet, this makes a repository with the same chunker.
            Dialect::Rustic => {
                shell::output(place.base(one).args(["copy", "--init", "--target", two]))?;
                shell::output(place.base(two).arg("config").args(tool.effort()))?
            }
            _ => {
                let mut init = place.base(two);
                init.args(["init", "--copy-chunker-params"]);
                shell::output(place.from(&mut init, one))?
            }
        };
        Ok(place)
    }

    /// What has to be done before a task and is not measured.
    pub(super) fn before(&self, task: Task, corpus: &Path) -> Result<()> {
        match task {
            Task::Restore => place::remove(&self.dir.join("cache"))?,
            Task::Prune => {
                let one = REPOSITORIES[0];
                shell::output(self.base(one).arg("backup").arg(corpus.join(HALF)))?;
                let mut forget = self.base(one);
                forget.args(["forget", "--keep-last", "1", "--group-by", ""]);
                shell::output(&mut forget)?;
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn command(&self, task: Task, corpus: &Path) -> Command {
        let [one, two] = REPOSITORIES;
        let mut command = self.base(match (task, self.tool.dialect) {
            (Task::Copy, Dialect::Lifeboat | Dialect::Restic) => two,
            _ => one,
        });
        match (task, self.tool.dialect) {
            (Task::FirstBackup | Task::UnchangedBackup, _) => {
                command.arg("backup").arg(corpus);
            }
            (Task::Restore, Dialect::Rustic) => {
                command.args(["restore", "latest"]).arg(self.restored());
            }
            (Task::Restore, _) => {
                command.args(["restore", "latest", "--target"]);
                command.arg(self.restored());
            }
            (Task::Copy, Dialect::Rustic) => {
                command.args(["copy", "--target", two]);
            }
            (Task::Copy, _) => {
                command.arg("copy");
                self.from(&mut command, one);
            }
            // restic always deletes at once.
            (Task::Prune, Dialect::Restic) => {
                command.arg("prune");
            }
            (Task::Prune, _) => {
                command.args(["prune", "--instant-delete"]);
            }
        }
        command
    }

    pub(super) fn restored(&self) -> PathBuf {
        self.dir.join(RESTORED)
    }

    fn location(&self, repository: &str) -> String {
        let Bucket { endpoint, name, .. } = &self.bucket;
        format!("s3:{endpoint}/{name}/{}-{repository}", self.tool.name)
    }

    /// Names the repository to read from.
    fn from<'c>(&self, command: &'c mut Command, repository: &str) -> &'c mut Command {
        command.arg("--from-repo").arg(self.location(repository));
        command.arg("--from-password-file");
        command.arg(self.dir.join("password"))
    }

    fn base(&self, repository: &str) -> Command {
        let mut command = self.tool.bare();
        command.current_dir(&self.dir);
        if self.tool.dialect == Dialect::Rustic {
            command.args(["--no-progress", "--log-level", "warn", "-P", repository]);
            return command;
        }
        command
            .env("AWS_ACCESS_KEY_ID", &self.bucket.key_id)
            .env("AWS_SECRET_ACCESS_KEY", &self.bucket.secret)
            .env("AWS_DEFAULT_REGION", &self.bucket.region)
            .env("RESTIC_CACHE_DIR", self.dir.join("cache"))
            .arg("-r")
            .arg(self.location(repository))
            .arg("--password-file")
            .arg(self.dir.join("password"));
        command
    }

    /// rustic's way to say where a repository is.
    fn profile(&self, repository: &str) -> String {
        let Bucket {
            endpoint,
            name,
            key_id,
            secret,
            region,
        } = &self.bucket;
        format!(
            "[global]\ndry-run = false\n[repository]\nrepository = \"opendal:s3\"\npassword-file = \"{dir}/password\"\n\
             cache-dir = \"{dir}/cache\"\n[repository.options]\nbucket = \"{name}\"\nroot = \"/{tool}-{repository}\"\n\
             endpoint = \"{endpoint}\"\nregion = \"{region}\"\naccess_key_id = \"{key_id}\"\nsecret_access_key = \"{secret}\"\n",
            dir = self.dir.display(),
            tool = self.tool.name,
        )
    }
}

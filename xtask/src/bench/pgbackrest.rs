//! pgBackRest, the peer of captures and pushes: its configuration, and what it is told to do.
//! It must never be set up to do more than the others: nothing encrypted, and the lightest of the good compressions.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::cluster::{Cluster, USER};
use super::s3::Bucket;
use crate::failure::{Failure, Result, While};
use crate::shell;
use crate::tools::{create_dir, packages};

pub(super) const NAME: &str = "pgbackrest";
const STANZA: &str = "bench";

/// pgBackRest with a repository of its own.
pub(super) struct PgBackRest {
    config: PathBuf,
    /// Where its repository is, if that is a directory.
    pub repository: PathBuf,
}

/// Where it stores, and how.
pub(super) enum Store<'a> {
    /// In a directory.
    Dir,
    /// In a bucket behind TLS, without which it can't, and with the process that works ahead.
    Bucket {
        bucket: &'a Bucket,
        port: u16,
        authority: &'a Path,
    },
}

impl PgBackRest {
    /// The version that is installed.
    pub(super) fn version() -> Result<String> {
        packages::ensure(&[packages::PGBACKREST])?;
        let said = shell::output(Command::new(NAME).arg("version"))?;
        said.split_whitespace()
            .nth(1)
            .map(str::to_owned)
            .ok_or_else(|| Failure::new(format!("pgbackrest said {said:?}")))
    }

    /// Sets one up for a cluster, in a directory that must not be there.
    pub(super) fn prepare(
        dir: &Path,
        cluster: &Cluster,
        store: &Store<'_>,
        processes: usize,
    ) -> Result<Self> {
        create_dir(dir)?;
        let repository = dir.join("repository");
        let path = |name: &str| dir.join(name).display().to_string();
        let mut lines = vec![
            "[global]".to_owned(),
            "compress-type=zst".to_owned(),
            "compress-level=1".to_owned(),
            format!("process-max={processes}"),
            "start-fast=y".to_owned(),
            "archive-check=n".to_owned(),
            "log-level-console=error".to_owned(),
            "log-level-file=off".to_owned(),
            format!("lock-path={}", path("lock")),
            format!("log-path={}", path("log")),
            format!("spool-path={}", path("spool")),
        ];
        match store {
            Store::Dir => lines.push(format!("repo1-path={}", repository.display())),
            Store::Bucket {
                bucket,
                port,
                authority,
            } => lines.extend([
                "repo1-type=s3".to_owned(),
                "repo1-path=/pgbackrest".to_owned(),
                "repo1-s3-uri-style=path".to_owned(),
                "archive-async=y".to_owned(),
                format!("repo1-s3-bucket={}", bucket.name),
                format!("repo1-s3-region={}", bucket.region),
                "repo1-s3-endpoint=localhost".to_owned(),
                format!("repo1-storage-port={port}"),
                format!("repo1-storage-ca-file={}", authority.display()),
                format!("repo1-s3-key={}", bucket.key_id),
                format!("repo1-s3-key-secret={}", bucket.secret),
            ]),
        }
        lines.extend([
            format!("[{STANZA}]"),
            format!("pg1-path={}", cluster.data.display()),
            format!("pg1-socket-path={}", cluster.home.display()),
            format!("pg1-user={USER}"),
            String::new(),
        ]);
        let config = dir.join("pgbackrest.conf");
        std::fs::write(&config, lines.join("\n")).doing(|| "cannot write its settings".into())?;
        let made = Self { config, repository };
        let mut create = made.command("stanza-create");
        shell::output(create.arg("--no-online"))?;
        Ok(made)
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(NAME);
        command
            .arg(format!("--config={}", self.config.display()))
            .arg(format!("--stanza={STANZA}"))
            .arg(what);
        command
    }

    /// A backup, the first a full one and the others of what changed.
    pub(super) fn backup(&self, is_first: bool) -> Command {
        let mut command = self.command("backup");
        command.arg(match is_first {
            true => "--type=full",
            false => "--type=incr",
        });
        command
    }

    pub(super) fn restore(&self, target: &Path) -> Command {
        let mut command = self.command("restore");
        command.arg(format!("--pg1-path={}", target.display()));
        command
    }

    /// What the server would call for a segment.
    pub(super) fn push(&self, path: &str) -> Command {
        let mut command = self.command("archive-push");
        command.arg(path);
        command
    }
}

//! The program that is shown, driven as a person would: by its command line, read by its `--json`.
//! Nothing here knows what a repository looks like inside.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::failure::{Failure, Result, While};
use crate::shell;

pub(super) struct Program {
    path: PathBuf,
    /// The words before restic's own, which is what tells us from restic on the command line.
    words: &'static [&'static str],
}

impl Program {
    pub(super) fn lifeboat(path: PathBuf) -> Self {
        Self {
            path,
            words: &["repo"],
        }
    }

    /// A program that is used like restic.
    pub(super) fn stand_in(path: PathBuf) -> Self {
        Self { path, words: &[] }
    }

    pub(super) fn is_stand_in(&self) -> bool {
        self.words.is_empty()
    }

    pub(super) fn must_exist(&self) -> Result<()> {
        if self.path.exists() {
            return Ok(());
        }
        Err(Failure::new(format!(
            "{} is missing: use `make demo`, which builds it",
            self.path.display()
        )))
    }

    /// A place for a repository, and a password for it.
    pub(super) fn repository(&self, path: &Path, password_file: &Path) -> Result<Repository<'_>> {
        use std::io::Write;
        let mut options = std::fs::OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(password_file);
        file.and_then(|mut file| file.write_all(b"women and children first\n"))
            .doing(|| "cannot write a password".into())?;
        Ok(Repository {
            program: self,
            path: path.into(),
            password_file: password_file.into(),
        })
    }

    /// The repository that another program made.
    pub(super) fn open(&self, other: &Repository<'_>) -> Repository<'_> {
        Repository {
            program: self,
            path: other.path.clone(),
            password_file: other.password_file.clone(),
        }
    }
}

pub(super) struct Repository<'a> {
    program: &'a Program,
    path: PathBuf,
    password_file: PathBuf,
}

impl Repository<'_> {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn init(&self) -> Result<()> {
        shell::output(&mut self.command("init")).map(drop)
    }

    pub(super) fn backup(&self, dir: &Path) -> Result<Summary> {
        let said = shell::output(self.command("backup").arg("--json").arg(dir))?;
        let mut messages = said
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let summary = messages.rfind(|message| message["message_type"] == "summary");
        Summary::read(&summary.ok_or_else(|| Failure::new("the backup gave no summary"))?)
    }

    pub(super) fn snapshots(&self) -> Result<String> {
        shell::output(&mut self.command("snapshots"))
    }

    pub(super) fn restore(&self, snapshot: &str, target: &Path) -> Result<()> {
        shell::output(
            self.command("restore")
                .arg(snapshot)
                .arg("--target")
                .arg(target),
        )
        .map(drop)
    }

    pub(super) fn check(&self) -> Result<()> {
        shell::output(self.command("check").arg("--read-data")).map(drop)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program.path);
        command
            .args(self.program.words)
            .arg("-r")
            .arg(&self.path)
            .arg("--password-file")
            .arg(&self.password_file);
        command.arg(verb);
        // What the person's own backups are configured with is none of our business.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("RESTIC_") {
                command.env_remove(name);
            }
        }
        command.env("RESTIC_CACHE_DIR", self.path.with_file_name("cache"));
        command
    }
}

/// What a backup says of itself when it is done.
pub(super) struct Summary {
    pub snapshot: String,
    pub files: u64,
    pub bytes: u64,
    pub stored_bytes: u64,
    pub new: u64,
    pub changed: u64,
    pub unchanged: u64,
}

impl Summary {
    fn read(message: &Value) -> Result<Self> {
        let number = |field: &str| {
            message[field]
                .as_u64()
                .ok_or_else(|| Failure::new(format!("the summary of the backup lacks {field}")))
        };
        let snapshot = message["snapshot_id"].as_str();
        let snapshot =
            snapshot.ok_or_else(|| Failure::new("the summary of the backup names no snapshot"))?;
        Ok(Self {
            snapshot: snapshot.to_owned(),
            files: number("total_files_processed")?,
            bytes: number("total_bytes_processed")?,
            stored_bytes: number("data_added_packed")?,
            new: number("files_new")?,
            changed: number("files_changed")?,
            unchanged: number("files_unmodified")?,
        })
    }

    pub(super) fn short_id(&self) -> &str {
        self.snapshot.get(..8).unwrap_or(&self.snapshot)
    }
}

//! A repository on a server, with a cheap key, and both programs run on it with all that leads there.
//! It must never let a secret of a server into what the program says.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lifeboat_repo::backend::{BackendOptions, open};
use lifeboat_repo::{Identity, KeyCost, Repository};
use lifeboat_testkit::restic::{PASSWORD, Restic, Said};
use tempfile::TempDir;

/// A repository on a server.
pub struct Peer {
    pub location: String,
    options: BackendOptions,
    dir: TempDir,
}

impl Peer {
    /// A place on a server, without a repository.
    pub fn empty(location: String, options: BackendOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            location,
            options,
            dir,
        }
    }

    /// With an empty repository, which opens at once.
    pub fn new(location: String, options: BackendOptions) -> Self {
        let peer = Self::empty(location, options);
        let backend = open(&peer.location.parse().unwrap(), &peer.options).unwrap();
        let who = Identity::of_this_process();
        Repository::init(backend, PASSWORD.as_bytes(), 2, None, &who, KeyCost::Test).unwrap();
        peer
    }

    /// A path on this machine.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Our program with these arguments, with what leads to the server and nothing else of the caller's environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("RESTIC_REPOSITORY", &self.location)
            .env("RESTIC_PASSWORD", PASSWORD)
            .env("RESTIC_FROM_PASSWORD", PASSWORD)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .arg("repo");
        for (name, value) in &self.options.variables {
            command.env(name, value.reveal());
        }
        for (name, value) in &self.options.settings {
            command.arg("-o").arg(format!("{name}={value}"));
        }
        for file in &self.options.tls.ca_files {
            command.arg("--cacert").arg(file);
        }
        command.args(arguments);
        command
    }

    /// Runs it to its end, whatever that is.
    pub fn any(&self, command: &mut Command) -> Said {
        let output = command.output().unwrap();
        let said = Said {
            status: output.status,
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        let shown = format!("{}{}", said.text(), said.stderr);
        assert!(!shown.contains("panicked"), "{shown}");
        for (name, value) in &self.options.variables {
            let is_secret = name.contains("SECRET") || name.contains("PASSWORD");
            assert!(!is_secret || !shown.contains(value.reveal()), "{shown}");
        }
        assert!(!shown.contains(PASSWORD), "{shown}");
        said
    }

    /// Runs it, and wants it to succeed.
    pub fn ok(&self, arguments: &[&str]) -> Said {
        let said = self.any(&mut self.command(arguments));
        assert_eq!(
            said.code(),
            0,
            "{arguments:?}\n{}{}",
            said.text(),
            said.stderr
        );
        said
    }

    /// restic 0.19 reads all there is.
    pub fn restic_checks(&self) {
        let mut restic = Restic::current(Path::new(&self.location));
        for (name, value) in &self.options.variables {
            restic = restic.with_variable(name, value.reveal());
        }
        for file in &self.options.tls.ca_files {
            restic = restic.with_variable("RESTIC_CACERT", &file.display().to_string());
        }
        let settings = self.options.settings.iter();
        let mut arguments: Vec<String> = settings
            .flat_map(|(name, value)| ["-o".to_owned(), format!("{name}={value}")])
            .collect();
        arguments.extend(["check", "--read-data"].map(str::to_owned));
        restic.run(&arguments);
    }
}

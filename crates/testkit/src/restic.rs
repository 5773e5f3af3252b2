//! Runs restic, the oracle: what it reads of ours, and what it writes for us to read.
//! It must never be skipped: a restic that is missing fails the test.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use tempfile::TempDir;

/// The password of all repositories in tests.
pub const PASSWORD: &str = "a password for tests";

/// One restic with one repository and a cache of its own.
#[derive(Debug)]
pub struct Restic {
    binary: PathBuf,
    repository: PathBuf,
    password: String,
    variables: Vec<(String, String)>,
    cache: TempDir,
}

/// What a run of restic said.
#[derive(Clone, Debug)]
pub struct Said {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output, byte for byte.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
}

impl Said {
    /// Standard output as text; what is no UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The lines of standard output, such as one JSON object each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }

    /// The exit status as a number; -1 if it was killed.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }
}

impl Restic {
    /// The current restic, 0.19.
    ///
    /// # Panics
    /// If it is not installed.
    #[must_use]
    pub fn current(repository: &Path) -> Self {
        let found = first_file(&[env_path("LIFEBOAT_RESTIC"), tool("restic-0.19")]);
        Self::of(found, "restic 0.19", repository)
    }

    /// The restic of Debian 12, 0.14.
    ///
    /// # Panics
    /// If it is not installed.
    #[must_use]
    pub fn debian(repository: &Path) -> Self {
        let found = first_file(&[
            env_path("LIFEBOAT_RESTIC_014"),
            tool("restic-0.14"),
            Some(PathBuf::from("/usr/bin/restic")),
        ]);
        Self::of(found, "restic 0.14", repository)
    }

    /// Both, for what must hold with each.
    ///
    /// # Panics
    /// If one is not installed.
    #[must_use]
    pub fn both(repository: &Path) -> [Self; 2] {
        [Self::current(repository), Self::debian(repository)]
    }

    fn of(found: Option<PathBuf>, what: &str, repository: &Path) -> Self {
        let Some(binary) = found else {
            panic!(
                "{what} is not installed, and nothing is proven without it: `make test` installs it"
            );
        };
        let cache =
            tempfile::tempdir().unwrap_or_else(|error| panic!("a cache for {what}: {error}"));
        let restic = Self {
            binary,
            repository: repository.to_path_buf(),
            password: PASSWORD.to_owned(),
            variables: Vec::new(),
            cache,
        };
        let version = restic.run(&["version"]).text();
        assert!(
            version.starts_with(&format!("{what}.")),
            "{} should be {what} and is {version}",
            restic.binary.display()
        );
        restic
    }

    /// With another password than [`PASSWORD`].
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        password.clone_into(&mut self.password);
        self
    }

    /// With a variable in its environment.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs it and wants it to succeed.
    ///
    /// # Panics
    /// If it does not; what it said is in the message.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Said {
        let said = self.try_run(arguments);
        let words: Vec<_> = arguments
            .iter()
            .map(|word| word.as_ref().to_string_lossy())
            .collect();
        assert!(
            said.status.success(),
            "{} {}: {}\n{}{}",
            self.binary.display(),
            words.join(" "),
            said.status,
            said.text(),
            said.stderr
        );
        said
    }

    /// Runs it, however it ends.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn try_run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Said {
        let output = self
            .command()
            .args(arguments)
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", self.binary.display()));
        Said {
            status: output.status,
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Its command with the environment set, for tests that want more than to run it to its end.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("RESTIC_") {
                command.env_remove(name);
            }
        }
        command
            .env("RESTIC_REPOSITORY", &self.repository)
            .env("RESTIC_PASSWORD", &self.password)
            .env("RESTIC_CACHE_DIR", self.cache.path())
            .env("LC_ALL", "C.UTF-8")
            .env("NO_COLOR", "1")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }
}

pub(crate) fn env_path(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    tool_path(&format!("bin/{name}"))
}

/// Where `make test` puts what it installs.
pub fn tool_path(name: &str) -> Option<PathBuf> {
    let tools = env_path("LIFEBOAT_TOOLS").or_else(|| {
        let cache =
            env_path("XDG_CACHE_HOME").or_else(|| Some(env_path("HOME")?.join(".cache")))?;
        Some(cache.join("lifeboat/tools"))
    })?;
    Some(tools.join(name))
}

pub(crate) fn first_file(paths: &[Option<PathBuf>]) -> Option<PathBuf> {
    paths.iter().flatten().find(|path| path.is_file()).cloned()
}

//! Runs ours and restic the same way: with a working directory, an environment, an input and an exit status to expect.

use std::env;
use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lifeboat_testkit::restic::{PASSWORD, Restic, Said};
use serde_json::Value;

/// One of the programs, on one repository.
pub enum Program {
    /// The one that is tested, with a binary of it.
    Ours {
        binary: PathBuf,
        repository: PathBuf,
        password: String,
    },
    /// restic.
    Theirs(Box<Restic>),
}

impl Program {
    /// Ours.
    pub fn ours(repository: &Path) -> Self {
        Self::Ours {
            binary: PathBuf::from(env!("CARGO_BIN_EXE_lifeboat")),
            repository: repository.to_path_buf(),
            password: PASSWORD.to_owned(),
        }
    }

    /// restic 0.19.
    pub fn current(repository: &Path) -> Self {
        Self::Theirs(Box::new(Restic::current(repository)))
    }

    /// restic 0.14.
    pub fn debian(repository: &Path) -> Self {
        Self::Theirs(Box::new(Restic::debian(repository)))
    }

    /// restic 0.19 and 0.14, with their names.
    pub fn both(repository: &Path) -> [(&'static str, Self); 2] {
        [
            ("restic 0.19", Self::current(repository)),
            ("restic 0.14", Self::debian(repository)),
        ]
    }

    /// The repository of ours.
    pub fn repository(&self) -> Option<&Path> {
        match self {
            Self::Ours { repository, .. } => Some(repository),
            Self::Theirs(_) => None,
        }
    }

    /// With another password.
    pub fn with_password(self, new: &str) -> Self {
        match self {
            Self::Ours {
                binary, repository, ..
            } => Self::Ours {
                binary,
                repository,
                password: new.to_owned(),
            },
            Self::Theirs(restic) => Self::Theirs(Box::new(restic.with_password(new))),
        }
    }

    /// A run with these arguments; ours gets `repo` in front.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Run {
        self.run_in("repo", arguments)
    }

    /// A run with these arguments, and for ours an area in front.
    pub fn run_in<S: AsRef<OsStr>>(
        &self,
        area: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Run {
        let mut command = match self {
            Self::Ours {
                binary,
                repository,
                password,
            } => ours(binary, area, repository, password),
            Self::Theirs(restic) => restic.command(),
        };
        command.args(arguments);
        Run {
            command,
            input: None,
        }
    }
}

fn ours(binary: &Path, area: &str, repository: &Path, password: &str) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if ["RESTIC_", "PG"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            command.env_remove(&*name);
        }
    }
    command
        .arg(area)
        .env("RESTIC_REPOSITORY", repository)
        .env("RESTIC_PASSWORD", password)
        .env("LC_ALL", "C.UTF-8")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

/// A run that is about to start.
pub struct Run {
    command: Command,
    input: Option<Vec<u8>>,
}

impl Run {
    /// In this directory.
    pub fn within(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// With a variable.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// With this on standard input.
    pub fn input(mut self, bytes: &[u8]) -> Self {
        self.input = Some(bytes.to_vec());
        self
    }

    /// Runs to the end, which must be success.
    pub fn ok(self) -> Said {
        self.ends(0)
    }

    /// Runs to the end, which must have this status.
    pub fn ends(self, code: i32) -> Said {
        let shown = format!("{:?}", self.command);
        let said = self.any();
        assert_eq!(said.code(), code, "{shown}\n{}{}", said.text(), said.stderr);
        said
    }

    /// Runs to any end.
    pub fn any(mut self) -> Said {
        let shown = format!("{:?}", self.command);
        let output = match self.input.take() {
            None => self.command.output(),
            Some(bytes) => {
                let mut child = self.start();
                let mut pipe = child.stdin.take().unwrap();
                std::thread::scope(|scope| {
                    // Who does not read to the end breaks the pipe, and tells its reason by itself.
                    scope.spawn(move || pipe.write_all(&bytes));
                    child.wait_with_output()
                })
            }
        };
        let output = output.unwrap_or_else(|error| panic!("{shown}: {error}"));
        Said {
            status: output.status,
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Only starts it; its three streams are pipes.
    pub fn start(&mut self) -> Child {
        self.command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.command
            .spawn()
            .unwrap_or_else(|error| panic!("{:?}: {error}", self.command))
    }
}

/// The JSON objects of standard output, one a line.
pub fn objects(said: &Said) -> Vec<Value> {
    let parse = |line: &String| {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
    };
    said.lines().iter().map(parse).collect()
}

/// The summary among them.
pub fn summary(said: &Said) -> Value {
    let is_summary = |object: &Value| object["message_type"] == "summary";
    let found = objects(said).into_iter().rfind(is_summary);
    found.unwrap_or_else(|| panic!("no summary: {}{}", said.text(), said.stderr))
}

/// Standard output as one JSON list.
pub fn array(said: &Said) -> Vec<Value> {
    serde_json::from_slice(&said.stdout).unwrap_or_else(|error| panic!("{}: {error}", said.text()))
}

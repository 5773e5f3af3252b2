//! A place of its own for each test: a directory, repositories in it, and the program run there as a user runs it.
//! It must never let a run pass that shows the password or the words of a panic.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use lifeboat_repo::backend::LocalBackend;
use lifeboat_repo::{Identity, KeyCost, Repository};
use lifeboat_testkit::program::copy_program;
use tempfile::TempDir;

/// The password of every repository here. No output may hold it.
pub const PASSWORD: &str = "Marker-Of-A-Secret-4711";

/// A directory for one test, and a record of what the program said in it.
pub struct World {
    dir: TempDir,
    record: Mutex<String>,
}

impl World {
    /// An empty one.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Other users come here too.
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        Self {
            dir,
            record: Mutex::default(),
        }
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file and the directories around it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Makes a repository whose password costs nothing to try.
    pub fn repository(&self, name: &str) -> Arc<Repository> {
        let backend = Arc::new(LocalBackend::new(self.path(name)));
        let who = Identity::of_this_process();
        Arc::new(
            Repository::init(backend, PASSWORD.as_bytes(), 2, None, &who, KeyCost::Test).unwrap(),
        )
    }

    /// A repository `repo` with one snapshot of a directory `src` of two small files.
    pub fn with_snapshot() -> Self {
        let world = Self::new();
        world.repository("repo");
        world.write("src/a.txt", "first");
        world.write("src/b/c.txt", "second");
        assert_eq!(world.lifeboat(["-q", "backup", "src"]).code, 0);
        world
    }

    /// `lifeboat repo` with these arguments, on the repository `repo`, in this directory, with nothing of the caller's
    /// environment.
    pub fn command<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.arg("repo").args(arguments);
        self.surround(&mut command);
        command
    }

    /// Gives a command the directory and the environment of this world.
    pub fn surround(&self, command: &mut Command) {
        command
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("TZ", "UTC")
            .env("COLUMNS", "100")
            .env("RESTIC_REPOSITORY", self.path("repo"))
            .env("RESTIC_PASSWORD", PASSWORD)
            .stdin(Stdio::null());
    }

    /// Runs it to its end.
    pub fn lifeboat<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Said {
        Said::of(self.command(arguments).output().unwrap())
    }

    /// Runs it and puts what it said under a heading into the record.
    pub fn tell(&self, what: &str, arguments: &[&str]) -> Said {
        self.tell_command(what, &mut self.command(arguments))
    }

    /// The same with a command that was changed before.
    pub fn tell_command(&self, what: &str, command: &mut Command) -> Said {
        let shown: Vec<String> = command
            .get_args()
            .map(|argument| match argument.to_str() {
                Some(plain) if !plain.is_empty() && !plain.contains(char::is_whitespace) => {
                    plain.to_owned()
                }
                _ => format!("{argument:?}"),
            })
            .collect();
        let said = Said::of(command.output().unwrap());
        self.note(what, &format!("lifeboat {}", shown.join(" ")), &said);
        said
    }

    /// Puts what was said into the record.
    pub fn note(&self, what: &str, how: &str, said: &Said) {
        let mut record = self.record.lock().unwrap();
        writeln!(record, "## {what}\n$ {how}").unwrap();
        for (mark, text) in [("", &said.stdout), ("! ", &said.stderr)] {
            for line in text.lines() {
                writeln!(record, "{mark}{line}").unwrap();
            }
        }
        writeln!(record, "= {}\n", said.code).unwrap();
    }

    /// Compares the record with the one that is kept.
    pub fn compare(&self, name: &str) {
        let record = self.record.lock().unwrap().clone();
        let host = Identity::of_this_process().hostname;
        let record = record
            .replace(self.dir.path().to_str().unwrap(), "<dir>")
            .replace(&host, "<host>");
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        for (pattern, replacement) in [
            (r"\b[0-9a-f]{64}\b", "<id>"),
            (
                r"\b(snapshot|snapshots|key|lock|pack|blob|file|repository) [0-9a-f]{8,10}\b",
                "$1 <id>",
            ),
            (
                r"20[2-9]\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?",
                "<time>",
            ),
            (r"PID \d+", "PID <pid>"),
            (r"\(\d[^()]*/s\)", "(<rate>)"),
            (
                r"\.lifeboat-partial-[0-9a-f]+-\d+",
                ".lifeboat-partial-<id>",
            ),
            (
                r"\bany of [0-9a-f]{8}(, [0-9a-f]{8})*(, \d+ more)?;",
                "any of <ids>;",
            ),
            (
                r#""total_duration":[0-9.e-]+"#,
                r#""total_duration":<seconds>"#,
            ),
            (
                r"\bby (root|nobody|[a-z_][a-z0-9_-]*) \(uid \d+, gid \d+\)",
                "by <user>",
            ),
        ] {
            settings.add_filter(pattern, replacement);
        }
        settings.bind(|| insta::assert_snapshot!(name, record));
    }

    /// The files below a directory.
    pub fn files(&self, name: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut dirs = vec![self.path(name)];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path)
                } else {
                    found.push(path)
                }
            }
        }
        found.sort();
        found
    }

    /// The only file in a folder of the repository.
    pub fn only_file(&self, folder: &str) -> PathBuf {
        let files = self.files(folder);
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }

    /// Gives a file another content.
    pub fn replace(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Opens a repository in this process.
    pub fn open(&self, name: &str) -> Arc<Repository> {
        let backend = Arc::new(LocalBackend::new(self.path(name)));
        Arc::new(Repository::open(backend, PASSWORD.as_bytes(), None).unwrap())
    }

    /// Lets everybody read a directory and what is in it, and nobody but root write there.
    pub fn open_to_all(&self, name: &str) {
        let path = self.path(name);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o555)).unwrap();
        for entry in std::fs::read_dir(&path).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{name}/{}", entry.file_name().to_str().unwrap());
            if entry.path().is_dir() {
                self.open_to_all(&name);
            } else {
                std::fs::set_permissions(entry.path(), PermissionsExt::from_mode(0o444)).unwrap();
            }
        }
    }

    /// Lets everybody do everything with a directory and what is in it.
    pub fn open_for_all_to_write(&self, name: &str) {
        let path = self.path(name);
        let mode = if path.is_dir() { 0o777 } else { 0o666 };
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        if path.is_dir() {
            for entry in std::fs::read_dir(&path).unwrap() {
                let inner = entry.unwrap().file_name();
                self.open_for_all_to_write(&format!("{name}/{}", inner.to_str().unwrap()));
            }
        }
    }

    /// Waits until somebody holds a lock on the repository `repo`.
    pub fn wait_for_lock(&self) {
        let began = std::time::Instant::now();
        while self.files("repo/locks").is_empty() {
            assert!(began.elapsed().as_secs() < 60, "no lock appears");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        // It counts when it was looked at once more.
        std::thread::sleep(std::time::Duration::from_millis(300));
    }

    /// `lifeboat repo` as a user that has no rights here but what all have: root becomes another one for that.
    pub fn without_rights<I: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = I>,
    ) -> Command {
        if !rustix::process::geteuid().is_root() {
            return self.command(arguments);
        }
        // The build's directory may be out of reach for others.
        let program = self.path("lifeboat");
        if !program.exists() {
            copy_program(env!("CARGO_BIN_EXE_lifeboat").as_ref(), &program);
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(program).arg("repo").args(arguments);
        self.surround(&mut command);
        command
    }

    /// Flips a bit in the middle of a file.
    pub fn damage(&self, path: &Path) {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// What a run said.
#[derive(Debug)]
pub struct Said {
    /// The exit status; 128 and the signal's number if it was killed, as a shell counts.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    pub fn of(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let code = output.status.code();
        let said = Self {
            code: code.unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        };
        for shown in [&said.stdout, &said.stderr] {
            assert!(!shown.contains(PASSWORD), "the password is shown: {shown}");
            assert!(!shown.contains("panicked"), "{shown}");
        }
        said
    }
}

//! A PostgreSQL cluster for tests: the real server, on a socket of its own, with a directory that goes when it does.
//! It must never outlive the test, nor be stopped by anything but its own process.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::bare::scratch;
use crate::leash::Leashed;
use crate::wait::until;

/// Who runs the server where we are root, which PostgreSQL refuses to be.
const NOBODY: u32 = 65_534;
/// The superuser of every cluster.
pub const USER: &str = "tester";
/// The password of that user, where one is asked for.
pub const PASSWORD: &str = "geheim";
/// The port in the name of the socket, where nobody listens on a port.
const SOCKET_PORT: u16 = 5432;

/// How a cluster is made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// More words for `initdb`.
    pub initdb: Vec<String>,
    /// Settings of the server.
    pub settings: Vec<(String, String)>,
    /// Lines of `pg_hba.conf`; everybody is trusted on the socket if there are none.
    pub hba: Vec<String>,
}

impl Options {
    /// With one more setting.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A cluster, and its server while that runs.
#[derive(Debug)]
pub struct Cluster {
    options: Options,
    port: u16,
    // Before the directory, which it uses until it ends.
    process: Option<Leashed>,
    home: TempDir,
}

impl Cluster {
    /// Makes a cluster and starts its server.
    ///
    /// # Panics
    /// If PostgreSQL is not installed, or does not start.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let mut cluster = Self::make(options);
        cluster.start_again();
        cluster
    }

    /// Makes a cluster whose server does not run yet.
    ///
    /// # Panics
    /// If PostgreSQL is not installed.
    #[must_use]
    pub fn make(options: Options) -> Self {
        let cluster = Self::place(options);
        let password = cluster.home().join("password");
        fs::write(&password, PASSWORD).unwrap();
        give_away(&password);
        let mut initdb = cluster.program("initdb");
        initdb.args([
            "--no-sync",
            "--username",
            USER,
            "--encoding=UTF8",
            "--locale=C",
            "--auth=trust",
        ]);
        initdb
            .args(&cluster.options.initdb)
            .arg("--pwfile")
            .arg(&password);
        succeeded(initdb.arg("-D").arg(cluster.data()).output().unwrap());
        if !cluster.options.hba.is_empty() {
            let lines = cluster.options.hba.join("\n") + "\n";
            fs::write(cluster.data().join("pg_hba.conf"), lines).unwrap();
        }
        cluster
    }

    /// A place for a cluster that somebody else puts into [`data`](Self::data), which is not there yet.
    #[must_use]
    pub fn place(options: Options) -> Self {
        let home = scratch();
        give_away(home.path());
        Self {
            options,
            port: SOCKET_PORT,
            process: None,
            home,
        }
    }

    /// A standby of a server, which streams from it and runs. `more` is for `pg_basebackup`.
    ///
    /// # Panics
    /// If the server does not give its files, or the standby does not start.
    #[must_use]
    pub fn standby_of(primary: &Self, options: Options, more: &[&str]) -> Self {
        let mut standby = Self::place(options);
        let mut copy = primary.program("pg_basebackup");
        copy.args(["--checkpoint=fast", "--no-sync", "--write-recovery-conf"]);
        copy.args(more).arg("-d").arg(primary.url("postgres"));
        succeeded(copy.arg("-D").arg(standby.data()).output().unwrap());
        standby.start_again();
        standby
    }

    /// Lets the server listen on this machine too, from its next start on.
    pub fn listen(&mut self, port: u16) {
        self.port = port;
    }

    /// Sets a setting of the server, from its next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.options
            .settings
            .push((name.to_owned(), value.to_owned()));
    }

    /// Starts the server, after [`stop`](Self::stop) too.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_again(&mut self) {
        self.launch();
        until("the server of a test is ready", || {
            if self.process.as_mut().unwrap().has_ended() {
                panic!("the server did not start:\n{}", self.said());
            }
            let mut ready = self.program("pg_isready");
            ready.arg("--quiet").arg("--host").arg(self.home());
            ready.arg("--port").arg(self.port.to_string());
            ready.status().unwrap().success()
        });
    }

    /// Starts a server that must not come up, and gives what it said.
    ///
    /// # Panics
    /// If it stays.
    pub fn fails(&mut self) -> String {
        self.launch();
        let mut process = self.process.take().unwrap();
        until("the server ended", || process.has_ended());
        self.said()
    }

    fn launch(&mut self) {
        let log = fs::File::options()
            .append(true)
            .create(true)
            .open(self.log())
            .unwrap();
        let program = programs().join("postgres");
        let mut postgres = Leashed::command(program.as_os_str(), self.home(), "INT");
        self.as_server(&mut postgres);
        postgres
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.home());
        let fixed = [
            (
                "listen_addresses",
                if self.port == SOCKET_PORT {
                    ""
                } else {
                    "127.0.0.1"
                },
            ),
            ("port", &*self.port.to_string()),
            ("fsync", "off"),
            ("lc_messages", "C"),
        ];
        let settings = self.options.settings.iter();
        let settings = settings.map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in fixed.into_iter().chain(settings) {
            postgres.arg("-c").arg(format!("{name}={value}"));
        }
        postgres.stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(Leashed::start(&mut postgres).unwrap());
    }

    /// Waits until the server has replayed all that it should.
    ///
    /// # Panics
    /// If it does not come to that.
    pub fn recovered(&self) {
        until("the recovery ended", || {
            self.sql("select pg_is_in_recovery()") == "f"
        });
    }

    /// Stops the server as it should be, and waits for it.
    ///
    /// # Panics
    /// If it does not run.
    pub fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        assert!(process.stop().success(), "{}", self.said());
    }

    /// Ends it in the middle of whatever it does, as a machine that loses its power.
    ///
    /// # Panics
    /// If it does not run.
    pub fn crash(&mut self) {
        let mut process = self.process.take().unwrap();
        let pid = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let pid = pid
            .lines()
            .next()
            .and_then(|pid| pid.parse().ok())
            .and_then(Pid::from_raw);
        rustix::process::kill_process(pid.unwrap(), Signal::QUIT).unwrap();
        until("the server ended", || process.has_ended());
    }

    /// The URL of a database, over the socket.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgresql://{USER}@/{database}?host={}&port={}",
            self.home().display(),
            self.port
        )
    }

    /// What `psql` prints for some SQL, without headings.
    ///
    /// # Panics
    /// If it fails.
    pub fn sql(&self, sql: &str) -> String {
        let mut psql = self.program("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]);
        let output = succeeded(psql.arg(self.url("postgres")).output().unwrap());
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.home().join("data")
    }

    /// A directory that the server may use, which goes with the cluster.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// What the server has said.
    ///
    /// # Panics
    /// If its log can't be read.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap()
    }

    fn log(&self) -> PathBuf {
        self.home().join("log")
    }

    /// One of the programs of PostgreSQL, as the user of the server.
    ///
    /// # Panics
    /// If PostgreSQL is not installed.
    #[must_use]
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(programs().join(name));
        self.as_server(&mut command);
        command
    }

    fn as_server(&self, command: &mut Command) {
        command.current_dir(self.home()).stdin(Stdio::piped());
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
    }
}

/// Gives a file to the user of servers, if we are root.
pub fn give_away(path: &Path) {
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }
}

/// The directory of the newest server's programs.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions
        .map(|entry| entry.path())
        .filter(|path| path.join("bin/initdb").exists());
    let newest = newest.max_by_key(number);
    newest
        .expect("PostgreSQL is not installed: cargo xtask tools")
        .join("bin")
}

fn succeeded(output: Output) -> Output {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    output
}

//! A private sshd on a free port of this machine, with keys, users and configuration of its own, to test SFTP against.
//! It must never touch the machine's own sshd or anybody's `~/.ssh`, and never outlive its test.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lifeboat_repo::backend::BackendOptions;
use tempfile::TempDir;

use crate::leash::Leashed;

/// Debian's place; sshd wants to be called by its whole path.
const SSHD: &str = "/usr/sbin/sshd";
/// Where sshd parts with its rights, when root runs it; it does not make the folder itself.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";
/// How long it may take to begin.
const START_MAX: Duration = Duration::from_secs(60);
const START_ATTEMPTS: u32 = 10;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A private sshd, which is stopped when this is dropped.
#[derive(Debug)]
pub struct Sshd {
    // Before the directory, which it uses until it ends.
    server: Option<Leashed>,
    folder: TempDir,
    port: u16,
    user: String,
    subsystem: String,
}

impl Sshd {
    /// Starts one with OpenSSH's own SFTP server.
    ///
    /// # Panics
    /// If it can't be started.
    #[must_use]
    pub fn start() -> Self {
        Self::with_subsystem("internal-sftp")
    }

    /// Starts one with another SFTP server, such as `internal-sftp -R`, which only reads.
    ///
    /// # Panics
    /// If it can't be started.
    #[must_use]
    pub fn with_subsystem(subsystem: &str) -> Self {
        assert!(
            Path::new(SSHD).is_file(),
            "sshd is not installed, and nothing is proven without it: `make test` installs it (openssh-server)"
        );
        if rustix::process::geteuid().is_root() {
            let made = fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(PRIVILEGE_SEPARATION);
            made.unwrap_or_else(|error| panic!("{PRIVILEGE_SEPARATION}: {error}"));
        }
        let mut sshd = Self {
            folder: tempfile::Builder::new()
                .prefix("sshd-")
                .tempdir()
                .unwrap_or_else(|error| panic!("a folder for sshd: {error}")),
            server: None,
            port: 0,
            user: said(Command::new("id").arg("-un")).trim().to_owned(),
            subsystem: subsystem.to_owned(),
        };
        for name in ["host_key", "user_key"] {
            sshd.new_key(name);
        }
        fs::copy(sshd.path("user_key.pub"), sshd.path("authorized_keys"))
            .unwrap_or_else(|error| panic!("authorized_keys: {error}"));
        // Somebody else may take the port between the look and the start.
        for _ in 0..START_ATTEMPTS {
            sshd.port = free_port();
            sshd.trust_host_key();
            if sshd.try_start() {
                return sshd;
            }
        }
        panic!("sshd does not start:\n{}", sshd.log());
    }

    /// The location of a directory of this machine, through this server.
    #[must_use]
    pub fn location(&self, path: &Path) -> String {
        self.location_through(self.port, path)
    }

    /// As [`location`](Self::location), through another port that leads to this server.
    #[must_use]
    pub fn location_through(&self, port: u16, path: &Path) -> String {
        format!("sftp://{}@127.0.0.1:{port}/{}", self.user, path.display())
    }

    /// Options that let our backend in, and nobody be asked anything.
    #[must_use]
    pub fn options(&self) -> BackendOptions {
        let mut options = BackendOptions::default();
        options
            .settings
            .insert("sftp.args".to_owned(), self.arguments());
        options
    }

    /// What restic's and our `-o sftp.args=` must be.
    #[must_use]
    pub fn arguments(&self) -> String {
        format!("-F '{}'", self.client_config().display())
    }

    /// A configuration of ssh that trusts this server, and has the key of its user.
    #[must_use]
    pub fn client_config(&self) -> PathBuf {
        self.path("ssh_config")
    }

    /// The host keys that are trusted.
    #[must_use]
    pub fn known_hosts(&self) -> PathBuf {
        self.path("known_hosts")
    }

    /// The public keys that may come in.
    #[must_use]
    pub fn authorized_keys(&self) -> PathBuf {
        self.path("authorized_keys")
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The user who may come in: whoever runs the test.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// What the server wrote to its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Trusts the host key for this port, and for another one that leads here.
    ///
    /// # Panics
    /// If the file can't be written.
    pub fn trust_host_key_at(&self, port: u16) {
        let key = self.read("host_key.pub");
        let mut known = fs::read_to_string(self.known_hosts()).unwrap_or_default();
        writeln!(known, "[127.0.0.1]:{port} {}", key.trim()).unwrap_or_default();
        self.write("known_hosts", &known);
    }

    /// Makes a key pair in the server's folder: `name` and `name.pub`.
    ///
    /// # Panics
    /// If it can't be made.
    pub fn new_key(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let _ = fs::remove_file(&path);
        said(
            Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
                .arg(&path),
        );
        path
    }

    /// Stops the server, so that nobody listens any more.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Starts a stopped server anew, on the same port.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_again(&mut self) {
        for _ in 0..START_ATTEMPTS {
            if self.try_start() {
                return;
            }
            // Somebody's connection has this very port; it will be let go.
            std::thread::sleep(LOOK_AGAIN * 50);
        }
        panic!("sshd does not start:\n{}", self.log());
    }

    fn trust_host_key(&self) {
        self.write("known_hosts", "");
        self.trust_host_key_at(self.port);
        let config = format!(
            "Host *\nBatchMode yes\nIdentityFile {}\nIdentitiesOnly yes\nIdentityAgent none\n\
             UserKnownHostsFile {}\nGlobalKnownHostsFile none\nStrictHostKeyChecking yes\nUpdateHostKeys no\n",
            self.path("user_key").display(),
            self.known_hosts().display(),
        );
        self.write("ssh_config", &config);
    }

    fn try_start(&mut self) -> bool {
        let config = format!(
            "ListenAddress 127.0.0.1:{}\nHostKey {}\nPidFile {}\nAuthorizedKeysFile {}\nStrictModes no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nPermitRootLogin yes\n\
             MaxStartups 100\nMaxSessions 100\nUseDNS no\nSubsystem sftp {}\n",
            self.port,
            self.path("host_key").display(),
            self.path("pid").display(),
            self.authorized_keys().display(),
            self.subsystem,
        );
        // From 9.8 on sshd punishes addresses whose logins failed, and all of ours are one.
        self.write("sshd_config", &format!("{config}PerSourcePenalties no\n"));
        let mut check = Command::new(SSHD);
        let check = self.configured(&mut check).arg("-t");
        check.stdin(Stdio::null()).stderr(Stdio::null());
        if !check.status().is_ok_and(|status| status.success()) {
            self.write("sshd_config", &config);
        }
        let log =
            fs::File::create(self.path("log")).unwrap_or_else(|error| panic!("a log: {error}"));
        let mut server = Leashed::command(OsStr::new(SSHD), self.folder.path(), "KILL");
        let server = self.configured(&mut server).args(["-D", "-e"]).stderr(log);
        let server = Leashed::start(server).unwrap_or_else(|error| panic!("sh: {error}"));
        self.server = Some(server);
        let begun = Instant::now();
        while begun.elapsed() < START_MAX {
            let ended = self.server.as_mut().is_some_and(Leashed::has_ended);
            if ended {
                break;
            }
            // Only an sshd of ours writes this file, whoever else may listen.
            if self.path("pid").is_file() && greets(self.port) {
                return true;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        self.stop();
        false
    }

    fn configured<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.arg("-f").arg(self.path("sshd_config"));
        command.stdout(Stdio::null())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// A port on which nobody listens now.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address
        .unwrap_or_else(|error| panic!("no free port: {error}"))
        .port()
}

fn greets(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(stream) = TcpStream::connect(address) else {
        return false;
    };
    let mut line = String::new();
    stream.set_read_timeout(Some(START_MAX)).is_ok()
        && BufReader::new(stream).read_line(&mut line).is_ok()
        && line.starts_with("SSH-")
}

/// What a program that succeeds writes to its standard output.
fn said(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

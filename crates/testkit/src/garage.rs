//! A Garage of its own for a test binary: one node, one bucket, one key, on free ports in a temporary directory.
//! It must never be skipped: a Garage that is missing fails the test.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

use lifeboat_repo::backend::{BackendOptions, Secret};
use tempfile::TempDir;

use crate::leash::Leashed;
use crate::restic::{env_path, first_file, tool_path};

const KEY_ID: &str = "GK00000000000000000000beef";
const SECRET: &str = "00000000000000000000000000000000000000000000000000000000000000aa";
const BUCKET: &str = "bucket";
const REGION: &str = "garage";
/// How long it may take to start, on a machine that does much else.
const START_MAX: Duration = Duration::from_secs(60);
/// Ports are free only until somebody else takes them.
const START_ATTEMPTS: usize = 5;

/// A running server. It stops when it is dropped, or when the test binary ends.
#[derive(Debug)]
pub struct Garage {
    binary: PathBuf,
    // Before the directory, which it uses until it ends.
    server: Leashed,
    dir: TempDir,
    port: u16,
    reader: Once,
}

impl Garage {
    /// Starts one.
    ///
    /// # Panics
    /// If it is not installed or does not start.
    #[must_use]
    pub fn start() -> Self {
        let installed = tool_path("garage").map(|root| root.join("bin/garage"));
        let Some(binary) = first_file(&[env_path("LIFEBOAT_GARAGE"), installed]) else {
            panic!(
                "Garage is not installed, and nothing is proven without it: `make test` installs it"
            );
        };
        let mut why = String::new();
        for _ in 0..START_ATTEMPTS {
            match Self::try_start(&binary) {
                Ok(garage) => return garage,
                Err(said) => why = said,
            }
        }
        panic!("Garage does not start: {why}");
    }

    fn try_start(binary: &Path) -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (port, rpc_port) = (free_port(), free_port());
        let config = format!(
            r#"metadata_dir = "{dir}/meta"
data_dir = "{dir}/data"
db_engine = "sqlite"
replication_factor = 1
rpc_bind_addr = "127.0.0.1:{rpc_port}"
rpc_public_addr = "127.0.0.1:{rpc_port}"
rpc_secret = "{secret}"
[s3_api]
s3_region = "{REGION}"
api_bind_addr = "127.0.0.1:{port}"
"#,
            dir = dir.path().display(),
            secret = "5".repeat(64),
        );
        fs::write(dir.path().join("garage.toml"), config).map_err(|error| error.to_string())?;
        let log = fs::File::create(dir.path().join("log")).map_err(|error| error.to_string())?;
        let mut server = Leashed::command(binary.as_os_str(), dir.path(), "KILL");
        own(&mut server, dir.path())
            .args(["server", "--single-node", "--default-bucket"])
            .env("GARAGE_DEFAULT_ACCESS_KEY", KEY_ID)
            .env("GARAGE_DEFAULT_SECRET_KEY", SECRET)
            .env("GARAGE_DEFAULT_BUCKET", BUCKET)
            .stderr(log);
        let server = Leashed::start(&mut server).map_err(|error| format!("sh: {error}"))?;
        let mut garage = Self {
            binary: binary.to_path_buf(),
            dir,
            port,
            server,
            reader: Once::new(),
        };
        let until = Instant::now() + START_MAX;
        while !garage.is_ready() {
            if garage.server.has_ended() || Instant::now() > until {
                let log = fs::read_to_string(garage.dir.path().join("log")).unwrap_or_default();
                return Err(log);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(garage)
    }

    /// Whether the key may use the bucket, which is the last thing that it sets up.
    fn is_ready(&self) -> bool {
        let listens = std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok();
        listens && {
            let said = self.output(&["bucket", "info", BUCKET]);
            said.status.success() && String::from_utf8_lossy(&said.stdout).contains(KEY_ID)
        }
    }

    /// Its URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The bucket that exists.
    #[must_use]
    pub fn bucket(&self) -> &'static str {
        BUCKET
    }

    /// The access key, which may do everything.
    #[must_use]
    pub fn key_id(&self) -> &'static str {
        KEY_ID
    }

    /// Its secret.
    #[must_use]
    pub fn secret(&self) -> &'static str {
        SECRET
    }

    /// Its region.
    #[must_use]
    pub fn region(&self) -> &'static str {
        REGION
    }

    /// A location in the bucket, as a user writes it.
    #[must_use]
    pub fn location(&self, prefix: &str) -> String {
        format!("s3:{}/{BUCKET}/{prefix}", self.endpoint())
    }

    /// What a user would set to reach it; the region is left to be found out.
    #[must_use]
    pub fn options(&self) -> BackendOptions {
        options(KEY_ID, SECRET)
    }

    /// What a user would set who may only read.
    ///
    /// # Panics
    /// If Garage does not make the key.
    #[must_use]
    pub fn reader(&self) -> BackendOptions {
        let (id, secret) = (format!("GK{}", "1".repeat(24)), "b".repeat(64));
        self.reader.call_once(|| {
            self.run(&["key", "import", "--yes", "-n", "reader", &id, &secret]);
            self.run(&["bucket", "allow", "--read", BUCKET, "--key", &id]);
        });
        options(&id, &secret)
    }

    /// Runs `garage` with these arguments and returns what it said.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "garage {arguments:?}: {said}{errors}"
        );
        said
    }

    fn output(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.binary);
        let command = own(&mut command, self.dir.path()).stdin(Stdio::null());
        command.args(arguments).output().expect("garage runs")
    }
}

/// Leads a command to the configuration in this directory, whatever our environment says.
fn own<'a>(command: &'a mut Command, dir: &Path) -> &'a mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GARAGE_") {
            command.env_remove(name);
        }
    }
    command
        .arg("-c")
        .arg(dir.join("garage.toml"))
        .stdout(Stdio::piped())
}

fn options(key_id: &str, secret: &str) -> BackendOptions {
    let variables = BTreeMap::from([
        ("AWS_ACCESS_KEY_ID".to_owned(), Secret::new(key_id)),
        ("AWS_SECRET_ACCESS_KEY".to_owned(), Secret::new(secret)),
    ]);
    BackendOptions {
        variables,
        ..BackendOptions::default()
    }
}

/// A port that nobody listens on at this moment.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

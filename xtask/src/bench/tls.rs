//! TLS in front of a server that speaks none, by stunnel.
//! Its key never lies anywhere but in the directory of the one run that it was made for.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result, While};
use crate::shell;
use crate::tools::{create_dir, packages};

/// How long it may take to listen.
const START_WAIT_MAX: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A port of this machine that leads to a server.
pub(super) struct Tls {
    process: Child,
    /// Where it listens.
    pub port: u16,
    /// The certificate to be trusted.
    pub authority: PathBuf,
}

impl Tls {
    /// Listens in front of an address, `HOST:PORT`.
    pub(super) fn start(dir: &Path, to: &str) -> Result<Self> {
        packages::ensure(&[packages::STUNNEL])?;
        create_dir(dir)?;
        let (key, authority) = (dir.join("key.pem"), dir.join("certificate.pem"));
        let mut openssl = Command::new("openssl");
        openssl.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ]);
        openssl.args(["-nodes", "-days", "2", "-subj", "/CN=localhost"]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        openssl.args([
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout",
        ]);
        shell::output(openssl.arg(&key).arg("-out").arg(&authority))?;
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|free| free.local_addr())
            .doing(|| "cannot find a free port".into())?
            .port();
        let settings = format!(
            "foreground = yes\nsyslog = no\ndebug = err\n[s3]\naccept = 127.0.0.1:{port}\nconnect = {to}\ncert = {}\nkey = {}\n",
            authority.display(),
            key.display()
        );
        let file = dir.join("stunnel.conf");
        std::fs::write(&file, settings).doing(|| "cannot write the settings of stunnel".into())?;
        let process = Command::new("stunnel")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .doing(|| "cannot start stunnel".into())?;
        let tls = Self {
            process,
            port,
            authority,
        };
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if began.elapsed() > START_WAIT_MAX {
                return Err(Failure::new("stunnel does not listen"));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(tls)
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

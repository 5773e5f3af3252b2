//! Certificates for servers in tests: an authority that nobody knows, and a server's certificate that it signed.
//! It must never be trusted by anything but the test that made it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Files with certificates and keys, PEM.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The authority, to be trusted.
    pub authority: PathBuf,
    /// The server's certificate for `localhost` and `127.0.0.1`.
    pub server: PathBuf,
    /// The server's key.
    pub server_key: PathBuf,
    /// A certificate that the server made for itself, as documentations tell people to: authority and server in one.
    pub alone: PathBuf,
    /// Its key.
    pub alone_key: PathBuf,
}

const NAMES: &str = "subjectAltName=DNS:localhost,IP:127.0.0.1";
const CURVE: &str = "ec_paramgen_curve:prime256v1";

impl Certificates {
    /// Makes them in a directory.
    ///
    /// # Panics
    /// If openssl is missing or fails.
    #[must_use]
    pub fn make(folder: &Path) -> Self {
        let file = |name: &str| folder.join(name);
        let made = Self {
            authority: file("ca.pem"),
            server: file("server.pem"),
            server_key: file("server.key"),
            alone: file("alone.pem"),
            alone_key: file("alone.key"),
        };
        let request = |key: &Path, to: &Path, more: &[&str]| {
            let mut command = openssl("req");
            command.args(["-x509", "-newkey", "ec", "-pkeyopt", CURVE, "-nodes"]);
            command.args(["-days", "30"]);
            command.arg("-keyout").arg(key).arg("-out").arg(to);
            run(command.args(more));
        };
        let authority_key = file("ca.key");
        request(
            &authority_key,
            &made.authority,
            &["-subj", "/CN=an authority for tests"],
        );
        let alone = ["-subj", "/CN=localhost", "-addext", NAMES];
        request(&made.alone_key, &made.alone, &alone);
        let mut command = openssl("req");
        command.args(["-x509", "-newkey", "ec", "-pkeyopt", CURVE, "-nodes"]);
        command.args(["-days", "30", "-subj", "/CN=localhost", "-addext", NAMES]);
        command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        command.arg("-CA").arg(&made.authority);
        command.arg("-CAkey").arg(&authority_key);
        command.arg("-keyout").arg(&made.server_key);
        run(command.arg("-out").arg(&made.server));
        made
    }
}

fn openssl(what: &str) -> Command {
    let mut command = Command::new("openssl");
    command.arg(what).stdin(Stdio::null());
    command
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("openssl: {error}; `make test` installs it"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
}

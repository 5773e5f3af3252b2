//! A certificate authority for one test, and a server's certificate for `localhost` that it signed.
//! It must never leave anything behind that another program would trust.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// An authority and what it signed, as files that are removed with it.
#[derive(Debug)]
pub struct Authority {
    dir: TempDir,
    ca: PathBuf,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// A new one, made by `openssl`.
    ///
    /// # Panics
    /// If that is missing or fails.
    #[must_use]
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let openssl = |arguments: &str| {
            let mut command = Command::new("openssl");
            command
                .current_dir(dir.path())
                .args(arguments.split_whitespace());
            let output = command
                .output()
                .unwrap_or_else(|error| panic!("openssl: {error}; `make test` installs it"));
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "openssl {arguments}: {said}");
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        openssl(&format!(
            "req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=lifeboat-test-authority"
        ));
        openssl(&format!(
            "req -x509 {key} -keyout server.key -out server.pem -days 2 -subj /CN=localhost -CA ca.pem -CAkey ca.key \
             -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE"
        ));
        let ca = dir.path().join("ca.pem");
        Self { dir, ca }
    }

    /// The certificate to trust, PEM.
    #[must_use]
    pub fn ca_file(&self) -> &Path {
        &self.ca
    }

    /// The server's certificate, PEM.
    #[must_use]
    pub fn certificate_file(&self) -> PathBuf {
        self.dir.path().join("server.pem")
    }

    /// The server's key, PEM.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.dir.path().join("server.key")
    }

    /// What takes TLS off a connection, for servers in this process.
    ///
    /// # Panics
    /// If the files can't be used.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        let certificates: Vec<_> = CertificateDer::pem_file_iter(self.certificate_file())
            .and_then(Iterator::collect)
            .expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(self.key_file()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .expect("a certificate and its key");
        TlsAcceptor::from(Arc::new(config))
    }
}

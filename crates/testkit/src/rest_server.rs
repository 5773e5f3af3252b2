//! rest-server for tests: the real one, on a free port, with a directory that goes when it does.
//! It must never outlive the test, nor be stopped by anything but its own process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use lifeboat_repo::backend::{BackendOptions, Location, Secret};
use tempfile::TempDir;

use crate::bare::scratch;
use crate::leash::Leashed;
use crate::restic::{PASSWORD, env_path, first_file, tool};
use crate::tls::Certificates;

/// The user that a server with [`Options::auth`] knows; the password is [`PASSWORD`].
pub const USER: &str = "tester";
/// SHA-1 of the password, as a line of Apache's htpasswd has it.
const PASSWORD_SHA1: &str = "{SHA}9A8HCHCvJce4TgdK+QB/NOelssA=";

/// How a server is run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Nothing but locks can be removed.
    pub append_only: bool,
    /// It wants a user and a password.
    pub auth: bool,
    /// Users see only repositories below their own name; with `auth`.
    pub private: bool,
    /// It speaks HTTPS, with a certificate of an authority that nobody knows.
    pub tls: bool,
    /// With `tls`: with a certificate that it made for itself, as its documentation says.
    pub self_signed: bool,
    /// The most it keeps, in bytes.
    pub max_size_bytes: Option<u64>,
}

/// A running rest-server.
#[derive(Debug)]
pub struct RestServer {
    options: Options,
    // Before the directory, which it uses until it ends.
    process: Option<Leashed>,
    folder: TempDir,
    certificates: Option<Certificates>,
    address: String,
}

impl RestServer {
    /// Starts one.
    ///
    /// # Panics
    /// If it is not installed or does not start.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let folder = scratch();
        let certificates = options.tls.then(|| Certificates::make(folder.path()));
        fs::create_dir(folder.path().join("data")).unwrap();
        let users = format!("{USER}:{PASSWORD_SHA1}\n");
        fs::write(folder.path().join("users"), users).unwrap();
        let mut server = Self {
            options,
            folder,
            certificates,
            address: "127.0.0.1:0".to_owned(),
            process: None,
        };
        server.start_again();
        server
    }

    /// Starts it after [`stop`](Self::stop), on the same port and with the same files.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_again(&mut self) {
        let binary = program();
        let mut command = Leashed::command(binary.as_os_str(), self.folder.path(), "KILL");
        command.args(["--listen", &self.address, "--path"]);
        command.arg(self.folder.path().join("data"));
        if self.options.append_only {
            command.arg("--append-only");
        }
        if self.options.private {
            command.arg("--private-repos");
        }
        if self.options.auth {
            let users = self.folder.path().join("users");
            command.arg("--htpasswd-file").arg(users);
        } else {
            command.arg("--no-auth");
        }
        if let Some(certificates) = &self.certificates {
            command.arg("--tls");
            let (certificate, key) = match self.options.self_signed {
                true => (&certificates.alone, &certificates.alone_key),
                false => (&certificates.server, &certificates.server_key),
            };
            command.arg("--tls-cert").arg(certificate);
            command.arg("--tls-key").arg(key);
        }
        if let Some(bytes) = self.options.max_size_bytes {
            command.args(["--max-size", &bytes.to_string()]);
        }
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Leashed::start(&mut command).unwrap();
        let mut lines = BufReader::new(process.take_stderr().unwrap()).lines();
        let mut said = String::new();
        let address = loop {
            match lines.next() {
                Some(Ok(line)) => match line.split_once("start server on ") {
                    Some((_, address)) => break address.to_owned(),
                    None => said.push_str(&format!("{line}\n")),
                },
                _ => panic!("rest-server did not start:\n{said}"),
            }
        };
        // Or it would wait for somebody to read what it says.
        std::thread::spawn(move || lines.for_each(drop));
        self.address = address;
        self.process = Some(process);
    }

    /// Stops it at once; its files stay.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The URL of a repository, with a slash at its end and without credentials.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.options.tls { "https" } else { "http" };
        let path = path.trim_matches('/');
        let slash = if path.is_empty() { "" } else { "/" };
        format!("{scheme}://{}/{path}{slash}", self.address)
    }

    /// What a user would write for a repository here, as `-r` takes it; without credentials.
    #[must_use]
    pub fn repository(&self, path: &str) -> String {
        format!("rest:{}", self.url(path))
    }

    /// The location of a repository here.
    ///
    /// # Panics
    /// If there is no such location.
    #[must_use]
    pub fn location(&self, path: &str) -> Location {
        self.repository(path).parse().unwrap()
    }

    /// What a client needs beside the location: the variables of [`variables`](Self::variables) and the authority.
    #[must_use]
    pub fn options(&self) -> BackendOptions {
        let mut options = BackendOptions::default();
        for (name, value) in self.variables() {
            options.variables.insert(name, Secret::new(value));
        }
        if let Some(certificates) = &self.certificates {
            let trusted = match self.options.self_signed {
                true => &certificates.alone,
                false => &certificates.authority,
            };
            options.tls.ca_files.push(trusted.clone());
        }
        options
    }

    /// What a user would set in the environment.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        match self.options.auth {
            false => Vec::new(),
            true => vec![
                ("RESTIC_REST_USERNAME".into(), USER.into()),
                ("RESTIC_REST_PASSWORD".into(), PASSWORD.into()),
            ],
        }
    }

    /// The certificates, with [`Options::tls`].
    #[must_use]
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// Where it keeps the files of a repository.
    #[must_use]
    pub fn directory(&self, path: &str) -> PathBuf {
        self.folder.path().join("data").join(Path::new(path))
    }
}

fn program() -> PathBuf {
    first_file(&[env_path("LIFEBOAT_REST_SERVER"), tool("rest-server")]).unwrap_or_else(|| {
        panic!("rest-server is not installed, and nothing is proven without it: `make test` installs it")
    })
}

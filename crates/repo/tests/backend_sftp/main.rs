//! The SFTP backend against a real sshd: it keeps the contract, leaves restic's layout and survives what a network does.

mod contract;
mod failures;
mod gate;
mod interop;
mod loss;

use std::path::PathBuf;

use lifeboat_repo::backend::{Backend, BackendOptions, Location, SftpBackend};
use lifeboat_testkit::sshd::Sshd;

/// A server, and a directory for repositories that it reaches.
struct Place {
    sshd: Sshd,
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self::on(Sshd::start())
    }

    fn on(sshd: Sshd) -> Self {
        Self {
            sshd,
            root: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A backend on a directory that need not exist.
    fn backend(&self, name: &str) -> SftpBackend {
        self.backend_with(name, &self.sshd.options())
    }

    fn backend_with(&self, name: &str, options: &BackendOptions) -> SftpBackend {
        backend_at(&self.sshd.location(&self.path(name)), options)
    }

    /// A backend on a new, empty repository.
    fn repository(&self, name: &str) -> SftpBackend {
        let backend = self.backend(name);
        backend.create().unwrap();
        backend
    }
}

fn backend_at(location: &str, options: &BackendOptions) -> SftpBackend {
    match location.parse().unwrap() {
        Location::Sftp {
            username,
            host,
            port,
            path,
        } => SftpBackend::new(username.as_deref(), &host, port, &path, options).unwrap(),
        other => panic!("{other} is not over SFTP"),
    }
}

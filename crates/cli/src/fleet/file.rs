//! Reads the fleet file that a command is about.
//! It must never go on with a file that has a fault.

use std::fs::{File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};

use lifeboat_fleet::{FILE_MAX_BYTES, Fleet};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::ui::Ui;

/// A fleet file that was read.
pub struct FleetFile {
    /// What it says.
    pub fleet: Fleet,
    /// Its text.
    pub text: String,
    /// Where its relative paths begin: the directory that it lies in.
    pub dir: PathBuf,
    file: File,
}

/// That no other run works on the fleet; it may when this is dropped.
pub struct Alone<'a> {
    file: &'a File,
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        // The lock goes with the file at the latest.
        let _ = self.file.unlock();
    }
}

impl FleetFile {
    /// Reads it; what is allowed and may be meant otherwise is told.
    pub fn read(path: &Path, ui: &Ui) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let failed = |error: std::io::Error| {
            let failure =
                Failure::from_error(&error).while_doing(format!("read the fleet file {name}"));
            match error.kind() {
                std::io::ErrorKind::NotFound => failure.hint(
                    "name it with --file or in LIFEBOAT_FLEET; docs/fleet-file.md says what stands in it",
                ),
                _ => failure,
            }
        };
        let mut file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        if size > FILE_MAX_BYTES as u64 {
            return Err(Failure::new(format!(
                "the fleet file {name} has {size} bytes, at most {FILE_MAX_BYTES} can be meant"
            )));
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        let fleet = Fleet::parse(&name, &text).map_err(|errors| Failure {
            message: errors.to_string(),
            hint: Some("nothing was done; docs/fleet-file.md has every key".to_owned()),
            exit: Exit::Usage,
        })?;
        for warning in fleet.warnings() {
            ui.warn(format_args!("{name}:{}: {}", warning.spot, warning.what));
        }
        let absolute = std::path::absolute(path).map_err(failed)?;
        let dir = absolute.parent().unwrap_or(Path::new("/")).to_path_buf();
        Ok(Self {
            fleet,
            text,
            dir,
            file,
        })
    }

    /// Keeps other runs on the same file out, on this machine. Where the file system knows no locks, it is said that nobody is.
    pub fn alone(&self, ui: &Ui) -> Result<Alone<'_>, Failure> {
        match self.file.try_lock() {
            Ok(()) => Ok(Alone { file: &self.file }),
            Err(TryLockError::WouldBlock) => Err(Failure {
                message: format!("another run is at work on {}", self.fleet.file),
                hint: Some("it does what is due; ask again when it has ended".to_owned()),
                exit: Exit::Locked,
            }),
            // As NFS, of a file that may only be read.
            Err(TryLockError::Error(error)) => {
                ui.warn(format_args!(
                    "no lock can be had on {}: {error}; take care that no two runs work at once",
                    self.fleet.file
                ));
                Ok(Alone { file: &self.file })
            }
        }
    }

    /// Refuses names that are none of its apps.
    pub fn check_apps(&self, apps: &[String]) -> Result<(), Failure> {
        let Some(unknown) = apps.iter().find(|name| self.fleet.app(name).is_none()) else {
            return Ok(());
        };
        let known: Vec<&str> = self
            .fleet
            .apps
            .iter()
            .map(|app| app.name.value.as_str())
            .collect();
        Err(Failure {
            message: format!("there is no app {unknown} in {}", self.fleet.file),
            hint: Some(format!("its apps are {}", known.join(", "))),
            exit: Exit::Usage,
        })
    }
}

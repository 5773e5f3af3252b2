//! The result of a command that reads, on its way to standard output or into a file.
//! It must never end the process when nobody reads any more: the command holds a lock that must be given back.

use std::fs::{File, Permissions};
use std::io::{ErrorKind, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::ui::Ui;

/// So much is collected before it is written, unless somebody watches.
const FULL_BYTES: usize = 64 * 1024;

/// Where a result goes.
pub struct Out<'u> {
    ui: &'u Ui,
    sink: Sink,
    buffer: Vec<u8>,
    /// Whether a person looks at it, so that control characters must not reach it.
    pub is_terminal: bool,
    is_closed: bool,
}

enum Sink {
    Stdout,
    /// A device or pipe that was there, written as it is.
    Special(File, PathBuf),
    /// A new file, which gets its name when it is whole.
    Fresh(NamedTempFile, PathBuf),
}

impl<'u> Out<'u> {
    /// Standard output.
    pub fn stdout(ui: &'u Ui) -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        Self {
            ui,
            sink: Sink::Stdout,
            buffer: Vec::new(),
            is_terminal,
            is_closed: false,
        }
    }

    /// A file. An older one of the name stays as it is until the new one is whole.
    pub fn file(ui: &'u Ui, path: &Path) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::from_error(&error).while_doing(format_args!("write {}", path.display()))
        };
        let is_special = path.metadata().is_ok_and(|found| !found.is_file());
        let sink = if is_special {
            Sink::Special(
                File::options().write(true).open(path).map_err(failed)?,
                path.to_path_buf(),
            )
        } else {
            // A link is followed, so that it stays a link.
            let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
            let dir = path
                .parent()
                .filter(|dir| !dir.as_os_str().is_empty())
                .unwrap_or(Path::new("."));
            let permissions = path
                .metadata()
                .map_or(Permissions::from_mode(0o666), |found| found.permissions());
            let fresh = tempfile::Builder::new()
                .prefix(".lifeboat-dump-")
                .permissions(permissions)
                .tempfile_in(dir);
            Sink::Fresh(fresh.map_err(failed)?, path)
        };
        Ok(Self {
            ui,
            sink,
            buffer: Vec::new(),
            is_terminal: false,
            is_closed: false,
        })
    }

    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.buffer.len() + bytes.len() > FULL_BYTES {
            self.flush()?;
        }
        if bytes.len() > FULL_BYTES {
            return self.pass_on(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes a line.
    pub fn line(&mut self, text: impl AsRef<[u8]>) -> Result<(), Failure> {
        self.write(text.as_ref())?;
        self.write(b"\n")?;
        if self.is_terminal {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Writes a line for people.
    pub fn say(&mut self, text: impl AsRef<[u8]>) -> Result<(), Failure> {
        if self.ui.json || self.ui.quiet {
            Ok(())
        } else {
            self.line(text)
        }
    }

    /// Gives what was collected to whoever reads.
    pub fn flush(&mut self) -> Result<(), Failure> {
        let buffer = std::mem::take(&mut self.buffer);
        let done = self.pass_on(&buffer);
        self.buffer = buffer;
        self.buffer.clear();
        done
    }

    fn pass_on(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (written, name) = match &mut self.sink {
            Sink::Stdout => {
                self.ui.clear_status();
                let mut stdout = std::io::stdout().lock();
                (
                    stdout.write_all(bytes).and_then(|()| stdout.flush()),
                    "standard output".to_owned(),
                )
            }
            Sink::Special(file, path) => (file.write_all(bytes), path.display().to_string()),
            Sink::Fresh(file, path) => (file.write_all(bytes), path.display().to_string()),
        };
        written.map_err(|error| {
            self.is_closed |= error.kind() == ErrorKind::BrokenPipe;
            Failure::from_error(&error).while_doing(format_args!("write {name}"))
        })
    }

    /// Ends a command: what it found before it failed is shown, and a file gets its name if all went well.
    ///
    /// A reader that went away needs no message, but what it did not get was not delivered.
    pub fn end(mut self, outcome: Outcome) -> Outcome {
        let outcome = match (outcome, self.flush()) {
            (Ok(_), Err(failure)) => Err(failure),
            (outcome, _) => outcome,
        };
        if self.is_closed {
            return Ok(Exit::Failed);
        }
        if let (Sink::Fresh(file, path), Ok(_)) = (self.sink, &outcome) {
            let named = file
                .as_file()
                .sync_all()
                .and_then(|()| file.persist(&path).map_err(|error| error.error));
            named.map_err(|error| {
                Failure::from_error(&error).while_doing(format_args!("write {}", path.display()))
            })?;
        }
        outcome
    }
}

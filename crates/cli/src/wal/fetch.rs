//! `lifeboat wal fetch`: a file of the log comes out of the archive, as the server's `restore_command`.
//! It must never say that a file is not there when it is only out of reach or lost: the server would take that for the end.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use lifeboat_protect::postgres::{Archive, ArchiveError, Fetched, own_file};
use lifeboat_state::postgres::{BackupLabel, Control, WalHeader, WalName};

use super::cluster::control;
use super::resident::{Answer, Asked, Request, ResidentArgs};
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::repo::session::{Locking, Session};
use crate::ui::Ui;

/// Get a file of PostgreSQL's log out of the archive
///
/// For a server that recovers, in postgresql.conf:
///   restore_command = 'lifeboat wal fetch %f %p'
/// The exit status is 1 only when the archive surely ends before the file; whatever else is in the way gives 200, on which
/// the server stops instead of going on without what comes later.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Fetch {
    /// The name of the file
    #[arg(value_name = "NAME")]
    name: WalName,
    /// Where to put it
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// The data directory, if this is not run in it
    #[arg(long, value_name = "DIR", default_value = ".")]
    data: PathBuf,
    #[command(flatten)]
    resident: ResidentArgs,
}

impl Fetch {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let control = control(&self.data, &ui.wish)?;
        let resident = self.resident.find(global, ui)?;
        let request = Request::Fetch {
            system_id: control.system_id,
            name: self.name,
            own: control.timeline,
            size: control.segment_bytes,
        };
        let mut is_alone = false;
        if let Some(resident) = &resident {
            match resident.ask(&request, ui) {
                Asked::Answered(Answer::Content(content)) => return self.content(&content),
                Asked::Answered(Answer::Beyond) => return Ok(self.end(ui)),
                Asked::Answered(Answer::Lost) if self.is_at_hand(&control) => {
                    return Ok(Exit::EndOfLog);
                }
                // What failed there is tried with more patience, and told in its own words.
                Asked::Answered(_) | Asked::Nothing => {}
                Asked::Nobody => is_alone = true,
            }
        }
        let session = Session::open_early(global, ui, Locking::None)?;
        ui.enter("fetch");
        let archive = Archive::new(&session.repository, control.system_id).heeding(&session.cancel);
        let fetched = archive.fetch(self.name, control.timeline, control.segment_bytes);
        if matches!(fetched, Err(ArchiveError::Lost { .. })) && self.is_at_hand(&control) {
            // The capture brought it along; the server takes its own where the archive has none.
            return Ok(Exit::EndOfLog);
        }
        match fetched.map_err(|error| Failure::of_database(&error))? {
            Fetched::Beginning { content, log_bytes } if self.has_own(&content, log_bytes) => {
                Ok(Exit::EndOfLog)
            }
            Fetched::Beginning { content, .. } => self.content(&content),
            Fetched::Content(content) => {
                let done = self.content(&content)?;
                if let Some(resident) = resident.filter(|_| is_alone) {
                    resident.leave(ui);
                }
                Ok(done)
            }
            Fetched::Beyond => Ok(self.end(ui)),
        }
    }

    fn content(&self, content: &[u8]) -> Outcome {
        put(&self.path, content).map_err(|error| {
            Failure::from_error(&error).while_doing(format_args!("write {}", self.path.display()))
        })?;
        Ok(Exit::Done)
    }

    fn end(&self, ui: &Ui) -> Exit {
        ui.say(format_args!(
            "{} is not archived, and nothing after it is",
            self.name
        ));
        Exit::EndOfLog
    }

    /// Whether the server has all of this beginning of the file itself, and perhaps more, as when a capture brought it along:
    /// it takes its own where the archive has none.
    fn has_own(&self, content: &[u8], log_bytes: usize) -> bool {
        let own = std::fs::read(own_file(&self.data, self.name)).unwrap_or_default();
        own.len() == content.len() && own.get(..log_bytes) == content.get(..log_bytes)
    }

    /// Whether the server has the file itself, whole, and it is what its name says. Those of a capture of a primary are whole:
    /// the last one was ended with it. A standby's may be half, and a server would take the half for the end.
    fn is_at_hand(&self, control: &Control) -> bool {
        let labels = ["backup_label", "backup_label.old"].map(|name| self.data.join(name));
        let is_of_primary = |label: &PathBuf| {
            let text = std::fs::read_to_string(label).unwrap_or_default();
            BackupLabel::parse(&text).is_ok_and(|label| !label.is_of_standby)
        };
        if !labels.iter().any(is_of_primary) {
            return false;
        }
        let path = own_file(&self.data, self.name);
        match self.name {
            WalName::Segment(segment) => {
                let mut beginning = [0; WalHeader::BYTES];
                let read = std::fs::File::open(&path).and_then(|mut file| {
                    file.read_exact(&mut beginning)?;
                    Ok(file.metadata()?.len())
                });
                let header = WalHeader::parse(&beginning);
                let checked = read.ok().zip(header.ok());
                checked.is_some_and(|(bytes, header)| {
                    header.check(segment, control.system_id, bytes).is_ok()
                })
            }
            _ => path.is_file(),
        }
    }
}

/// Writes a file whole or not at all.
fn put(path: &Path, content: &[u8]) -> std::io::Result<()> {
    // As root a rename would take the place of a device too.
    let found = path.symlink_metadata();
    if found.is_ok_and(|found| !found.is_file()) {
        let message = "something is there that is no regular file";
        return Err(std::io::Error::new(
            std::io::ErrorKind::AlreadyExists,
            message,
        ));
    }
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".lifeboat-")
        .tempfile_in(dir)?;
    file.write_all(content)?;
    file.persist(path)?;
    Ok(())
}

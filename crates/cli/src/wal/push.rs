//! `lifeboat wal push`: a file of the log goes into the archive, as the server's `archive_command`.
//! It must never end with status 0 before the file is durable there, unless the user wants it given up and it says so.

use std::path::{Path, PathBuf};

use clap::Args;
use lifeboat_protect::postgres::{LogFile, LogFileError};
use lifeboat_repo::Appended;
use lifeboat_state::postgres::{SegmentBytes, WalName};
use serde_json::json;

use super::cluster::control;
use super::impatient;
use super::queue::QueueArgs;
use super::resident::{Answer, Asked, Request, ResidentArgs, Told};
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::repo::session::{Closed, Locking, Start};
use crate::ui::Ui;

/// Archive a file of PostgreSQL's log
///
/// For the server, in postgresql.conf:
///   archive_mode = on
///   archive_command = 'lifeboat wal push %p'
/// with RESTIC_REPOSITORY and RESTIC_PASSWORD_FILE in its environment, or -r and --password-file in the command. The server
/// keeps a file until this ends with status 0, and tries again. A file that is archived already is compared: the same is
/// fine, another is an error, and nothing is ever overwritten.
/// The first push leaves a process behind that has the repository open for the next, and stores what
/// waits before the server asks for it.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Push {
    /// The file: a segment, a history, a part of a segment or a backup note, by its own name
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// The data directory, if this is not run in it
    #[arg(long, value_name = "DIR", default_value = ".")]
    data: PathBuf,
    #[command(flatten)]
    queue: QueueArgs,
    #[command(flatten)]
    resident: ResidentArgs,
}

/// Why a file is not stored.
struct Unstored {
    failure: Failure,
    is_of_store: bool,
}

impl From<LogFileError> for Unstored {
    fn from(error: LogFileError) -> Self {
        Self {
            failure: Failure::of_database(&error),
            is_of_store: error.is_of_store() && !error.is_wish(),
        }
    }
}

impl From<Told> for Unstored {
    fn from(told: Told) -> Self {
        let failure = Failure::new(told.message);
        Self {
            failure: match told.hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            },
            is_of_store: told.is_of_store,
        }
    }
}

impl Push {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let limit = self.queue.limit()?;
        let (file, size) = self.file(ui)?;
        match self.store(&file, global, ui) {
            Ok(appended) => {
                let is_new = appended == Appended::New;
                if ui.json {
                    ui.object(&json!({
                        "message_type": "summary", "name": file.name.to_string(), "system_id": file.system_id.to_string(), "new": is_new,
                    }));
                } else if !is_new {
                    ui.say(format_args!("{} was archived already", file.name));
                }
                Ok(Exit::Done)
            }
            Err(unstored) => {
                let Unstored {
                    failure,
                    is_of_store,
                } = unstored;
                match limit {
                    None => Err(failure),
                    Some(limit) => limit.end(&file, size, failure, is_of_store, ui),
                }
            }
        }
    }

    /// What is to be archived, and how long segments are.
    fn file(&self, ui: &Ui) -> Result<(LogFile, SegmentBytes), Failure> {
        let name = self.path.file_name().unwrap_or_default();
        let name: WalName = name
            .to_string_lossy()
            .parse()
            .map_err(|error| Failure::from_error(&error))?;
        let control = control(&self.data, &ui.wish)?;
        // The process that does it runs elsewhere.
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(|error| {
                Failure::from_error(&error).while_doing(format_args!("find {}", path.display()))
            })
        };
        let file = LogFile {
            system_id: control.system_id,
            data: absolute(&self.data)?,
            path: absolute(&self.path)?,
            name,
        };
        Ok((file, control.segment_bytes))
    }

    fn store(&self, file: &LogFile, global: &Global, ui: &Ui) -> Result<Appended, Unstored> {
        let own = |failure| Unstored {
            failure,
            is_of_store: false,
        };
        let resident = self.resident.find(global, ui).map_err(own)?;
        let mut is_alone = false;
        if let Some(resident) = &resident {
            match resident.ask(&Request::Push(file.clone()), ui) {
                Asked::Answered(Answer::Pushed(appended)) => return Ok(appended),
                Asked::Answered(Answer::Failed(told)) => return Err(told.into()),
                Asked::Answered(_) | Asked::Nothing => {}
                Asked::Nobody => is_alone = true,
            }
        }
        let read = file.read()?;
        let global = impatient(global);
        let closed = Closed::own(&global, ui, Locking::None).map_err(own)?;
        let session = closed.open(&global, ui, Start::Early).map_err(|failure| {
            let is_of_store = !matches!(failure.exit, Exit::Interrupted | Exit::WrongPassword);
            Unstored {
                failure,
                is_of_store,
            }
        })?;
        ui.enter("push");
        // It opens the repository while this file is on its way.
        if let Some(resident) = resident.filter(|_| is_alone) {
            resident.leave(ui);
        }
        Ok(read.push(&session.repository)?)
    }
}

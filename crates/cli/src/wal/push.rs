//! `lifeboat wal push`: a file of the log goes into the archive, as the server's `archive_command`.
//! It must never end with status 0 before the file is durable there.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use lifeboat_protect::postgres::Archive;
use lifeboat_repo::{Appended, LOG_CONTENT_MAX_BYTES};
use lifeboat_state::postgres::WalName;
use serde_json::json;

use super::cluster::{control, own_file};
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::repo::session::{Locking, Session};
use crate::ui::Ui;

/// Archive a file of PostgreSQL's log
///
/// For the server, in postgresql.conf:
///   archive_mode = on
///   archive_command = 'lifeboat wal push %p'
/// with RESTIC_REPOSITORY and RESTIC_PASSWORD_FILE in its environment, or -r and --password-file in the command. The server
/// keeps a file until this ends with status 0, and tries again. A file that is archived already is compared: the same is
/// fine, another is an error, and nothing is ever overwritten.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Push {
    /// The file: a segment, a history, a part of a segment or a backup note, by its own name
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// The data directory, if this is not run in it
    #[arg(long, value_name = "DIR", default_value = ".")]
    data: PathBuf,
}

impl Push {
    /// The history of a timeline goes before its segments, also where the server archives it no more because archiving was
    /// off when the timeline began: without it a recovery would not find the timeline.
    fn push_history(&self, archive: &Archive<'_>, name: WalName) -> Result<(), Failure> {
        let WalName::Segment(segment) = name else {
            return Ok(());
        };
        let history = WalName::History(segment.timeline);
        let path = own_file(&self.data, history);
        if segment.timeline.0 == 1 || !path.exists() {
            return Ok(());
        }
        let content = std::fs::read(&path).map_err(|error| {
            Failure::from_error(&error).while_doing(format_args!("read {}", path.display()))
        })?;
        archive
            .push(history, &content)
            .map_err(|error| Failure::of_database(&error))?;
        Ok(())
    }

    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let name = self.path.file_name().unwrap_or_default();
        let name: WalName = name
            .to_string_lossy()
            .parse()
            .map_err(|error| Failure::from_error(&error))?;
        let system_id = control(&self.data, &ui.wish)?.system_id;
        let doing = format!("read {}", self.path.display());
        let mut content = Vec::new();
        let read = std::fs::File::open(&self.path).and_then(|file| {
            file.take(LOG_CONTENT_MAX_BYTES + 1)
                .read_to_end(&mut content)
        });
        read.map_err(|error| Failure::from_error(&error).while_doing(doing))?;
        let session = Session::open_early(global, ui, Locking::None)?;
        ui.enter("push");
        let archive = Archive::new(&session.repository, system_id).heeding(&session.cancel);
        self.push_history(&archive, name)?;
        let pushed = archive
            .push(name, &content)
            .map_err(|error| Failure::of_database(&error))?;
        let is_new = pushed == Appended::New;
        if ui.json {
            ui.object(&json!({
                "message_type": "summary", "name": name.to_string(), "system_id": system_id.to_string(), "new": is_new,
            }));
        } else if !is_new {
            ui.say(format_args!("{} was archived already", name));
        }
        Ok(Exit::Done)
    }
}

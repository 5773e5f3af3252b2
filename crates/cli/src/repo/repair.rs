//! `lifeboat repo repair`: brings back what can be brought back, in three commands that follow each other.
//! It must never grow a repair's work here: this is the table of them, and what they share.

mod index;
mod packs;
mod snapshots;

use std::io::Write;
use std::path::Path;

use clap::{Args, Subcommand};
use lifeboat_format::Id;
use lifeboat_repo::RepoError;

use crate::args::Global;
use crate::failure::Outcome;
use crate::ui::Ui;

/// Repair a damaged repository
///
/// `lifeboat repo check` says what is damaged and which of these helps, in the right order.
/// A backup of files that are still there brings their lost data back, too.
#[derive(Args)]
#[command(arg_required_else_help = true, verbatim_doc_comment)]
pub struct Repair {
    #[command(subcommand)]
    what: What,
}

/// What can be repaired. What each does is told where its arguments are.
#[derive(Subcommand)]
enum What {
    Index(index::RepairIndex),
    Packs(Box<packs::RepairPacks>),
    Snapshots(snapshots::RepairSnapshots),
}

impl Repair {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        match &self.what {
            What::Index(command) => command.run(global, ui),
            What::Packs(command) => command.run(global, ui),
            What::Snapshots(command) => command.run(global, ui),
        }
    }
}

/// Keeps a copy of a file of the repository in the current directory, as `pack-<ID>`. It gets its name when it is whole; a
/// copy of an earlier run is fine.
fn keep_copy(noun: &str, id: Id, content: &[u8]) -> Result<(), RepoError> {
    let name = format!("{noun}-{id}");
    let refused = |error: &std::io::Error| {
        RepoError::Refused(format!(
            "nothing was changed, because a copy of the damaged {noun} can't be kept: write {name} in the current directory: {error}"
        ))
    };
    let path = Path::new(&name);
    if path.exists() {
        let same = std::fs::read(path).map_err(|error| refused(&error))? == content;
        return if same {
            Ok(())
        } else {
            Err(RepoError::Refused(format!(
                "nothing was changed: the current directory has a file {name} already, with other content; move it away"
            )))
        };
    }
    let written = tempfile::Builder::new()
        .prefix(".lifeboat-copy-")
        .tempfile_in(".")
        .and_then(|mut file| {
            file.write_all(content)?;
            file.as_file().sync_all()?;
            file.persist_noclobber(path).map_err(|error| error.error)
        });
    written.map(drop).map_err(|error| refused(&error))
}

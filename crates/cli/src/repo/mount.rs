//! `lifeboat repo mount`: shows all snapshots as directories that can only be read.
//! It must never leave a mount behind when it ends by itself.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use lifeboat_flow::EventSink;
use lifeboat_plan::{PATH_TEMPLATES, TIME_TEMPLATE};
use lifeboat_protect::{MountError, MountOptions, check_place, mount};

use super::select::FilterArgs;
use super::session::{Locking, Session};
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::ui::Ui;

/// Show all snapshots as directories, for reading
///
/// It runs until Ctrl-C, or until the place is unmounted. Example:
///   lifeboat repo mount /mnt/backup, then look into /mnt/backup/snapshots/latest
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Mount {
    /// An empty directory
    #[arg(value_name = "DIR")]
    place: PathBuf,
    /// A path at which snapshots appear; several by repeating it. %i and %I are the short and the whole ID, %h the
    /// host, %u the user, %t each tag, %T the time
    #[arg(long, value_name = "TEMPLATE", default_values = PATH_TEMPLATES)]
    path_template: Vec<String>,
    /// How a time is written, for strftime or as an example of 2006-01-02 15:04:05
    #[arg(long, value_name = "TEMPLATE", default_value = TIME_TEMPLATE)]
    time_template: String,
    /// Let other users look, too
    #[arg(long)]
    allow_other: bool,
    /// Let who may look read everything, whatever its permissions
    #[arg(long)]
    no_default_permissions: bool,
    /// Show everything as root's
    #[arg(long)]
    owner_root: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

impl Mount {
    pub fn run(self, global: &Global, ui: &Arc<Ui>) -> Outcome {
        check_place(&self.place)?;
        let session = Session::open(global, ui, Locking::Read)?;
        let filter = self.filter.filter();
        let options = MountOptions {
            place: self.place.clone(),
            path_templates: self.path_template,
            time_template: self.time_template,
            select: Box::new(move |snapshot| filter.passes(snapshot)),
            allow_other: self.allow_other,
            no_default_permissions: self.no_default_permissions,
            owner_root: self.owner_root,
        };
        let place = self.place.display().to_string();
        let ready = || {
            ui.say(format_args!("the repository is shown at {place}"));
            ui.say(format_args!(
                "Ctrl-C ends that, when nobody looks any more; so does `umount {place}`"
            ));
        };
        let events: Arc<dyn EventSink> = ui.clone();
        mount(
            Arc::clone(&session.repository),
            options,
            events,
            &session.cancel,
            ready,
        )?;
        Ok(Exit::Done)
    }
}

impl From<MountError> for Failure {
    fn from(error: MountError) -> Self {
        let hint = match &error {
            MountError::Repo(_) => None,
            MountError::Template(_) => Some("for example --path-template 'hosts/%h/%T'"),
            MountError::Mount { cause, .. } => Some(match cause.kind() {
                std::io::ErrorKind::NotFound => {
                    "the directory must exist, and the program fusermount3 (Debian: fuse3) must be installed where this does not run as root"
                }
                std::io::ErrorKind::DirectoryNotEmpty => {
                    "what is in it would be hidden; choose an empty directory"
                }
                std::io::ErrorKind::PermissionDenied => {
                    "this user may not mount: install fuse3, and for --allow-other set user_allow_other in /etc/fuse.conf; in a container /dev/fuse must be there"
                }
                _ => "mounting needs /dev/fuse and, except for root, fusermount3 (Debian: fuse3)",
            }),
            MountError::Unmount { .. } => {
                Some("somebody still looks at it; `umount -l DIR` lets go of it at once")
            }
        };
        match error {
            MountError::Repo(error) => error.into(),
            other => {
                let failure = Self::from_error(&other);
                match hint {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
            }
        }
    }
}

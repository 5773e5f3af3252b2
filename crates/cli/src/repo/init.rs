//! `lifeboat repo init`: makes a new repository.
//! It must never touch a place where one is, or a part of one.

use clap::Args;
use lifeboat_repo::{Identity, KeyCost, Repository};
use serde_json::json;

use super::access::{Access, FromArgs};
use super::copy::open_source;
use super::session::{Locking, backend};
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::ui::Ui;

/// Make a new repository
///
/// Example: lifeboat repo -r /srv/backup --password-file /root/backup.pw init
#[derive(Args)]
pub struct Init {
    /// The version of the format: 1 or 2; `latest` and `stable` are 2
    #[arg(long, default_value = "stable", value_name = "VERSION")]
    repository_version: String,
    /// Cut files as another repository does, so that copies between the two share what they hold
    #[arg(long)]
    copy_chunker_params: bool,
    #[command(flatten)]
    from: FromArgs,
}

impl Init {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let version = match self.repository_version.as_str() {
            "1" => 1,
            "2" | "latest" | "stable" => 2,
            other => {
                return Err(Failure::new(format!(
                    "--repository-version {other:?} is none of 1, 2, latest, stable"
                )));
            }
        };
        if self.from.is_given() && !self.copy_chunker_params {
            return Err(Failure::new(
                "a repository to read from is named, but nothing is to be taken from it",
            )
            .hint(
                "give --copy-chunker-params, or leave --from-repo and RESTIC_FROM_REPOSITORY out",
            ));
        }
        let polynomial = match self.copy_chunker_params {
            false => None,
            true => {
                let from = open_source(&self.from, global, ui, Locking::None)?;
                Some(from.repository.config().chunker_polynomial)
            }
        };
        let backend = backend(global, ui)?;
        let password = Access::own(global).new_password("new password for the repository: ")?;
        let repository = Repository::init(
            backend,
            password.as_bytes(),
            version,
            polynomial,
            &Identity::of_this_process(),
            KeyCost::Calibrated,
        )?;
        let (id, location) = (&repository.config().id, repository.backend().location());
        if ui.json {
            ui.object(&json!({"message_type": "initialized", "id": id, "repository": location}));
            return Ok(Exit::Done);
        }
        let short: String = id.chars().take(10).collect();
        ui.say(format_args!("created repository {short} at {location}"));
        if self.copy_chunker_params {
            ui.say("It cuts files as the repository that was read from.");
        }
        ui.say("");
        ui.say("Without its password nobody can read it, you included. Keep the password where it survives this machine.");
        Ok(Exit::Done)
    }
}

//! `lifeboat repo init`: makes a new repository.
//! It must never touch a place where one is, or a part of one.

use clap::Args;
use lifeboat_repo::{Identity, KeyCost, Repository};
use serde_json::json;

use super::access::Access;
use super::session::backend;
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
        let backend = backend(global, ui)?;
        let password = Access::own(global).new_password("new password for the repository: ")?;
        let repository = Repository::init(
            backend,
            password.as_bytes(),
            version,
            None,
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
        ui.say("");
        ui.say("Without its password nobody can read it, you included. Keep the password where it survives this machine.");
        Ok(Exit::Done)
    }
}

//! `lifeboat repo key`: the passwords that open a repository.
//! It must never leave a repository without a password that opens it.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use lifeboat_repo::backend::FileKind;
use lifeboat_repo::{Identity, KeyCost};
use serde_json::{Value, json};

use super::access::{password_of_file, typed_again};
use super::session::{Locking, Session};
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::ui::Ui;

/// List, add and remove passwords
#[derive(Args)]
#[command(arg_required_else_help = true)]
pub struct Key {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Subcommand)]
enum KeyCommand {
    /// List the keys; the one in use has a star
    List,
    /// Add a password
    Add(NewKey),
    /// Remove a key; not the one in use
    Remove {
        /// The key's ID
        id: String,
    },
    /// Change the password: add the new one, then remove the one in use
    Passwd(NewKey),
}

/// A new key.
#[derive(Args)]
struct NewKey {
    /// A file that holds the new password
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
    /// The user that the key names
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The host that the key names
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
}

impl NewKey {
    fn password(&self) -> Result<String, Failure> {
        let password = match &self.new_password_file {
            Some(file) => password_of_file(file)?,
            None => {
                if !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
                    return Err(Failure::new(
                        "nothing says what the new password is, and nobody is there to type it",
                    )
                    .hint("give it with --new-password-file"));
                }
                let typed = rpassword::prompt_password("new password: ").map_err(|error| {
                    Failure::from_error(&error).while_doing("read the new password")
                })?;
                typed_again(&typed)?;
                typed
            }
        };
        if password.is_empty() {
            return Err(Failure::new("an empty password protects nothing"));
        }
        Ok(password)
    }

    fn who(&self) -> Identity {
        let mut who = Identity::of_this_process();
        if let Some(user) = &self.user {
            who.username.clone_from(user);
        }
        if let Some(host) = &self.host {
            who.hostname.clone_from(host);
        }
        who
    }
}

impl Key {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        match &self.command {
            KeyCommand::List => list(&Session::open(global, ui, Locking::Read)?, ui),
            KeyCommand::Add(new) => {
                let session = Session::open(global, ui, Locking::Shared)?;
                let id = session.repository.add_key(
                    new.password()?.as_bytes(),
                    &new.who(),
                    KeyCost::Calibrated,
                )?;
                ui.say(format_args!("saved new key {}", id.short()));
                Ok(Exit::Done)
            }
            KeyCommand::Remove { id } => {
                let session = Session::open(global, ui, Locking::Exclusive)?;
                let id = session.repository.find(FileKind::Key, id)?;
                session.repository.remove_key(id)?;
                ui.say(format_args!("removed key {}", id.short()));
                Ok(Exit::Done)
            }
            KeyCommand::Passwd(new) => {
                let session = Session::open(global, ui, Locking::Exclusive)?;
                let password = new.password()?;
                let old = session.repository.key_id();
                let id = session.repository.add_key(
                    password.as_bytes(),
                    &new.who(),
                    KeyCost::Calibrated,
                )?;
                // Only a key that was seen to open the repository may replace another.
                let opened = lifeboat_repo::Repository::open(
                    session.repository.backend().clone(),
                    password.as_bytes(),
                    Some(&id.to_string()),
                )?;
                opened.remove_key(old)?;
                ui.say(format_args!(
                    "saved new key {} and removed {}",
                    id.short(),
                    old.short()
                ));
                Ok(Exit::Done)
            }
        }
    }
}

fn list(session: &Session, ui: &Ui) -> Outcome {
    let keys = session.repository.keys()?;
    let current = session.repository.key_id();
    if ui.json {
        let list: Vec<Value> = keys
            .iter()
            .map(|(id, key)| json!({"current": *id == current, "id": id.to_string(), "userName": key.username, "hostName": key.hostname, "created": key.created.to_string()}))
            .collect();
        ui.object(&Value::Array(list));
        return Ok(Exit::Done);
    }
    ui.say(format_args!(
        " {:8}  {:12}  {:20}  Created",
        "ID", "User", "Host"
    ));
    for (id, key) in keys {
        let star = if id == current { '*' } else { ' ' };
        ui.say(format_args!(
            "{star}{:8}  {:12}  {:20}  {}",
            id.short(),
            key.username,
            key.hostname,
            key.created
        ));
    }
    Ok(Exit::Done)
}

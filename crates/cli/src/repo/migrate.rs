//! `lifeboat repo migrate`: changes the whole repository to a newer form.
//! It must never begin on a repository that a check, which believes no cache, finds damaged, and never lose the only copy of the old config.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use lifeboat_flow::Counters;
use lifeboat_repo::{CheckOptions, Migration, MigrationState};
use serde_json::json;

use super::session::{Locking, Session};
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::progress::{self, Shown, workers};
use crate::ui::Ui;

/// Change the repository to a newer form
///
/// Without a name it lists what can be applied. The repository is checked before. What is in it stays as it is:
/// after `upgrade_repo_v2` only what is added is compressed.
///
/// Example: lifeboat repo migrate upgrade_repo_v2
#[derive(Args)]
pub struct Migrate {
    /// The migrations to apply
    #[arg(value_name = "MIGRATION")]
    names: Vec<String>,
    /// Try it even if it does not look applicable
    #[arg(short, long)]
    force: bool,
    /// Check the repository, say what would be done and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl Migrate {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let migrations = self
            .names
            .iter()
            .map(|name| {
                Migration::of(name).ok_or_else(|| {
                    let known = Migration::ALL.map(Migration::name).join(", ");
                    Failure::new(format!("there is no migration {name:?}"))
                        .hint(format!("these are known: {known}"))
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let locking = match self.dry_run || migrations.is_empty() {
            true => Locking::Read,
            false => Locking::Exclusive,
        };
        let session = Session::open_afresh(global, ui, locking)?;
        if migrations.is_empty() {
            return list(&session, ui);
        }
        for migration in migrations {
            self.apply(&session, ui, migration)?;
        }
        Ok(Exit::Done)
    }

    fn apply(&self, session: &Session, ui: &Ui, migration: Migration) -> Result<(), Failure> {
        let (name, repository) = (migration.name(), &session.repository);
        if let MigrationState::NotApplicable(why) = migration.state(repository.config()) {
            if !self.force {
                return Err(Failure::new(format!("{name} can't be applied: {why}"))
                    .hint("with --force it is tried all the same"));
            }
            ui.warn(format_args!("{name} does not look applicable: {why}"));
        }
        ui.say("checking the repository first");
        check(session, ui)?;
        if self.dry_run {
            if ui.json {
                ui.object(&json!({"message_type": "would_apply", "name": name}));
            }
            ui.say(format_args!("dry run: {name} would be applied"));
            return Ok(());
        }
        let Some(lock) = &session.lock else {
            return Err(Failure::new("a migration needs a lock"));
        };
        session.cancel.check()?;
        let copy = keep_config(session)?;
        if let Err(error) = repository.migrate(migration, lock) {
            let kept = format!("the old config is kept in {}", copy.display());
            return Err(Failure::from(error).while_doing(name).hint(kept));
        }
        // It is of no more use, and what can't be removed harms nobody.
        let _ = std::fs::remove_file(copy);
        if ui.json {
            ui.object(&json!({"message_type": "applied", "name": name}));
        }
        ui.say(format_args!("{name} is applied"));
        Ok(())
    }
}

fn list(session: &Session, ui: &Ui) -> Outcome {
    let config = session.repository.config();
    let mut all = Migration::ALL.to_vec();
    all.retain(|migration| migration.state(config) == MigrationState::Applicable);
    for migration in &all {
        let (name, about) = (migration.name(), migration.about());
        if ui.json {
            ui.object(&json!({"message_type": "migration", "name": name, "description": about}));
        } else {
            ui.line(format_args!("{name}  {about}"));
        }
    }
    if all.is_empty() {
        ui.say("there is nothing to migrate");
    }
    Ok(Exit::Done)
}

/// Checks the structure, without reading all content.
fn check(session: &Session, ui: &Ui) -> Result<(), Failure> {
    let counters = Counters::default();
    let options = CheckOptions {
        threads: workers(),
        ..CheckOptions::default()
    };
    let shown = Shown {
        noun: "packs",
        stored: false,
        totals_known: false,
    };
    let report = progress::during(ui, &counters, shown, || {
        session
            .repository
            .check(&options, &counters, &session.cancel)
    })?;
    for finding in report.findings.iter().filter(|finding| finding.serious) {
        ui.finding(finding);
    }
    match report.is_serious() {
        false => Ok(()),
        true => Err(
            Failure::new("the repository is damaged, and nothing was changed")
                .hint("repair what is named above first"),
        ),
    }
}

/// Keeps the config outside of the repository.
fn keep_config(session: &Session) -> Result<PathBuf, Failure> {
    let sealed = session.repository.sealed_config()?;
    let kept = (|| {
        let mut file = tempfile::Builder::new()
            .prefix("lifeboat-config-")
            .tempfile()?;
        file.write_all(&sealed)?;
        file.as_file().sync_all()?;
        let (_, path) = file.keep().map_err(|error| error.error)?;
        Ok::<_, std::io::Error>(path)
    })();
    kept.map_err(|error| Failure::from_error(&error).while_doing("keep a copy of the config"))
}

//! `lifeboat plan`: what would be captured and copied now, what comes when, and why.
//! It must never change anything.

use clap::Args;

use super::file::FleetFile;
use super::known::{facts, planned};
use super::outside::World;
use super::{FleetGlobal, shown};
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::ui::Ui;

/// Show what would be captured and copied now, what comes when, and why
///
/// Nothing is done; repositories are asked what they have.
/// Example: lifeboat plan -f /etc/lifeboat.yaml
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Plan {
    /// These apps, as if `lifeboat backup` was asked for them; without any, all by their schedules
    #[arg(value_name = "APP")]
    apps: Vec<String>,
    #[command(flatten)]
    pub global: FleetGlobal,
}

impl Plan {
    pub fn run(&self, ui: &Ui) -> Outcome {
        let file = FleetFile::read(&self.global.file, ui)?;
        file.check_apps(&self.apps)?;
        let world = World::new(&file.fleet, &file.dir, &self.global, ui);
        let facts = facts(&file, &world, &self.apps, ui)?;
        let (plan, now) = planned(&file, &facts, &self.apps);
        shown::plan(ui, &plan, &file, now);
        let is_unknown = plan.copies().any(|(_, _, copy)| copy.unknown.is_some());
        Ok(match is_unknown {
            true => Exit::Undetermined,
            false => Exit::Done,
        })
    }
}

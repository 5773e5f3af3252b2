//! `lifeboat status`: how old what comes back is, member by member, beside what was promised.
//! It must never say fresh of what nobody knows, nor end with 0 when a promise is broken.

use clap::Args;
use lifeboat_plan::Freshness;

use super::file::FleetFile;
use super::known::{facts, planned};
use super::outside::World;
use super::{FleetGlobal, shown};
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::ui::Ui;

/// Show how old what comes back is, beside what was promised
///
/// Ends with 21 if a capture is overdue or was never made, with 22 if a repository can't be asked.
/// Example: lifeboat status --json
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Status {
    /// These apps; without any, all
    #[arg(value_name = "APP")]
    apps: Vec<String>,
    #[command(flatten)]
    pub global: FleetGlobal,
}

impl Status {
    pub fn run(&self, ui: &Ui) -> Outcome {
        let file = FleetFile::read(&self.global.file, ui)?;
        file.check_apps(&self.apps)?;
        let world = World::new(&file.fleet, &file.dir, &self.global, ui);
        let facts = facts(&file, &world, &self.apps, ui)?;
        // By their schedules, whichever apps are asked about.
        let (mut plan, now) = planned(&file, &facts, &[]);
        plan.apps
            .retain(|app| self.apps.is_empty() || self.apps.contains(&app.app));
        shown::status(ui, &plan, &file, now);
        let stands = || plan.copies().map(|(_, _, copy)| copy.freshness);
        Ok(match () {
            () if stands().any(Freshness::is_late) => Exit::Late,
            () if stands().any(|one| one == Freshness::Unknown) => Exit::Undetermined,
            () => Exit::Done,
        })
    }
}

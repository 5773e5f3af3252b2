//! `lifeboat db check`: the archive of a server is proven by a segment that goes there and comes back.
//! It must never end with status 0 because settings look right.

use std::time::Duration;

use clap::Args;
use lifeboat_protect::postgres::round_trip;
use serde_json::json;

use super::server::ServerArgs;
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::repo::session::{Locking, Session};
use crate::ui::Ui;

/// Prove that a PostgreSQL server's log reaches this repository
///
/// The server is asked to end a segment of its log; this waits until that has come into the archive, and reads it back. The
/// role needs the right to execute pg_create_restore_point and pg_switch_wal.
///
/// Example: lifeboat db check --postgres postgresql://postgres@/postgres
#[derive(Args)]
pub struct Check {
    /// How long to wait for the segment, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    patience: u64,
    #[command(flatten)]
    server: ServerArgs,
}

impl Check {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let address = self.server.address()?;
        let session = Session::open_early(global, ui, Locking::None)?;
        ui.enter("check");
        let patience = Duration::from_secs(self.patience);
        let done = round_trip(&address, &session.repository, patience, &session.cancel)
            .map_err(|error| Failure::of_database(&error))?;
        if ui.json {
            ui.object(&json!({
                "message_type": "summary", "system_id": done.system_id.to_string(), "segment": done.name.to_string(),
                "seconds": done.took.as_secs_f64(),
            }));
        } else {
            ui.line(format_args!(
                "{} of the cluster {} went to the archive and came back within {}",
                done.name,
                done.system_id,
                format::duration(done.took)
            ));
        }
        Ok(Exit::Done)
    }
}

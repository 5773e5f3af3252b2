//! `lifeboat wal stream`: a server's log comes into the archive while it is written.
//! It must never end with status 0 before what has come is durable there.

use std::time::{Duration, Instant};

use clap::Args;
use lifeboat_plan::parse_go_duration;
use lifeboat_protect::postgres::{LogReceiver, StreamEnd, StreamError, StreamEvent};
use lifeboat_state::postgres::{Lsn, Replication};
use serde_json::{Value, json};

use crate::args::Global;
use crate::db::server::ServerArgs;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::repo::session::{Locking, Session};
use crate::signals::cancel_on_signal;
use crate::ui::Ui;

/// The longest name of a slot, in bytes (PostgreSQL source, `NAMEDATALEN`).
const SLOT_NAME_MAX_BYTES: usize = 63;
/// Between two redraws of the line on a terminal.
const REDRAW_INTERVAL: Duration = Duration::from_millis(500);

/// Stream PostgreSQL's log into the archive while it is written
///
/// A service beside the server, or anywhere: what is committed is in the repository within
/// seconds, not when a segment of the log is full. The server keeps its log in a replication
/// slot until it is stored; the first time, --create-slot makes the slot. One that nobody streams
/// by fills the server's disk: when this is given up, remove it with --drop-slot. A server that
/// is lost is asked again; the wish to stop (SIGTERM) stores what has come and ends with 0. The
/// role needs the attribute REPLICATION, and pg_hba.conf must let it in for `replication`.
///
/// Examples:
///   lifeboat wal stream --postgres postgresql://backup@db/postgres --create-slot
///   lifeboat wal stream --postgres postgresql://backup@db/postgres --drop-slot
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Stream {
    /// The physical replication slot
    #[arg(long, value_name = "NAME", default_value = "lifeboat", value_parser = slot_name)]
    slot: String,
    /// Make the slot if it is not there
    #[arg(long)]
    create_slot: bool,
    /// Remove the slot, and do nothing else
    #[arg(long, conflicts_with_all = ["create_slot", "skip_lost", "until"])]
    drop_slot: bool,
    /// How long what has come may wait until it is stored, as 500ms or 2s
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = interval)]
    interval: Duration,
    /// Go on behind log that the server has removed and the archive lacks
    #[arg(long)]
    skip_lost: bool,
    /// End when all of the log before this position is in the archive
    #[arg(long, value_name = "LSN")]
    until: Option<Lsn>,
    #[command(flatten)]
    server: ServerArgs,
}

fn slot_name(text: &str) -> Result<String, String> {
    let is_sign = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let is_name = (1..=SLOT_NAME_MAX_BYTES).contains(&text.len()) && text.bytes().all(is_sign);
    match is_name {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "it has small letters, digits and underscores, and {SLOT_NAME_MAX_BYTES} at most"
        )),
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    parse_go_duration(text).map_err(|error| error.to_string())
}

impl Stream {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let address = self.server.address()?;
        if self.drop_slot {
            cancel_on_signal(&ui.wish);
            let dropped = Replication::open(&address, &ui.wish)
                .and_then(|mut server| server.drop_slot(&self.slot, &ui.wish));
            dropped.map_err(|error| failed(error.into()))?;
            ui.say(format_args!(
                "removed the slot {}: the server keeps no log for it any more",
                self.slot
            ));
            return Ok(Exit::Done);
        }
        let session = Session::open_early(global, ui, Locking::None)?;
        ui.enter("stream");
        let drawn = std::cell::Cell::new(None);
        let ended = LogReceiver {
            repository: &session.repository,
            address: &address,
            slot: &self.slot,
            creates_slot: self.create_slot,
            skips_lost: self.skip_lost,
            interval: self.interval,
            until: self.until,
            events: &|event| show(ui, &event, &drawn),
            stop: &session.cancel,
        }
        .run();
        ui.clear_status();
        match ended.map_err(failed)? {
            StreamEnd::Stopped => ui.say("stopped; what has come is stored"),
            StreamEnd::Reached => {}
        }
        Ok(Exit::Done)
    }
}

fn failed(error: StreamError) -> Failure {
    Failure::of_database(&error)
}

/// Shows what happens: as a line, or as an object for programs.
fn show(ui: &Ui, event: &StreamEvent, drawn: &std::cell::Cell<Option<Instant>>) {
    if ui.json {
        return ui.object(&object(event));
    }
    match event {
        StreamEvent::SlotCreated => ui.say("made the slot"),
        StreamEvent::Started {
            system_id,
            timeline,
            at,
        } => ui.say(format_args!(
            "streaming the log of the cluster {system_id} from {at} on timeline {timeline}"
        )),
        StreamEvent::Kept {
            position,
            behind_bytes,
            ..
        } => {
            let is_due = |at: Instant| at.elapsed() >= REDRAW_INTERVAL;
            if ui.is_terminal && !ui.quiet && drawn.get().is_none_or(is_due) {
                let behind = format::bytes(*behind_bytes);
                ui.status(&format!("stored up to {position}, {behind} behind"));
                drawn.set(Some(Instant::now()));
            }
        }
        StreamEvent::Archived { name, is_new: true } => ui.say(format_args!("{name} is archived")),
        StreamEvent::Archived { name, .. } => ui.say(format_args!("{name} was archived already")),
        StreamEvent::Left { timeline, next, at } => ui.say(format_args!(
            "timeline {timeline} ended at {at}; going on with timeline {next}"
        )),
        StreamEvent::Skipped { from, to } => ui.warn(format_args!(
            "LOST: the server has removed its log from {from} to {to}, and the archive lacks it; take a new capture, because no earlier one recovers beyond it"
        )),
        StreamEvent::PiecesStay { why } => ui.warn(format_args!(
            "pieces of segments that are not needed any more stay: {why}"
        )),
        StreamEvent::Reconnecting { why, wait } => {
            let seconds = wait.as_secs();
            ui.warn(format_args!("{why}; connecting again in {seconds} s"));
        }
    }
}

fn object(event: &StreamEvent) -> Value {
    match event {
        StreamEvent::SlotCreated => json!({ "message_type": "slot_created" }),
        StreamEvent::Started {
            system_id,
            timeline,
            at,
        } => {
            json!({ "message_type": "started", "system_id": system_id.to_string(), "timeline": timeline.0, "position": at.to_string() })
        }
        StreamEvent::Kept {
            timeline,
            position,
            behind_bytes,
        } => {
            json!({ "message_type": "status", "timeline": timeline.0, "position": position.to_string(), "behind_bytes": behind_bytes })
        }
        StreamEvent::Archived { name, is_new } => {
            json!({ "message_type": "archived", "name": name.to_string(), "new": is_new })
        }
        StreamEvent::Left { timeline, next, at } => {
            json!({ "message_type": "timeline", "left": timeline.0, "timeline": next.0, "position": at.to_string() })
        }
        StreamEvent::Skipped { from, to } => {
            json!({ "message_type": "lost", "from": from.to_string(), "to": to.to_string() })
        }
        StreamEvent::PiecesStay { why } => {
            json!({ "message_type": "pieces_stay", "message": why })
        }
        StreamEvent::Reconnecting { why, wait } => {
            json!({ "message_type": "reconnecting", "message": why, "seconds": wait.as_secs() })
        }
    }
}

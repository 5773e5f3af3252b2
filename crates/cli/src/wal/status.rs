//! `lifeboat wal status`: what the archives in a repository hold, timeline by timeline, and what is missing.
//! It must never end with status 0 when something is missing that a capture needs.

use clap::Args;
use lifeboat_format::{Id, Snapshot};
use lifeboat_protect::OWN_TAG;
use lifeboat_protect::postgres::{Archive, ArchiveError, Holdings, StreamError, member_of};
use lifeboat_repo::{BlobReader, PackListing};
use lifeboat_state::postgres::{
    Identity, Inventory, Lsn, Member, Replication, SegmentRange, Timeline, way,
};
use serde_json::{Value, json};

use crate::args::Global;
use crate::db::server::ServerArgs;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::repo::session::{Locking, Session};
use crate::ui::Ui;

/// Show what the archives of PostgreSQL's log hold
///
/// Segments that are missing between others are named, from the oldest capture on: what lies before it is of no use. The
/// exit status is 1 if there are any. With --postgres it is asked how far a server is ahead of its archive; the role needs
/// the attribute REPLICATION.
///
/// Example: lifeboat wal status --postgres postgresql://postgres@/postgres
#[derive(Args)]
pub struct Status {
    /// Only this cluster, by its system identifier
    #[arg(long, value_name = "NUMBER")]
    system: Option<u64>,
    #[command(flatten)]
    server: ServerArgs,
}

impl Status {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let session = Session::open_early(global, ui, Locking::Read)?;
        ui.enter("status");
        let (snapshots, index, _) = session.snapshots_and_index(ui, PackListing::Skip)?;
        session.ensure()?;
        let failed = |error: ArchiveError| Failure::of_database(&error);
        // After the archive it would be ahead by what is archived meanwhile.
        let server = self.ask(&session)?;
        let systems = match self.system {
            Some(system) => vec![system],
            None => Archive::clusters(&session.repository).map_err(failed)?,
        };
        if systems.is_empty() && !ui.json {
            ui.line("no cluster archives into this repository");
        }
        let reader = BlobReader::new(&session.repository, &index);
        let captures = captures(&snapshots.all, &reader);
        let mut is_whole = true;
        for system in systems.iter().copied() {
            let holdings = Archive::new(&session.repository, system)
                .heeding(&session.cancel)
                .inventory(None)
                .map_err(failed)?;
            let of_this = captures
                .iter()
                .filter(|member| member.postgres.system_id == system.to_string());
            let needed = of_this.filter_map(|member| {
                let timeline = Timeline(member.postgres.timeline);
                Some((timeline, member.postgres.log_after()?))
            });
            let oldest = needed.min_by_key(|(timeline, from)| (*from, *timeline));
            is_whole &= show(ui, system, holdings.as_ref(), oldest);
            let of_this = server.filter(|server| server.system_id == system);
            if let (Some(server), Some(holdings)) = (of_this, &holdings) {
                show_server(ui, &server, &holdings.inventory);
            }
        }
        // With --system only that one was looked for.
        let unknown =
            server.filter(|server| self.system.is_none() && !systems.contains(&server.system_id));
        if let Some(server) = unknown {
            ui.warn(format_args!(
                "nothing of the cluster {} of the server is archived here",
                server.system_id
            ));
        }
        Ok(if is_whole { Exit::Done } else { Exit::Failed })
    }
}

impl Status {
    /// How far the server is, if one is named.
    fn ask(&self, session: &Session) -> Result<Option<Identity>, Failure> {
        if !self.server.is_given() {
            return Ok(None);
        }
        let address = self.server.address()?;
        let identity = Replication::open(&address, &session.cancel)
            .and_then(|mut server| server.identify(&session.cancel));
        let identity = identity.map_err(StreamError::from);
        Ok(Some(
            identity.map_err(|error| Failure::of_database(&error))?,
        ))
    }
}

/// Shows how far a server is ahead of its archive.
fn show_server(ui: &Ui, server: &Identity, inventory: &Inventory) {
    let archived = inventory.end(server.timeline);
    let behind = archived.map(|archived| server.end.0.saturating_sub(archived.0));
    if ui.json {
        ui.object(&json!({
            "message_type": "server", "system_id": server.system_id.to_string(), "timeline": server.timeline.0, "position": server.end.to_string(),
            "archived": archived.map(|archived| archived.to_string()), "behind_bytes": behind,
        }));
        return;
    }
    match behind {
        Some(bytes) => ui.line(format_args!(
            "  the server is at {} on timeline {}, {} ahead of the archive",
            server.end,
            server.timeline,
            format::bytes(bytes)
        )),
        None => ui.line(format_args!(
            "  the server is at {} on timeline {}, of which nothing is archived",
            server.end, server.timeline
        )),
    }
}

/// The records of all captures; a snapshot that is none, or can't be read, has none.
fn captures(snapshots: &[(Id, Snapshot)], reader: &BlobReader<'_>) -> Vec<Member> {
    let ours = snapshots
        .iter()
        .filter(|(_, snapshot)| snapshot.tags.iter().any(|tag| tag == OWN_TAG));
    ours.filter_map(|(_, snapshot)| member_of(reader, snapshot.tree).ok())
        .collect()
}

/// Shows one archive, and says whether nothing is missing.
fn show(
    ui: &Ui,
    system: u64,
    holdings: Option<&Holdings>,
    oldest: Option<(Timeline, Lsn)>,
) -> bool {
    let Some(Holdings {
        inventory,
        histories,
    }) = holdings
    else {
        match ui.json {
            true => ui.object(&json!({ "message_type": "archive", "system_id": system.to_string(), "timelines": [] })),
            false => ui.line(format_args!("cluster {system}: no segment is archived")),
        }
        return true;
    };
    // What lies off the way from the oldest capture on is of no use.
    let missing = oldest.and_then(|(timeline, from)| way(timeline, from, None, histories));
    let missing = missing.map(|way| inventory.missing(&way));
    let mut timelines: Vec<Value> = Vec::new();
    let mut is_whole = true;
    if !ui.json {
        ui.line(format_args!("cluster {system}"));
    }
    for (timeline, files) in inventory.timelines() {
        let ranges = inventory.ranges(timeline);
        let gaps = match &missing {
            Some(missing) => missing
                .iter()
                .filter(|gap| gap.first.timeline == timeline)
                .copied()
                .collect(),
            None => inventory.gaps(timeline, None, None),
        };
        is_whole &= gaps.is_empty();
        if ui.json {
            timelines.push(json!({
                "timeline": timeline.0, "segments": inventory.count(timeline), "history": files.has_history,
                "partial": files.partial.map(|segment| segment.to_string()), "streamed": inventory.streamed(timeline).map(|lsn| lsn.to_string()), "ranges": texts(&ranges), "gaps": texts(&gaps),
            }));
            continue;
        }
        ui.line(describe(timeline, inventory, &ranges));
        for gap in &gaps {
            ui.warn(format_args!(
                "MISSING on timeline {timeline}: {}",
                range(gap)
            ));
        }
    }
    // A timeline of which nothing is left has no line of its own.
    let is_known = |timeline| inventory.timelines().any(|(known, _)| known == timeline);
    for gap in missing.iter().flatten() {
        if is_known(gap.first.timeline) {
            continue;
        }
        is_whole = false;
        match ui.json {
            true => timelines.push(json!({
                "timeline": gap.first.timeline.0, "segments": 0, "history": false, "partial": null, "streamed": null, "ranges": [], "gaps": texts(&[*gap]),
            })),
            false => ui.warn(format_args!(
                "MISSING on timeline {}: {}",
                gap.first.timeline,
                range(gap)
            )),
        }
    }
    if ui.json {
        ui.object(&json!({
            "message_type": "archive", "system_id": system.to_string(), "needed_from": oldest.map(|(_, from)| from.to_string()), "timelines": timelines,
        }));
    }
    is_whole
}

fn describe(timeline: Timeline, inventory: &Inventory, ranges: &[SegmentRange]) -> String {
    let count = format::count(inventory.count(timeline) as u64, "segment");
    let whole = match (ranges.first(), ranges.last()) {
        (Some(first), Some(last)) => format!(
            "  timeline {timeline}: {count}, {} to {}",
            first.first, last.last
        ),
        _ => format!("  timeline {timeline}: {count}"),
    };
    match inventory.streamed(timeline) {
        Some(position) => format!("{whole}, and of the next one up to {position}"),
        None => whole,
    }
}

fn range(range: &SegmentRange) -> String {
    match range.first == range.last {
        true => range.first.to_string(),
        false => format!("{} to {}", range.first, range.last),
    }
}

fn texts(ranges: &[SegmentRange]) -> Vec<[String; 2]> {
    let texts = ranges
        .iter()
        .map(|range| [range.first.to_string(), range.last.to_string()]);
    texts.collect()
}

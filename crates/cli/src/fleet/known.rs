//! What the repositories of a fleet have: the newest capture of each member in each of them.
//! It must never take a repository that can't be asked for an empty one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use lifeboat_fleet::Protection;
use lifeboat_format::Snapshot;
use lifeboat_plan::{CopyFacts, CopyName, Flag, FleetPlan, FleetRequest, plan_fleet};
use lifeboat_protect::{CLOCK_SLACK, path_of};
use lifeboat_repo::{Identity, Repository, Snapshots};

use super::file::FleetFile;
use super::outside::World;
use crate::failure::Failure;
use crate::ui::Ui;

/// Asks the repositories what there is of these apps, or of all.
pub fn facts(
    file: &FleetFile,
    world: &World<'_>,
    apps: &[String],
    ui: &Ui,
) -> Result<BTreeMap<CopyName, CopyFacts>, Failure> {
    let protections = file.fleet.members();
    let is_asked = |one: &&Protection<'_>| apps.is_empty() || apps.contains(&one.app.name.value);
    let protections: Vec<&Protection<'_>> = protections.iter().filter(is_asked).collect();
    let mut facts = BTreeMap::new();
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    for place in &file.fleet.repositories {
        let name = &place.name.value;
        let of_place = protections.iter().filter(|one| {
            one.copies
                .iter()
                .any(|copy| copy.repository.name.value == *name)
        });
        let of_place: Vec<&&Protection<'_>> = of_place.collect();
        let apps: BTreeSet<&str> = of_place
            .iter()
            .map(|one| one.app.name.value.as_str())
            .collect();
        for app in apps {
            ui.wish.check()?;
            // Most apps share a place, which is looked at once.
            let looked = seen
                .entry(world.location(place, app))
                .or_insert_with(|| Seen::of(world.known_repository(place, app), file, ui));
            let Seen { snapshots, unknown } = &*looked;
            let of_path = |path: String| {
                let of_it = snapshots.iter();
                of_it.filter(move |snapshot| snapshot.paths == [path.as_str()])
            };
            // By our own clock; the server of a database has another.
            let last_point = of_path(path_of(app)).map(|point| point.time).max();
            for one in of_place.iter().filter(|one| one.app.name.value == app) {
                // What no point names is not tied to the rest of its app: it is done again.
                let named = of_path(one.path()).filter(|snapshot| {
                    let summary = snapshot.summary.as_ref();
                    let ended = summary.and_then(|summary| summary.backup_end);
                    last_point.is_some_and(|point| ended.unwrap_or(snapshot.time) <= point)
                });
                let newest = named.max_by_key(|snapshot| snapshot.time);
                let known = CopyFacts {
                    newest: newest.and_then(|snapshot| instant(snapshot.time)),
                    flag: newest.and_then(|snapshot| Flag::of_tags(&snapshot.tags)),
                    unknown: unknown.clone(),
                };
                let copy = CopyName {
                    app: app.to_owned(),
                    member: one.member.name().value.clone(),
                    repository: name.clone(),
                };
                facts.insert(copy, known);
            }
        }
    }
    Ok(facts)
}

/// What a place has of the fleet.
struct Seen {
    snapshots: Vec<Snapshot>,
    /// Why nobody knows whether that is all.
    unknown: Option<String>,
}

impl Seen {
    fn of(repository: Result<Option<Arc<Repository>>, Failure>, file: &FleetFile, ui: &Ui) -> Self {
        let snapshots = match repository {
            Ok(None) => Ok(Snapshots::default()),
            Ok(Some(repository)) => repository.snapshots().map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        let (snapshots, unknown) = match snapshots {
            Err(failure) => (Vec::new(), Some(failure.message)),
            Ok(snapshots) => {
                // It may be the newest.
                let damaged = snapshots.damaged.first().map(|(id, error)| {
                    let why = lifeboat_repo::chain(error);
                    format!("the snapshot {} can't be read: {why}", id.short())
                });
                (snapshots.all, damaged)
            }
        };
        let snapshots = snapshots.into_iter().map(|(_, snapshot)| snapshot);
        let own = snapshots.filter(|snapshot| snapshot.hostname == file.fleet.name);
        Self {
            snapshots: own.filter(|snapshot| !is_of_future(snapshot, ui)).collect(),
            unknown,
        }
    }
}

/// Whether a capture is of a time that has not come: from a clock that was wrong, and for nothing a measure.
fn is_of_future(snapshot: &Snapshot, ui: &Ui) -> bool {
    let now = lifeboat_repo::now().unix_nanoseconds();
    let is_ahead = snapshot.time.unix_nanoseconds() - now > CLOCK_SLACK.as_nanos() as i128;
    if is_ahead {
        ui.warn(format_args!(
            "a capture of {} says that it is of {}, which has not come yet: it is not counted; a clock is or was wrong",
            snapshot.paths.join(" "),
            crate::format::time(snapshot.time)
        ));
    }
    is_ahead
}

/// What the fleet needs now.
pub fn planned(
    file: &FleetFile,
    facts: &BTreeMap<CopyName, CopyFacts>,
    apps: &[String],
) -> (FleetPlan, Timestamp) {
    let now = instant(lifeboat_repo::now()).unwrap_or(Timestamp::MAX);
    let request = FleetRequest {
        apps,
        host: &Identity::of_this_process().hostname,
        now,
        zone: &TimeZone::system(),
    };
    (plan_fleet(&file.fleet, facts, &request), now)
}

/// An instant as calendars know it.
fn instant(time: lifeboat_format::Timestamp) -> Option<Timestamp> {
    Timestamp::from_nanosecond(time.unix_nanoseconds()).ok()
}

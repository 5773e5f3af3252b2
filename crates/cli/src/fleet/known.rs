//! What the repositories of a fleet have: the newest capture of each member in each of them.
//! It must never take a repository that can't be asked for an empty one.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use lifeboat_fleet::Protection;
use lifeboat_plan::{CopyFacts, CopyName, FleetPlan, FleetRequest, plan_fleet};
use lifeboat_repo::Identity;

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
            let found = world.repository(place, app).and_then(|repository| {
                let snapshots = repository.snapshots()?;
                match snapshots.damaged.first() {
                    // It may be the newest.
                    Some((id, error)) => Err(Failure::from_error(error)
                        .while_doing(format_args!("read the snapshot {}", id.short()))),
                    None => Ok(snapshots.all),
                }
            });
            for one in of_place.iter().filter(|one| one.app.name.value == app) {
                let path = one.path();
                let known = match &found {
                    Err(failure) => CopyFacts::Unknown(failure.message.clone()),
                    Ok(snapshots) => {
                        let own = snapshots.iter().filter(|(_, snapshot)| {
                            snapshot.hostname == file.fleet.name
                                && snapshot.paths == [path.as_str()]
                        });
                        let newest = own.map(|(_, snapshot)| snapshot.time).max();
                        CopyFacts::Newest(newest.and_then(instant))
                    }
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

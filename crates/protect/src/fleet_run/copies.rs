//! Copies of captures: what one repository has of an app and another lacks goes there, with the recovery points.
//! It must never copy anything of another app, or take the failure of a copy for one of the capture.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::RwLock;
use std::time::Instant;

use lifeboat_fleet::Role;
use lifeboat_flow::{Cancelled, chain};
use lifeboat_format::{Id, Snapshot};
use lifeboat_plan::MemberState;
use lifeboat_repo::{BlobReader, Copier, CopyOptions, Index, PackListing, RepoError};

use super::done::{FleetDone, StepDone, StepResult};
use super::{FleetRun, Store, Turn};
use crate::point::{PointFailure, PointWriter, newest_point, path_of};

/// Snapshots and indexes of source and target.
type Known<'a> = (
    &'a [(Id, Snapshot)],
    &'a Index,
    &'a [(Id, Snapshot)],
    &'a RwLock<Index>,
);

/// What was copied: snapshots and stored bytes.
type Copied = (u64, u64);

/// Why nothing was.
enum Uncopied {
    Stopped(Cancelled),
    Failed(String),
}

impl From<RepoError> for Uncopied {
    fn from(error: RepoError) -> Self {
        match Cancelled::is_cause_of(&error) {
            true => Self::Stopped(Cancelled),
            false => Self::Failed(chain(&error)),
        }
    }
}

impl From<PointFailure> for Uncopied {
    fn from(error: PointFailure) -> Self {
        match Cancelled::is_cause_of(&error) {
            true => Self::Stopped(Cancelled),
            false => Self::Failed(chain(&error)),
        }
    }
}

impl FleetRun<'_> {
    /// Copies what is due, from each repository to each other.
    pub(super) fn copies(&self, turn: &Turn<'_>, done: &mut FleetDone) -> Result<(), Cancelled> {
        let mut ways: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for (member, copy) in turn.copies() {
            if let Some(from) = &copy.from {
                ways.entry((from, &copy.repository))
                    .or_default()
                    .push(member);
            }
        }
        for ((from, to), members) in ways {
            self.cancel.check()?;
            let began = Instant::now();
            for member in &members {
                self.events.begins(turn.name(), member, to);
            }
            let copied = match self.copy(turn.name(), from, to, &members) {
                Ok(copied) => Ok(copied),
                Err(Uncopied::Stopped(stop)) => return Err(stop),
                Err(Uncopied::Failed(why)) => Err(why),
            };
            for member in members {
                let result = match copied.as_ref().map(|of_member| of_member.get(member)) {
                    Ok(Some((snapshots, stored_bytes))) => StepResult::Copied {
                        snapshots: *snapshots,
                        stored_bytes: *stored_bytes,
                    },
                    Ok(None) => StepResult::Failed(format!("{from} has no capture to copy")),
                    Err(why) => StepResult::Failed(why.clone()),
                };
                self.end(
                    done,
                    StepDone {
                        app: turn.name().to_owned(),
                        member: member.to_owned(),
                        repository: to.to_owned(),
                        result,
                        took: began.elapsed(),
                    },
                );
            }
        }
        Ok(())
    }

    fn copy(
        &self,
        app: &str,
        from: &str,
        to: &str,
        members: &[&str],
    ) -> Result<BTreeMap<String, Copied>, Uncopied> {
        let open = |name: &str, writes| {
            let place = self.fleet.repository(name);
            let place =
                place.ok_or_else(|| Uncopied::Failed(format!("there is no repository {name}")))?;
            self.outside
                .open(place, app, writes)
                .map_err(|error| match error.is_wish {
                    true => Uncopied::Stopped(Cancelled),
                    false => Uncopied::Failed(format!("{name}: {}", error.message)),
                })
        };
        let (source, target): (Store, Store) = (open(from, false)?, open(to, true)?);
        let snapshots = source.repository.snapshots()?;
        if let Some((id, error)) = snapshots.damaged.first() {
            // It may be what is to be copied.
            return Err(Uncopied::Failed(format!(
                "the snapshot {} in {from} can't be read: {}",
                id.short(),
                chain(error)
            )));
        }
        let snapshots = snapshots.all;
        let (from_index, _) = source
            .repository
            .load_index(PackListing::Skip, self.cancel)?;
        let there = target.repository.snapshots()?.all;
        let (to_index, report) = target
            .repository
            .load_index(PackListing::Compare, self.cancel)?;
        let to_index = RwLock::new(to_index);
        let to_marked: HashSet<Id> = report.marked_packs.into_iter().collect();
        // Points of the source name what lies in it: they are copied where all of that is.
        let takes_points = self.is_whole_way(app, from, to);
        let of_points = takes_points.then(|| path_of(app));
        let below = format!("{}/", path_of(app));
        let paths: BTreeSet<String> = members
            .iter()
            .map(|member| format!("{below}{member}"))
            .chain(of_points)
            .collect();
        let is_asked = |snapshot: &Snapshot| {
            let is_ours = snapshot.hostname == self.fleet.name;
            is_ours && matches!(snapshot.paths.as_slice(), [path] if paths.contains(path))
        };
        // Recovery points after what they name.
        let mut selected: Vec<(Id, Snapshot)> = snapshots
            .iter()
            .filter(|(_, snapshot)| is_asked(snapshot))
            .cloned()
            .collect();
        selected.sort_by_key(|(_, snapshot)| snapshot.paths == [path_of(app)]);
        let member_by_id: BTreeMap<Id, String> = selected
            .iter()
            .filter_map(|(id, snapshot)| {
                let member = snapshot.paths.first()?.strip_prefix(&below)?;
                Some((*id, member.to_owned()))
            })
            .collect();
        let copier = Copier {
            from: &source.repository,
            from_index: &from_index,
            to: &target.repository,
            to_index: &to_index,
            to_marked: &to_marked,
            options: CopyOptions {
                readers: source.repository.backend().connections().max(self.workers),
                ingest: self.ingest.uploaders_for(&**target.repository.backend()),
            },
            cancel: self.cancel,
        };
        let plan = copier.plan(selected, &there)?;
        if let Some(lock) = &target.lock {
            lock.ensure()?;
        }
        let refused = plan.refused.len();
        let outcome = copier.run(plan, target.lock.as_ref(), self.counters)?;
        let refused = refused + outcome.refused.len();
        if refused > 0 {
            return Err(Uncopied::Failed(format!(
                "{refused} snapshots in {from} are damaged and were not copied; `lifeboat repo check --read-data` there says more"
            )));
        }
        // Also where all was there: the point may be what is missing.
        if !takes_points {
            let known: Known<'_> = (&snapshots, &from_index, &there, &to_index);
            self.point_of_copies(app, (&source, &target), known, members)?;
        }
        // Also those of which nothing was new.
        let mut copied: BTreeMap<String, Copied> = member_by_id
            .values()
            .map(|member| (member.clone(), Copied::default()))
            .collect();
        for (id, _) in &outcome.copied {
            if let Some(of_member) = member_by_id.get(id).and_then(|name| copied.get_mut(name)) {
                of_member.0 += 1;
            }
        }
        // What was stored is of all of them; it is told once.
        if let Some(first) = members.first().and_then(|first| copied.get_mut(*first)) {
            first.1 = outcome.stored.stored_bytes;
        }
        Ok(copied)
    }

    /// Whether all members of an app are copied from one repository to the other.
    fn is_whole_way(&self, app: &str, from: &str, to: &str) -> bool {
        let members = self.fleet.members();
        let mut of_app = members.iter().filter(|one| one.app.name.value == app);
        of_app.all(|one| {
            one.copies
                .iter()
                .any(|copy| copy.repository.name.value == to && copy.role == Role::CopyOf(from))
        })
    }

    /// Writes a point of the target's own: what was copied is as the newest point of the source has it.
    fn point_of_copies(
        &self,
        app: &str,
        (source, target): (&Store, &Store),
        (snapshots, from_index, there, to_index): Known<'_>,
        members: &[&str],
    ) -> Result<(), Uncopied> {
        let path = path_of(app);
        let of_app = snapshots.iter().filter(|(_, snapshot)| {
            snapshot.hostname == self.fleet.name && snapshot.paths == [path.as_str()]
        });
        let mut candidates: Vec<(Id, &Snapshot)> =
            of_app.map(|(id, snapshot)| (*id, snapshot)).collect();
        candidates.sort_by_key(|(id, snapshot)| Reverse((snapshot.time, *id)));
        let reader = BlobReader::new(&source.repository, from_index);
        let Some((id, point)) = newest_point(&reader, &candidates)? else {
            return Ok(());
        };
        let mut copied = point.members;
        copied.retain(|name, member| {
            member.state != MemberState::Failed && members.contains(&name.as_str())
        });
        let here = target.repository.config().id.to_string();
        for member in copied.values_mut() {
            member.state = MemberState::Captured;
            member.repository = Some(here.clone());
        }
        let fleet = self.identity(&target.repository);
        let fleet = fleet.map_err(|error| Uncopied::Failed(chain(&error)))?;
        let writer = PointWriter {
            repository: &target.repository,
            index: to_index,
            lock: target.lock.as_ref(),
            fleet: &fleet,
            app,
            fleet_file: Some(self.text),
            ingest: self.ingest,
            events: self.events,
            cancel: self.cancel,
        };
        let made = candidates.iter().find(|(known, _)| *known == id);
        let Some((_, snapshot)) = made else {
            return Ok(());
        };
        let draft = Snapshot {
            parent: None,
            ..(*snapshot).clone()
        };
        writer.follow(there, copied, draft, (self.now)())?;
        Ok(())
    }
}

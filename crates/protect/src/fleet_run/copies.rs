//! Copies of captures: what one repository has of an app and another lacks goes there, with the recovery points.
//! It must never copy anything of another app, or take the failure of a copy for one of the capture.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::RwLock;
use std::time::Instant;

use lifeboat_flow::{Cancelled, chain};
use lifeboat_format::{Id, Snapshot};
use lifeboat_repo::{Copier, CopyOptions, PackListing, RepoError};

use super::done::{FleetDone, StepDone, StepResult};
use super::{FleetRun, Store, Turn};
use crate::point::path_of;

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
        let snapshots = source.repository.snapshots()?.all;
        let (from_index, _) = source
            .repository
            .load_index(PackListing::Skip, self.cancel)?;
        let there = target.repository.snapshots()?.all;
        let (to_index, report) = target
            .repository
            .load_index(PackListing::Compare, self.cancel)?;
        let to_index = RwLock::new(to_index);
        let to_marked: HashSet<Id> = report.marked_packs.into_iter().collect();
        let paths: BTreeSet<String> = members
            .iter()
            .map(|member| format!("{}/{member}", path_of(app)))
            .chain([path_of(app)])
            .collect();
        let is_asked = |snapshot: &Snapshot| {
            let is_ours = snapshot.hostname == self.fleet.name;
            is_ours && matches!(snapshot.paths.as_slice(), [path] if paths.contains(path))
        };
        // Recovery points after what they name.
        let mut selected: Vec<(Id, Snapshot)> = snapshots
            .into_iter()
            .filter(|(_, snapshot)| is_asked(snapshot))
            .collect();
        selected.sort_by_key(|(_, snapshot)| snapshot.paths == [path_of(app)]);
        let member_by_id: BTreeMap<Id, String> = selected
            .iter()
            .filter_map(|(id, snapshot)| {
                let member = snapshot.paths.first()?.rsplit('/').next()?;
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
}

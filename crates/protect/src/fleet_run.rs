//! Carries out what a fleet needs: captures into repositories, the recovery point of each app, and copies of both.
//! It must never let one member or repository that fails keep another from being protected, nor call that a success.

mod captures;
mod copies;
mod done;
mod hooks;

use std::path::Path;
use std::sync::{Arc, Mutex};

use lifeboat_fleet::{App, Database, Fleet as FleetFile, Member, Protection, Repository as Place};
use lifeboat_flow::{Cancel, Cancelled, Counters, Event, EventSink, Timestamp};
use lifeboat_plan::{AppPlan, CopyPlan, FleetPlan};
use lifeboat_repo::{Identity, IngestOptions, LockGuard, Repository};
use lifeboat_state::postgres::client::Address;

use crate::fleet::Fleet;

pub use done::{FleetDone, StepDone, StepResult};

/// An open repository of a fleet. Its lock is released when this is dropped.
pub struct Store {
    /// The repository.
    pub repository: Arc<Repository>,
    /// The lock, of whoever writes.
    pub lock: Option<LockGuard>,
}

/// Something outside could not be had, in words for people.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct OutsideError {
    /// What failed and why.
    pub message: String,
    /// Whether somebody wished to stop.
    pub is_wish: bool,
}

/// What a run needs from outside: whoever runs it knows secrets and options.
pub trait Outside: Sync {
    /// Opens the repository of an app.
    ///
    /// # Errors
    /// When it can't be had.
    fn open(&self, place: &Place, app: &str, writes: bool) -> Result<Store, OutsideError>;

    /// Where the server of a database is, and as whom to ask it.
    ///
    /// # Errors
    /// When its password can't be had.
    fn address(&self, database: &Database) -> Result<Address, OutsideError>;
}

/// Who is told how a run goes on.
pub trait RunEvents: EventSink {
    /// A step begins.
    fn begins(&self, app: &str, member: &str, repository: &str);
    /// A step has ended.
    fn ended(&self, step: &StepDone);
}

/// A run that carries out a plan.
pub struct FleetRun<'a> {
    /// The fleet.
    pub fleet: &'a FleetFile,
    /// The text of its file, which recovery points keep.
    pub text: &'a [u8],
    /// Where relative paths of the file begin.
    pub dir: &'a Path,
    /// The world outside.
    pub outside: &'a dyn Outside,
    /// How to store.
    pub ingest: IngestOptions,
    /// Threads.
    pub workers: usize,
    /// Who runs it.
    pub who: &'a Identity,
    /// The program, for snapshots.
    pub program: &'a str,
    /// Where copies of SQLite databases lie until they are stored.
    pub scratch: &'a Path,
    /// Where programs of PostgreSQL may lie besides the usual places.
    pub program_dirs: &'a [std::path::PathBuf],
    /// Where progress is counted.
    pub counters: &'a Counters,
    /// Who is told.
    pub events: &'a dyn RunEvents,
    /// The wish to stop.
    pub cancel: &'a Cancel,
    /// The time here.
    pub now: fn() -> Timestamp,
    /// Who the fleet is, as the first repository of the run knows it.
    pub known: Mutex<Option<Fleet>>,
}

/// An app of the plan, with what the fleet says of it.
struct Turn<'a> {
    app: &'a App,
    /// Members of which something is to be done, each with its copies.
    members: Vec<DueMember<'a>>,
}

struct DueMember<'a> {
    protection: &'a Protection<'a>,
    copies: Vec<&'a CopyPlan>,
}

impl DueMember<'_> {
    fn name(&self) -> &str {
        &self.protection.member.name().value
    }

    fn member(&self) -> Member<'_> {
        self.protection.member
    }
}

impl FleetRun<'_> {
    /// Does what is to be done now. What fails is in the result.
    ///
    /// # Errors
    /// When somebody wishes to stop; what was acknowledged until then stays.
    pub fn run(&self, plan: &FleetPlan) -> Result<FleetDone, Cancelled> {
        let protections = self.fleet.members();
        let mut done = FleetDone::default();
        for planned in plan.apps.iter().filter(|app| app.elsewhere.is_none()) {
            let Some(turn) = self.turn(planned, &protections) else {
                continue;
            };
            self.cancel.check()?;
            self.app(&turn, &mut done)?;
        }
        Ok(done)
    }

    fn turn<'a>(
        &'a self,
        planned: &'a AppPlan,
        protections: &'a [Protection<'a>],
    ) -> Option<Turn<'a>> {
        let app = self.fleet.app(&planned.app)?;
        let mut members = Vec::new();
        for member in &planned.members {
            let protection = protections.iter().find(|one| {
                one.app.name.value == planned.app && one.member.name().value == member.member
            })?;
            let due = member.copies.iter().filter(|copy| copy.reason().is_some());
            let copies: Vec<&CopyPlan> = due.collect();
            if !copies.is_empty() {
                members.push(DueMember { protection, copies });
            }
        }
        (!members.is_empty()).then_some(Turn { app, members })
    }

    fn app(&self, turn: &Turn<'_>, done: &mut FleetDone) -> Result<(), Cancelled> {
        // Nothing stands still for repositories that can't be had.
        let places = self.open_all(turn, done)?;
        if !places.is_empty() {
            let (before, ready) = self.before(turn.app);
            let captured = match ready {
                Ok(()) => self.captures(turn, &places, done),
                Err(why) => {
                    for place in &places {
                        self.fail(turn, place.name(), place.members(), &why, done);
                    }
                    Ok(())
                }
            };
            // What was stopped before starts again, whatever became of the captures.
            let troubles = self.after(turn.app, &before);
            if captured.is_err() {
                // Nobody reads the result of a run that was stopped.
                for trouble in &troubles {
                    self.events.event(Event::Note(trouble.clone()));
                }
            }
            done.troubles.extend(troubles);
            captured?;
        }
        drop(places);
        self.copies(turn, done)
    }

    fn fail(
        &self,
        turn: &Turn<'_>,
        repository: &str,
        members: &[&DueMember<'_>],
        why: &str,
        done: &mut FleetDone,
    ) {
        for member in members {
            let step = StepDone::failed(turn.name(), member.name(), repository, why);
            self.end(done, step);
        }
    }

    fn end(&self, done: &mut FleetDone, step: StepDone) {
        self.events.ended(&step);
        done.steps.push(step);
    }
}

impl<'a> Turn<'a> {
    fn copies(&self) -> impl Iterator<Item = (&str, &'a CopyPlan)> {
        self.members
            .iter()
            .flat_map(|member| member.copies.iter().map(|copy| (member.name(), *copy)))
    }

    fn name(&self) -> &'a str {
        &self.app.name.value
    }
}

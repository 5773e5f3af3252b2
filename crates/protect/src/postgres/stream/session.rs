//! One connection of a stream: who the server is, where the stream begins, and along which timelines it goes.
//! It must never stream a timeline before its history is in the archive: nobody would find it there.

use lifeboat_repo::Appended;
use lifeboat_state::postgres::client::PgError;
use lifeboat_state::postgres::{
    History, Identity, Inventory, Lsn, Replication, SegmentBytes, SlotFacts, StreamFacts,
    StreamStart, Timeline, WalName, stream_starts,
};

use super::course::{Course, CourseEnd};
use super::{LogReceiver, StreamEnd, StreamError, StreamEvent, storer};
use crate::postgres::archive::{Archive, parse_history};

/// What a server says when it has a file no more.
const GONE: &str = "58P01";
/// What it says when a slot is there already.
const SLOT_EXISTS: &str = "42710";

/// One connection.
pub(super) struct Session<'a> {
    receiver: &'a LogReceiver<'a>,
    /// Whether a stream began.
    pub(super) has_streamed: bool,
    /// How far what it streamed is durable.
    kept: Lsn,
}

/// What is known when a stream begins.
struct Ground<'a> {
    archive: Archive<'a>,
    identity: Identity,
    size: SegmentBytes,
    slot: SlotFacts,
    history: History,
    inventory: Inventory,
}

impl<'a> Session<'a> {
    pub(super) fn new(receiver: &'a LogReceiver<'a>) -> Self {
        Self {
            receiver,
            has_streamed: false,
            kept: Lsn(0),
        }
    }

    pub(super) fn run(&mut self) -> Result<StreamEnd, StreamError> {
        let mut replication = self.open()?;
        let ground = self.ground(&mut replication)?;
        let starts = stream_starts(&StreamFacts {
            timeline: ground.identity.timeline,
            history: &ground.history,
            end: ground.identity.end,
            kept_from: ground.slot.kept_from,
            size: ground.size,
            inventory: &ground.inventory,
        });
        let mut nexts = starts.iter().skip(1);
        for start in &starts {
            let next = nexts.next();
            let ended = self.stream(replication, &ground, *start);
            let removed = match ended {
                Err(StreamError::Server(error)) if is_code(&error, GONE) => error,
                ended => return ended,
            };
            let from = start.at.max(self.kept);
            let to = next.map_or(ground.identity.end, |next| next.at);
            if !self.receiver.skips_lost || next.is_none() {
                let cause = removed;
                return Err(StreamError::Removed { from, to, cause });
            }
            (self.receiver.events)(StreamEvent::Skipped { from, to });
            replication = self.open()?;
        }
        Ok(StreamEnd::Stopped)
    }

    fn open(&self) -> Result<Replication, StreamError> {
        let LogReceiver { address, stop, .. } = self.receiver;
        Ok(Replication::open(address, stop)?)
    }

    /// Asks the server and the archive, and mends what an earlier stream left behind.
    fn ground(&self, replication: &mut Replication) -> Result<Ground<'a>, StreamError> {
        let stop = self.receiver.stop;
        let identity = replication.identify(stop)?;
        let size = replication.segment_bytes(stop)?;
        let slot = self.slot(replication)?;
        let archive = Archive::new(self.receiver.repository, identity.system_id);
        let inventory = archive.inventory(Some(size))?;
        let inventory = inventory.map_or_else(|| Inventory::of([], size), |held| held.inventory);
        for (segment, pieces) in inventory.twice() {
            if !archive.holds(WalName::Segment(segment))? {
                continue;
            }
            // Where nothing can be removed, it is told when the next segment is whole.
            let _ = pieces.iter().try_for_each(|piece| archive.remove(*piece));
        }
        let mut ground = Ground {
            history: History::default(),
            archive,
            identity,
            size,
            slot,
            inventory,
        };
        if identity.timeline.0 > 1 {
            ground.history = self.keep_history(replication, &ground.archive, identity.timeline)?;
        }
        self.keep_older(replication, &ground)?;
        Ok(ground)
    }

    fn slot(&self, replication: &mut Replication) -> Result<SlotFacts, StreamError> {
        let LogReceiver { slot, stop, .. } = self.receiver;
        if let Some(found) = replication.slot(slot, stop)? {
            return Ok(found);
        }
        if self.receiver.creates_slot {
            match replication.create_slot(slot, stop) {
                Ok(()) => (self.receiver.events)(StreamEvent::SlotCreated),
                // Somebody was faster.
                Err(error) if is_code(&error, SLOT_EXISTS) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let found = replication.slot(slot, stop)?;
        found.ok_or_else(|| StreamError::NoSlot((*slot).to_owned()))
    }

    /// Puts the history of a timeline into the archive, and gives it.
    fn keep_history(
        &self,
        replication: &mut Replication,
        archive: &Archive<'_>,
        timeline: Timeline,
    ) -> Result<History, StreamError> {
        let content = replication.history(timeline, self.receiver.stop)?;
        let name = WalName::History(timeline);
        if archive.push(name, &content)? == Appended::New {
            (self.receiver.events)(StreamEvent::Archived { name, is_new: true });
        }
        Ok(parse_history(timeline, &content)?)
    }

    /// The histories of the timelines before, where the archive lacks one: a server asks for each number in turn.
    fn keep_older(
        &self,
        replication: &mut Replication,
        ground: &Ground<'_>,
    ) -> Result<(), StreamError> {
        for switch in &ground.history.switches {
            let timeline = switch.timeline;
            let mut held = ground.inventory.timelines();
            if timeline.0 == 1 || held.any(|(of, files)| of == timeline && files.has_history) {
                continue;
            }
            match self.keep_history(replication, &ground.archive, timeline) {
                // It was never there, as on a server that was restored without it.
                Err(StreamError::Server(error)) if is_code(&error, GONE) => {}
                kept => drop(kept?),
            }
        }
        Ok(())
    }

    /// Streams from a place on, along as many timelines as there are.
    fn stream(
        &mut self,
        mut replication: Replication,
        ground: &Ground<'_>,
        start: StreamStart,
    ) -> Result<StreamEnd, StreamError> {
        let LogReceiver { slot, stop, .. } = *self.receiver;
        let Ground { archive, size, .. } = ground;
        // One segment is being stored while the next one comes; nothing waits between the two.
        let (parcels, to_store) = crossbeam_channel::bounded(0);
        let (told, outcomes) = crossbeam_channel::unbounded();
        std::thread::scope(|scope| {
            // Dropped at the end of this, which ends the thread.
            let (parcels, outcomes) = (parcels, outcomes);
            scope.spawn(move || storer::run(archive, &to_store, &told, stop));
            let reported = ground.slot.kept_from.unwrap_or_default();
            let mut course = Course::new(
                self.receiver,
                archive,
                *size,
                &ground.inventory,
                &parcels,
                &outcomes,
                reported,
            );
            let (mut place, mut begins) = (start, None);
            loop {
                let mut stream = replication.stream(slot, place.timeline, place.at, stop)?;
                self.has_streamed = true;
                if begins.is_none() {
                    (self.receiver.events)(StreamEvent::Started {
                        system_id: ground.identity.system_id,
                        timeline: place.timeline,
                        at: place.at,
                    });
                }
                let ended = course.follow(&mut stream, place.segment(*size), begins);
                self.kept = course.kept();
                match ended? {
                    CourseEnd::Ended => {}
                    CourseEnd::Stopped => return Ok(StreamEnd::Stopped),
                    CourseEnd::Reached => return Ok(StreamEnd::Reached),
                }
                let (next, at) = stream.finish(stop)?;
                self.keep_history(&mut replication, archive, next)?;
                (self.receiver.events)(StreamEvent::Left {
                    timeline: place.timeline,
                    next,
                    at,
                });
                let first = Lsn(at.0 - at.0 % size.get());
                (place, begins) = (
                    StreamStart {
                        timeline: next,
                        at: first,
                    },
                    Some(at),
                );
            }
        })
    }
}

fn is_code(error: &PgError, code: &str) -> bool {
    error.server().is_some_and(|server| server.code == code)
}

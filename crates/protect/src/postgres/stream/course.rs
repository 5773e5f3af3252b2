//! The course of a stream along one timeline: the log comes, is handed over to be stored, and is reported as kept.
//! It must never wait for the repository without a word to the server, which would take us for gone.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender};
use lifeboat_flow::chain;
use lifeboat_repo::Appended;
use lifeboat_state::postgres::client::PgError;
use lifeboat_state::postgres::{
    Inventory, LogStream, Lsn, OpenSegment, Parcel, SegmentBytes, SegmentName, Streamed, WalName,
};

use super::storer::Stored;
use super::{LogReceiver, StreamError, StreamEvent};
use crate::postgres::archive::{Archive, ArchiveError};

/// How long one look for more lasts.
const LOOK: Duration = Duration::from_millis(200);
/// The same while something is being stored.
const LOOK_BUSY: Duration = Duration::from_millis(5);
/// How often the server hears of us at least: by default it gives up on who is silent for 60 s.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// After how much silence the server is asked for a sign of life.
const ASK_AFTER: Duration = Duration::from_secs(20);
/// A server that is silent for longer is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long is waited for the storing thread before the server hears of us.
const STORER_LOOK: Duration = Duration::from_secs(1);

/// Why a course ended.
pub(super) enum CourseEnd {
    /// The server has no more on this timeline.
    Ended,
    /// Somebody wished to stop.
    Stopped,
    /// All before the wanted end is durable.
    Reached,
}

/// A course along a timeline.
pub(super) struct Course<'a> {
    receiver: &'a LogReceiver<'a>,
    archive: &'a Archive<'a>,
    size: SegmentBytes,
    /// What the archive had when the session began.
    inventory: &'a Inventory,
    parcels: &'a Sender<Parcel>,
    outcomes: &'a Receiver<Result<Stored, ArchiveError>>,
    /// Parcels of which nothing was heard yet.
    in_flight: usize,
    /// Up to where the log of the server goes.
    end: Lsn,
    /// Up to where the log is durable.
    kept: Lsn,
    /// What was last reported, which is never gone back from: the slot would.
    reported: Lsn,
    reported_at: Instant,
    heard_at: Instant,
    stored_at: Option<Instant>,
    says_pieces_stay: bool,
}

impl<'a> Course<'a> {
    pub(super) fn new(
        receiver: &'a LogReceiver<'a>,
        archive: &'a Archive<'a>,
        size: SegmentBytes,
        inventory: &'a Inventory,
        parcels: &'a Sender<Parcel>,
        outcomes: &'a Receiver<Result<Stored, ArchiveError>>,
        reported: Lsn,
    ) -> Self {
        let now = Instant::now();
        Self {
            receiver,
            archive,
            size,
            inventory,
            parcels,
            outcomes,
            in_flight: 0,
            end: Lsn(0),
            kept: Lsn(0),
            reported,
            reported_at: now,
            heard_at: now,
            stored_at: None,
            says_pieces_stay: true,
        }
    }

    /// Up to where the log is durable.
    pub(super) fn kept(&self) -> Lsn {
        self.kept
    }

    /// Follows a timeline from the beginning of a segment on; it began at `begins`, if that is in this segment. However it
    /// ends, what has come is stored.
    pub(super) fn follow(
        &mut self,
        stream: &mut LogStream<'_>,
        first: SegmentName,
        begins: Option<Lsn>,
    ) -> Result<CourseEnd, StreamError> {
        let mut segment = self.open(first, begins)?;
        self.kept = segment.came();
        self.heard_at = Instant::now();
        let ended = match self.receive(stream, &mut segment) {
            Err(StreamError::Server(PgError::Cancelled(_))) => Ok(CourseEnd::Stopped),
            Err(StreamError::Server(error)) => Err(error.into()),
            ended => return ended,
        };
        self.flush(stream, &mut segment)?;
        ended
    }

    fn receive(
        &mut self,
        stream: &mut LogStream<'_>,
        segment: &mut OpenSegment,
    ) -> Result<CourseEnd, StreamError> {
        loop {
            self.collect(stream)?;
            if self.in_flight == 0 && segment.known() > self.kept {
                self.kept = segment.known();
                self.report(stream, segment.came(), false);
            }
            if self.is_reached() {
                return Ok(CourseEnd::Reached);
            }
            if self.is_due(segment)
                && let Some(parcel) = segment.next_parcel()
            {
                self.hand_over(stream, parcel)?;
            }
            match stream.next(self.look(segment), self.receiver.stop)? {
                Streamed::Log { at, end, bytes } => {
                    self.hear(end);
                    self.take(stream, segment, at, &bytes)?;
                }
                Streamed::Alive { end, wants_answer } => {
                    self.hear(end);
                    if wants_answer {
                        self.report(stream, segment.came(), false);
                    }
                }
                Streamed::Nothing if self.heard_at.elapsed() >= SILENCE_MAX => {
                    return Err(PgError::Silent(SILENCE_MAX).into());
                }
                Streamed::Nothing => {}
                Streamed::Ended => {
                    self.flush(stream, segment)?;
                    return Ok(CourseEnd::Ended);
                }
            }
            if self.reported_at.elapsed() >= REPORT_EVERY {
                let wants_answer = self.heard_at.elapsed() >= ASK_AFTER;
                self.report(stream, segment.came(), wants_answer);
            }
        }
    }

    fn open(&self, name: SegmentName, begins: Option<Lsn>) -> Result<OpenSegment, StreamError> {
        let pieces = self.inventory.pieces(name);
        let known = match pieces {
            [] => Vec::new(),
            _ => self.archive.beginning(name)?,
        };
        Ok(OpenSegment::new(name, self.size, known, pieces, begins))
    }

    /// Takes what came, over the end of a segment if it goes there.
    fn take(
        &mut self,
        stream: &mut LogStream<'_>,
        segment: &mut OpenSegment,
        at: Lsn,
        bytes: &[u8],
    ) -> Result<(), StreamError> {
        let (mut at, mut rest) = (at, bytes);
        loop {
            rest = segment.take(at, rest)?;
            at = segment.came();
            // What was handed over comes before it, and is kept only when it is stored.
            if self.in_flight == 0 {
                self.kept = self.kept.max(segment.known());
            }
            if !segment.is_whole() {
                return Ok(());
            }
            let name = segment.name();
            let next = name.next(self.size);
            let next = next.ok_or(StreamError::LastSegment(WalName::Segment(name)))?;
            let whole = std::mem::replace(segment, self.open(next, None)?);
            self.hand_over(stream, whole.into_parcel())?;
        }
    }

    /// Whether what came is stored now: when nothing else is, and not too often.
    fn is_due(&self, segment: &OpenSegment) -> bool {
        let wanted = self
            .receiver
            .until
            .is_some_and(|until| segment.came() >= until);
        let waited = self.stored_at.map(|at| at.elapsed());
        self.in_flight == 0
            && (wanted || waited.is_none_or(|waited| waited >= self.receiver.interval))
    }

    /// How long to wait for more: what is being stored is reported as soon as it is, because somebody may wait for that, and
    /// what came is stored when its time has come.
    fn look(&self, segment: &OpenSegment) -> Duration {
        let is_pending = segment.came() > self.kept;
        let waited = self.stored_at.map_or(Duration::MAX, |at| at.elapsed());
        match self.in_flight > 0 {
            true => LOOK_BUSY,
            false if is_pending => {
                let left = self.receiver.interval.saturating_sub(waited);
                left.clamp(LOOK_BUSY, LOOK)
            }
            false => LOOK,
        }
    }

    fn is_reached(&self) -> bool {
        self.receiver.until.is_some_and(|until| self.kept >= until)
    }

    fn hear(&mut self, end: Lsn) {
        self.end = end;
        self.heard_at = Instant::now();
    }

    /// Hands something over to be stored; while that must wait, nothing is read, and the server keeps it.
    fn hand_over(
        &mut self,
        stream: &mut LogStream<'_>,
        mut parcel: Parcel,
    ) -> Result<(), StreamError> {
        let came = parcel.to;
        loop {
            match self.parcels.send_timeout(parcel, STORER_LOOK) {
                Ok(()) => {
                    self.in_flight += 1;
                    let now = Instant::now();
                    // Nobody listened meanwhile.
                    (self.stored_at, self.heard_at) = (Some(now), now);
                    return Ok(());
                }
                Err(SendTimeoutError::Timeout(back)) => {
                    parcel = back;
                    self.collect(stream)?;
                    if self.reported_at.elapsed() >= REPORT_EVERY {
                        self.report(stream, came, false);
                    }
                }
                Err(SendTimeoutError::Disconnected(_)) => {
                    self.collect(stream)?;
                    return Err(StreamError::Storer);
                }
            }
        }
    }

    /// Stores all that came, and waits for that.
    fn flush(
        &mut self,
        stream: &mut LogStream<'_>,
        segment: &mut OpenSegment,
    ) -> Result<(), StreamError> {
        if let Some(parcel) = segment.next_parcel() {
            self.hand_over(stream, parcel)?;
        }
        while self.in_flight > 0 {
            match self.outcomes.recv_timeout(STORER_LOOK) {
                Ok(outcome) => self.note(outcome?),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(StreamError::Storer),
            }
            self.report(stream, segment.came(), false);
        }
        Ok(())
    }

    /// Hears of what was stored, and reports it.
    fn collect(&mut self, stream: &mut LogStream<'_>) -> Result<(), StreamError> {
        let before = self.kept;
        while let Ok(outcome) = self.outcomes.try_recv() {
            self.note(outcome?);
        }
        if self.kept > before.max(self.reported) {
            self.report(stream, self.kept, false);
        }
        Ok(())
    }

    fn note(&mut self, stored: Stored) {
        let Stored {
            name,
            appended,
            to,
            unremoved,
        } = stored;
        self.in_flight = self.in_flight.saturating_sub(1);
        self.kept = self.kept.max(to);
        let tell = self.receiver.events;
        if matches!(name, WalName::Segment(_)) {
            let is_new = appended == Appended::New;
            tell(StreamEvent::Archived { name, is_new });
        }
        if let Some(error) = unremoved
            && std::mem::take(&mut self.says_pieces_stay)
        {
            tell(StreamEvent::PiecesStay { why: chain(&error) });
        }
        tell(StreamEvent::Kept {
            timeline: name.timeline(),
            position: self.kept,
            behind_bytes: self.end.0.saturating_sub(self.kept.0),
        });
    }

    /// Tells the server how far the log came and how far it is kept; nothing of the latter as long as that is less than it
    /// was, as at the beginning of a segment that comes once more. A connection that is lost shows when more should come: what
    /// came before is stored all the same.
    fn report(&mut self, stream: &mut LogStream<'_>, came: Lsn, wants_answer: bool) {
        let kept = match self.kept >= self.reported {
            true => self.kept,
            false => Lsn(0),
        };
        self.reported = self.reported.max(kept);
        self.reported_at = Instant::now();
        let _ = stream.report(came.max(kept), kept, wants_answer);
    }
}

//! When a capture is due, and how far behind its promise it is.
//! It must never run a missed turn more than once, nor call a member fresh of which nobody knows the newest capture.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use lifeboat_fleet::{Jitter, Schedule, TimeSpan};

/// When the captures of one copy are made.
#[derive(Clone, Debug)]
pub struct Turns<'a> {
    schedule: &'a Schedule,
    shift: SignedDuration,
    zone: &'a TimeZone,
}

/// Whether a capture is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Now, because of this.
    Now(DueReason),
    /// Not before this instant.
    At(Timestamp),
    /// Never again.
    Never,
}

/// Why a capture is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DueReason {
    /// There is none yet.
    First,
    /// Its turn came at this instant.
    Turn(Timestamp),
    /// Several turns were missed, the last at this instant; they are caught up with one capture.
    Missed(Timestamp),
    /// Another copy has one of this instant.
    Behind(Timestamp),
    /// Somebody asked for it.
    Asked,
}

/// How a member stands in one repository, beside what was promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Freshness {
    /// The capture of the last turn is there.
    Fresh,
    /// Its turn has come, and the capture is not there yet.
    Due,
    /// A whole turn was missed, or the objective is.
    Overdue,
    /// There is no capture at all.
    NeverRun,
    /// Nobody knows what is there.
    Unknown,
}

impl Freshness {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Due => "due",
            Self::Overdue => "overdue",
            Self::NeverRun => "never run",
            Self::Unknown => "unknown",
        }
    }

    /// Whether the promise is broken.
    #[must_use]
    pub fn is_late(self) -> bool {
        matches!(self, Self::Overdue | Self::NeverRun)
    }
}

impl<'a> Turns<'a> {
    /// The turns of a schedule, shifted as jitter says for what `seed` names.
    #[must_use]
    pub fn new(schedule: &'a Schedule, jitter: Jitter, seed: &str, zone: &'a TimeZone) -> Self {
        let shift = jitter.offset(seed, schedule.period());
        Self {
            schedule,
            // A shift is shorter than a period, and that than ten thousand years.
            shift: SignedDuration::try_from(shift).unwrap_or(SignedDuration::ZERO),
            zone,
        }
    }

    /// The last turn, not after `now`.
    #[must_use]
    pub fn last(&self, now: Timestamp) -> Option<Timestamp> {
        let turn = self
            .schedule
            .last_before(now.checked_sub(self.shift).ok()?, self.zone)?;
        turn.checked_add(self.shift).ok()
    }

    /// The first turn after `now`.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let turn = self
            .schedule
            .next_after(now.checked_sub(self.shift).ok()?, self.zone)?;
        turn.checked_add(self.shift).ok()
    }

    /// The turn before the last one.
    fn before_last(&self, now: Timestamp) -> Option<Timestamp> {
        let last = self.last(now)?;
        self.last(last.checked_sub(SignedDuration::from_nanos(1)).ok()?)
    }

    /// Whether a capture is due, when the newest is of `newest`.
    #[must_use]
    pub fn due(&self, newest: Option<Timestamp>, now: Timestamp) -> Due {
        let Some(newest) = newest else {
            return Due::Now(DueReason::First);
        };
        match self.last(now) {
            Some(turn) if newest < turn => {
                let is_missed = self.before_last(now).is_some_and(|before| newest < before);
                Due::Now(match is_missed {
                    true => DueReason::Missed(turn),
                    false => DueReason::Turn(turn),
                })
            }
            _ => self.next(now).map_or(Due::Never, Due::At),
        }
    }

    /// How the newest capture stands. Whoever asks leaves out those of a time that has not come, but for what clocks differ by.
    #[must_use]
    pub fn freshness(
        &self,
        newest: Option<Timestamp>,
        objective: Option<TimeSpan>,
        now: Timestamp,
    ) -> Freshness {
        let Some(newest) = newest else {
            return Freshness::NeverRun;
        };
        let is_missed = objective.is_some_and(|objective| {
            let age = now.duration_since(newest);
            SignedDuration::try_from(objective.duration()).is_ok_and(|most| age > most)
        });
        match self.due(Some(newest), now) {
            _ if is_missed => Freshness::Overdue,
            Due::Now(DueReason::Missed(_)) => Freshness::Overdue,
            Due::Now(_) => Freshness::Due,
            Due::At(_) | Due::Never => Freshness::Fresh,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn with<T>(schedule: &str, run: impl FnOnce(&Turns<'_>) -> T) -> T {
        let schedule: Schedule = schedule.parse().unwrap();
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        run(&Turns::new(&schedule, Jitter::None, "", &zone))
    }

    #[test]
    fn the_first_capture_is_due_at_once_and_the_next_at_its_turn() {
        with("0 3 * * *", |turns| {
            let now = at("2026-11-22T10:00:00Z");
            assert_eq!(turns.due(None, now), Due::Now(DueReason::First));
            let due = turns.due(Some(now), now);
            assert_eq!(due, Due::At(at("2026-11-23T02:00:00Z")));
            let turn = at("2026-11-23T02:00:00Z");
            assert_eq!(turns.due(Some(now), turn), Due::Now(DueReason::Turn(turn)));
            assert_eq!(
                turns.due(Some(turn), turn),
                Due::At(at("2026-11-24T02:00:00Z"))
            );
        });
    }

    #[test]
    fn turns_that_were_missed_are_one() {
        with("hourly", |turns| {
            let newest = at("2026-11-22T01:00:03Z");
            let now = at("2026-11-22T07:30:00Z");
            let due = turns.due(Some(newest), now);
            assert_eq!(due, Due::Now(DueReason::Missed(at("2026-11-22T07:00:00Z"))));
            assert_eq!(
                turns.due(Some(now), now),
                Due::At(at("2026-11-22T08:00:00Z"))
            );
        });
    }

    #[test]
    fn late_is_who_missed_a_turn_or_the_objective() {
        with("hourly", |turns| {
            let newest = at("2026-11-22T06:00:03Z");
            let stands = |objective: Option<&str>, now| {
                let objective = objective.map(|text| text.parse().unwrap());
                turns.freshness(Some(newest), objective, at(now))
            };
            assert_eq!(stands(None, "2026-11-22T06:59:59Z"), Freshness::Fresh);
            assert_eq!(stands(None, "2026-11-22T07:00:00Z"), Freshness::Due);
            assert_eq!(stands(None, "2026-11-22T08:00:00Z"), Freshness::Overdue);
            let strict = Some("30m");
            assert_eq!(stands(strict, "2026-11-22T06:30:03Z"), Freshness::Fresh);
            assert_eq!(stands(strict, "2026-11-22T06:30:04Z"), Freshness::Overdue);
            // Of a clock that is a little ahead.
            assert_eq!(stands(strict, "2026-11-22T06:00:02Z"), Freshness::Fresh);
            assert_eq!(
                turns.freshness(None, None, at("2026-11-22T08:00:00Z")),
                Freshness::NeverRun
            );
        });
    }
}

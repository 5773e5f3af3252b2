//! The time of day and its zone, as times in a repository have them.
//! It must never be asked where a decision is made: decisions are given `now`.

use jiff::Zoned;
use lifeboat_format::Timestamp;

/// Now, with the offset of the system's time zone.
#[must_use]
pub fn now() -> Timestamp {
    let now = Zoned::now();
    Timestamp {
        seconds: now.timestamp().as_second(),
        nanoseconds: u32::try_from(now.timestamp().subsec_nanosecond()).unwrap_or(0),
        offset_seconds: now.offset().seconds(),
    }
}

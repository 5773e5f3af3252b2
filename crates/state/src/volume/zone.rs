//! The machine's time zone: which offset a time of a file is written with, as restic does.
//! It must never change an instant; a time outside what the zone knows is written in UTC.

use lifeboat_flow::Timestamp;

/// The machine's time zone, looked up once.
#[derive(Debug)]
pub(crate) struct Zone(jiff::tz::TimeZone);

impl Zone {
    /// From `TZ` or `/etc/localtime`; UTC if the system names none.
    pub(crate) fn of_system() -> Self {
        Self(jiff::tz::TimeZone::system())
    }

    /// An instant of a file with the offset that was in force there then.
    pub(crate) fn stamp(&self, seconds: i64, nanoseconds: u32) -> Timestamp {
        let offset = jiff::Timestamp::from_second(seconds)
            .map_or(0, |instant| self.0.to_offset(instant).seconds());
        Timestamp {
            seconds,
            nanoseconds,
            offset_seconds: offset,
        }
        .confined()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summer_and_winter_have_their_own_offsets() {
        let zone =
            Zone(jiff::tz::TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a POSIX zone"));
        assert_eq!(
            zone.stamp(1_704_067_200, 5).to_string(),
            "2024-01-01T01:00:00.000000005+01:00"
        );
        assert_eq!(
            zone.stamp(1_719_792_000, 0).to_string(),
            "2024-07-01T02:00:00+02:00"
        );
        assert_eq!(zone.stamp(-1, 0).to_string(), "1970-01-01T00:59:59+01:00");
        assert_eq!(zone.stamp(i64::MIN, 0).to_string(), "0000-01-01T00:00:00Z");
    }
}

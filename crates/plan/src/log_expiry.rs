//! Which files of an archived database log no capture needs any more, by their names alone.
//! It must never let a file go that ends behind the beginning of a capture that is kept, whatever its timeline.

use crate::recovery_window::ClusterCapture;

/// A place in a cluster's log that captures need everything from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBound {
    /// The first position that is needed, in bytes.
    from: u64,
    /// The size of segments, in bytes.
    segment_bytes: u64,
}

/// What a file of a log is, as far as expiry looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LogFile<'a> {
    pub(crate) timeline: u32,
    /// The middle and the last part of a segment's name; none for a history.
    pub(crate) place: Option<(u32, u32)>,
    /// The whole name: what comes after the segment orders the files of one.
    pub(crate) name: &'a str,
}

impl LogBound {
    /// The bound of all captures of one cluster; `None` if there are none.
    ///
    /// Positions grow along a timeline, and a timeline that forks off begins with the position of the fork. So whichever
    /// way a recovery from one of these captures goes, it needs nothing from before the least of their beginnings.
    #[must_use]
    pub fn of<'a>(captures: impl IntoIterator<Item = &'a ClusterCapture>) -> Option<Self> {
        captures
            .into_iter()
            .map(|capture| Self {
                from: capture.start,
                segment_bytes: capture.segment_bytes,
            })
            // `pg_resetwal --wal-segsize` changes the size within one cluster: by the largest, a segment ends last.
            .reduce(|one, other| Self {
                from: one.from.min(other.from),
                segment_bytes: one.segment_bytes.max(other.segment_bytes),
            })
    }

    /// Whether a file is not needed: a segment, or what belongs to one, that ends at or before the bound. A history is
    /// small, and needed by whatever comes after it.
    #[must_use]
    pub fn is_past(&self, path: &str) -> bool {
        let place = LogFile::parse(path).and_then(|file| file.place);
        place.is_some_and(|(log, part)| {
            let end = (u64::from(part) + 1).checked_mul(self.segment_bytes);
            let end = end.and_then(|end| end.checked_add(u64::from(log) << 32));
            end.is_some_and(|end| end <= self.from)
        })
    }
}

impl<'a> LogFile<'a> {
    /// By its path, of which only the name counts; `None` for what is none of the log. Whatever is written behind the name
    /// of a segment, as `.partial` or the bounds of a piece, belongs to that segment.
    pub(crate) fn parse(path: &'a str) -> Option<Self> {
        let name = path.rsplit('/').next().unwrap_or_default();
        let timeline = number(name, 0)?;
        let place = match number(name, 8).zip(number(name, 16)) {
            Some(place) => match name.as_bytes().get(24) {
                None | Some(b'.') => Some(place),
                Some(_) => return None,
            },
            None if name.get(8..) == Some(".history") => None,
            None => return None,
        };
        Some(Self {
            timeline,
            place,
            name,
        })
    }
}

/// Eight digits as the server writes them, from a place of a name on.
fn number(name: &str, from: usize) -> Option<u32> {
    let digits = name.get(from..from + 8)?;
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte);
    let is_number = digits.bytes().all(is_digit);
    is_number
        .then(|| u32::from_str_radix(digits, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery_window::samples::capture;

    #[test]
    fn a_segment_goes_when_it_ends_before_every_capture() {
        let mut captures = [capture(1, 100), capture(2, 200)];
        captures[0].start = (0x1_0000_0000) + (5 << 24) + 40;
        captures[1].start = 0x2_0000_0000;
        let bound = LogBound::of(&captures).unwrap();
        for past in [
            "00000001/000000010000000100000004",
            "00000007/000000070000000100000004",
            "00000001/0000000100000000000000FF",
            "000000010000000100000004.partial",
            "000000010000000100000004.00000028.backup",
            "pieces/000000010000000100000004.00000000-00100000",
        ] {
            assert!(bound.is_past(past), "{past}");
        }
        for needed in [
            "00000001/000000010000000100000005",
            "00000001/000000010000000100000006",
            "00000001/00000001.history",
            "000000010000000100000004x",
            "00000001000000010000000",
            "core",
            "",
        ] {
            assert!(!bound.is_past(needed), "{needed}");
        }
        // A capture that begins with a segment needs none before it.
        captures[0].start = 0x1_0500_0000;
        let bound = LogBound::of(&captures).unwrap();
        assert!(bound.is_past("000000010000000100000004"));
        assert!(!bound.is_past("000000010000000100000005"));
        // Nobody knows of which size it was.
        captures[1].segment_bytes = 64 << 20;
        let bound = LogBound::of(&captures).unwrap();
        assert!(!bound.is_past("000000010000000100000004"));
        assert!(bound.is_past("000000010000000100000000"));
        assert_eq!(LogBound::of(&[]), None);
    }
}

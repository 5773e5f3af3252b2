//! Where a stream of the log begins: what the archive has, and what the server keeps for it.
//! It must never begin behind something that the archive lacks and the server may still have.

use super::history::History;
use super::inventory::Inventory;
use super::lsn::{Lsn, Timeline};
use super::wal_name::{SegmentBytes, SegmentName};

/// What is known of a server, its slot and the archive.
#[derive(Clone, Copy, Debug)]
pub struct StreamFacts<'a> {
    /// The timeline that the server is on.
    pub timeline: Timeline,
    /// Where that one left the ones before it.
    pub history: &'a History,
    /// How far the log of the server goes.
    pub end: Lsn,
    /// From where on the slot keeps the log; `None` if it keeps none yet.
    pub kept_from: Option<Lsn>,
    /// The size of segments.
    pub size: SegmentBytes,
    /// What the archive has.
    pub inventory: &'a Inventory,
}

/// A place in the log, always the beginning of a segment: servers keep whole ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamStart {
    /// The timeline.
    pub timeline: Timeline,
    /// The position.
    pub at: Lsn,
}

impl StreamStart {
    /// The segment that begins there.
    #[must_use]
    pub fn segment(self, size: SegmentBytes) -> SegmentName {
        SegmentName::holding(self.timeline, self.at, size)
    }
}

/// Where a stream may begin, the best first. The next one is worth a try only if the server no longer has what comes before
/// it, and then that is lost for the archive.
#[must_use]
pub fn stream_starts(facts: &StreamFacts<'_>) -> Vec<StreamStart> {
    let size = facts.size.get();
    let StreamFacts {
        inventory, history, ..
    } = *facts;
    let now = facts.end.0 / size;
    let kept = facts.kept_from.map_or(now, |kept| (kept.0 / size).min(now));
    // A segment in which timelines change is whole on the newer one.
    let timeline_of = |number: u64| {
        let last = number.saturating_mul(size).saturating_add(size - 1);
        history.timeline_of(Lsn(last), facts.timeline)
    };
    let is_whole = |number: &u64| inventory.has(timeline_of(*number), *number);
    let mut numbers: Vec<u64> = Vec::new();
    // The archive goes on where it ends, not where the slot begins: what lies between may still be there.
    let before =
        |(timeline, number): &(Timeline, u64)| *number < kept && timeline_of(*number) == *timeline;
    if let Some((_, newest)) = inventory.begun().filter(before).max_by_key(|(_, n)| *n) {
        let missing = newest + u64::from(is_whole(&newest));
        numbers.extend(Some(missing).filter(|missing| *missing < kept));
    }
    numbers.extend((kept..=now).find(|number| !is_whole(number)).or(Some(now)));
    numbers.push(now);
    numbers.dedup();
    let place = |number: u64| {
        let at = Lsn(number.saturating_mul(size));
        StreamStart {
            timeline: history.timeline_of(at, facts.timeline),
            at,
        }
    };
    numbers.into_iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(names: &[&str], kept: Option<u64>, end: u64, history: &str) -> Vec<(u32, u64)> {
        let names = names.iter().map(|name| name.parse().expect("a name"));
        let history = History::parse(history).expect("a history");
        let timeline = history
            .switches
            .last()
            .map_or(1, |last| last.timeline.0 + 1);
        let facts = StreamFacts {
            timeline: Timeline(timeline),
            history: &history,
            end: Lsn((end << 24) + 77),
            kept_from: kept.map(|kept| Lsn((kept << 24) + 5)),
            size: SegmentBytes::DEFAULT,
            inventory: &Inventory::of(names, SegmentBytes::DEFAULT),
        };
        let found = stream_starts(&facts).into_iter();
        found
            .map(|start| (start.timeline.0, start.at.0 >> 24))
            .collect()
    }

    #[test]
    fn it_goes_on_where_the_archive_ends() {
        assert_eq!(starts(&[], None, 9, ""), [(1, 9)]);
        assert_eq!(starts(&[], Some(7), 9, ""), [(1, 7), (1, 9)]);
        let archived = ["000000010000000000000006", "000000010000000000000007"];
        assert_eq!(starts(&archived, Some(7), 9, ""), [(1, 8), (1, 9)]);
        // The server may have what the slot does not promise.
        assert_eq!(starts(&archived, Some(9), 9, ""), [(1, 8), (1, 9)]);
        assert_eq!(
            starts(&archived[..1], Some(8), 9, ""),
            [(1, 7), (1, 8), (1, 9)]
        );
        // A segment that has begun is not whole.
        let begun = ["000000010000000000000005.00000000-00000100"];
        assert_eq!(starts(&begun, Some(5), 9, ""), [(1, 5), (1, 9)]);
        assert_eq!(starts(&begun, Some(6), 9, ""), [(1, 5), (1, 6), (1, 9)]);
        // A hole behind what the slot keeps is filled.
        let holes = ["000000010000000000000006", "000000010000000000000008"];
        assert_eq!(starts(&holes, Some(6), 9, ""), [(1, 7), (1, 9)]);
        // Who archives as well may be ahead.
        let ahead = ["000000010000000000000008", "000000010000000000000009"];
        assert_eq!(starts(&ahead, Some(8), 9, ""), [(1, 9)]);
    }

    #[test]
    fn a_segment_in_which_the_timeline_changed_belongs_to_the_newer() {
        let history = "1\t0/7000100\tx\n";
        let first = ["000000010000000000000006"];
        assert_eq!(starts(&first, Some(6), 9, history), [(1, 7), (2, 9)]);
        // The old part does not make it whole, nor does anything that another timeline has.
        let old = [
            first[0],
            "000000010000000000000007",
            "000000030000000000000008",
        ];
        assert_eq!(starts(&old, Some(7), 9, history), [(1, 7), (2, 9)]);
        let both = [first[0], "000000020000000000000007"];
        assert_eq!(starts(&both, Some(7), 9, history), [(2, 8), (2, 9)]);
    }
}

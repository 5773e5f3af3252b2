//! What an archive of the log holds: per timeline the segments that are there, and those that are missing in between.
//! It must never call a segment absent for good that later ones prove to be lost.

use std::collections::{BTreeMap, BTreeSet};

use super::lsn::{Lsn, Timeline};
use super::wal_name::{SegmentBytes, SegmentName, WalName};

/// The names in an archive of one cluster.
#[derive(Clone, Debug)]
pub struct Inventory {
    size: SegmentBytes,
    timelines: BTreeMap<Timeline, TimelineFiles>,
}

/// What there is of one timeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimelineFiles {
    /// The numbers of whole segments.
    segments: BTreeSet<u64>,
    /// The last segment, where the timeline was left in the middle of one.
    pub partial: Option<SegmentName>,
    /// Whether it is told where it left the one before.
    pub has_history: bool,
}

/// Segments without a hole, from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentRange {
    /// The first.
    pub first: SegmentName,
    /// The last.
    pub last: SegmentName,
}

/// What it means that a file is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// Nothing behind it is there either: the archive ends before it.
    Beyond,
    /// A later one is there: it was lost.
    Lost {
        /// The next that is there.
        next: SegmentName,
    },
}

impl Inventory {
    /// Of all names in an archive of a cluster with segments of this size.
    #[must_use]
    pub fn of(names: impl IntoIterator<Item = WalName>, size: SegmentBytes) -> Self {
        let mut timelines: BTreeMap<Timeline, TimelineFiles> = BTreeMap::new();
        for name in names {
            match name {
                WalName::History(timeline) => {
                    timelines.entry(timeline).or_default().has_history = true
                }
                WalName::Segment(segment) => {
                    let files = timelines.entry(segment.timeline).or_default();
                    files.segments.extend(segment.number(size));
                }
                WalName::Partial(segment) => {
                    timelines.entry(segment.timeline).or_default().partial = Some(segment);
                }
                WalName::Backup(..) => {}
            }
        }
        Self { size, timelines }
    }

    /// The timelines, the oldest first.
    pub fn timelines(&self) -> impl Iterator<Item = (Timeline, &TimelineFiles)> {
        self.timelines
            .iter()
            .map(|(timeline, files)| (*timeline, files))
    }

    /// How many whole segments of a timeline there are.
    #[must_use]
    pub fn count(&self, timeline: Timeline) -> usize {
        self.timelines
            .get(&timeline)
            .map_or(0, |files| files.segments.len())
    }

    /// What is there of a timeline, in ranges without holes.
    #[must_use]
    pub fn ranges(&self, timeline: Timeline) -> Vec<SegmentRange> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for number in self
            .timelines
            .get(&timeline)
            .into_iter()
            .flat_map(|files| &files.segments)
        {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *number => *last = *number,
                _ => ranges.push((*number, *number)),
            }
        }
        let named = |number| SegmentName::numbered(timeline, number, self.size);
        let ranges = ranges.into_iter().map(|(first, last)| SegmentRange {
            first: named(first),
            last: named(last),
        });
        ranges.collect()
    }

    /// What is missing of a timeline before its last segment: from this position on, or between those that are there.
    #[must_use]
    pub fn gaps(&self, timeline: Timeline, from: Option<Lsn>) -> Vec<SegmentRange> {
        let Some(files) = self.timelines.get(&timeline) else {
            return Vec::new();
        };
        let from =
            from.and_then(|from| SegmentName::holding(timeline, from, self.size).number(self.size));
        let mut next = from.or_else(|| files.segments.first().copied());
        let mut gaps = Vec::new();
        for number in files.segments.iter().copied() {
            let Some(expected) = next.filter(|expected| number >= *expected) else {
                continue;
            };
            if number > expected {
                gaps.push(SegmentRange {
                    first: SegmentName::numbered(timeline, expected, self.size),
                    last: SegmentName::numbered(timeline, number - 1, self.size),
                });
            }
            next = Some(number + 1);
        }
        gaps
    }

    /// The end of what is there of a timeline from a position on without a hole; nothing if its segment is not there.
    #[must_use]
    pub fn frontier(&self, timeline: Timeline, from: Lsn) -> Option<Lsn> {
        let holder = SegmentName::holding(timeline, from, self.size).number(self.size)?;
        let files = self.timelines.get(&timeline)?;
        let mut last = files.segments.get(&holder).copied()?;
        while files.segments.contains(&(last + 1)) {
            last += 1;
        }
        SegmentName::numbered(timeline, last, self.size)
            .next(self.size)?
            .start(self.size)
    }

    /// What it means that this file is not there.
    #[must_use]
    pub fn absence(&self, name: WalName) -> Absence {
        let WalName::Segment(segment) = name else {
            return Absence::Beyond;
        };
        let after = segment.number(self.size).and_then(|number| {
            let files = self.timelines.get(&segment.timeline)?;
            files.segments.range(number..).next()
        });
        match after {
            None => Absence::Beyond,
            Some(number) => Absence::Lost {
                next: SegmentName::numbered(segment.timeline, *number, self.size),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory(names: &[&str]) -> Inventory {
        let names = names.iter().map(|name| name.parse().expect("a name"));
        Inventory::of(names, SegmentBytes::DEFAULT)
    }

    fn segment(name: &str) -> SegmentName {
        match name.parse() {
            Ok(WalName::Segment(segment)) => segment,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn holes_are_found_from_a_position_on() {
        let names = [
            "000000010000000000000003",
            "000000010000000000000004",
            "000000010000000000000007",
            "000000010000000100000000",
            "00000002.history",
            "000000020000000000000008",
        ];
        let found = inventory(&names);
        let first = Timeline(1);
        let ranges = found.ranges(first);
        assert_eq!(ranges.len(), 3);
        assert_eq!(ranges[0].last, segment("000000010000000000000004"));
        let gaps = found.gaps(first, None);
        let shown: Vec<String> = gaps
            .iter()
            .map(|gap| format!("{}-{}", gap.first, gap.last))
            .collect();
        assert_eq!(
            shown,
            [
                "000000010000000000000005-000000010000000000000006",
                "000000010000000000000008-0000000100000000000000FF"
            ]
        );
        // What no capture needs is not missing.
        assert_eq!(found.gaps(first, Some(Lsn(7 << 24))).len(), 1);
        // What a capture needs is, though nothing before it is there.
        let missing = found.gaps(first, Some(Lsn((1 << 24) + 77)));
        assert_eq!(missing[0].first, segment("000000010000000000000001"));
        assert_eq!(missing[0].last, segment("000000010000000000000002"));
        assert!(found.gaps(first, Some(Lsn(1 << 40))).is_empty());
        assert_eq!(
            found.frontier(first, Lsn((3 << 24) + 5)),
            Some(Lsn(5 << 24))
        );
        assert_eq!(found.frontier(first, Lsn(5 << 24)), None);
        assert_eq!(found.count(Timeline(2)), 1);
    }

    #[test]
    fn what_is_lost_is_not_the_end() {
        let found = inventory(&["000000010000000000000003", "000000010000000000000007"]);
        let lost = found.absence(WalName::Segment(segment("000000010000000000000005")));
        assert_eq!(
            lost,
            Absence::Lost {
                next: segment("000000010000000000000007")
            }
        );
        for beyond in [
            "000000010000000000000008",
            "000000020000000000000005",
            "00000002.history",
        ] {
            assert_eq!(
                found.absence(beyond.parse().expect("a name")),
                Absence::Beyond,
                "{beyond}"
            );
        }
        // It was there when it was listed, and is not now: lost as well.
        let gone = found.absence(WalName::Segment(segment("000000010000000000000007")));
        assert!(matches!(gone, Absence::Lost { .. }));
    }
}

//! What an archive of the log holds: per timeline the segments that are there, and those that are missing in between.
//! It must never call a segment absent for good that later ones prove to be lost.

use std::collections::{BTreeMap, BTreeSet};

use super::history::History;
use super::lsn::{Lsn, Timeline};
use super::piece::{Piece, beginning};
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
    /// Pieces of segments, by the number of the segment.
    pieces: BTreeMap<u64, Vec<Piece>>,
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
    /// Nothing proves that it ever was: the archive ends before it.
    Beyond,
    /// Something proves that there was one: it was lost.
    Lost {
        /// What proves it.
        by: WalName,
    },
}

/// A part of the way that a recovery goes: a timeline, from a position on, up to where it was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The timeline.
    pub timeline: Timeline,
    /// From where its log is needed.
    pub from: Lsn,
    /// Where it was left for the next one; the last has no end.
    pub until: Option<Lsn>,
}

/// What the absence of a file means to a server on `own` timeline, which asks for it. `names` are all of the cluster's, and
/// `histories` those of the timelines after the asked one.
#[must_use]
pub fn absence(
    asked: WalName,
    own: Timeline,
    size: SegmentBytes,
    names: &[WalName],
    histories: &BTreeMap<Timeline, History>,
) -> Absence {
    let by = match asked {
        // A server asks which timelines came before its own, and for newer ones until one is not there: whatever is on such
        // a one, or on one behind it, would be passed over.
        WalName::History(timeline) if timeline <= own => None,
        WalName::History(timeline) => names.iter().find(|name| name.timeline() >= timeline),
        WalName::Segment(segment) => names
            .iter()
            .find(|name| proves(**name, segment, size, histories)),
        WalName::Partial(_) | WalName::Backup(..) | WalName::Piece(_) => None,
    };
    by.map_or(Absence::Beyond, |by| Absence::Lost { by: *by })
}

/// Whether there was this segment, since there is that file.
fn proves(
    name: WalName,
    asked: SegmentName,
    size: SegmentBytes,
    histories: &BTreeMap<Timeline, History>,
) -> bool {
    let timeline = name.timeline();
    if timeline < asked.timeline {
        return false;
    }
    if timeline == asked.timeline {
        return match name {
            WalName::Segment(segment) | WalName::Backup(segment, _) => segment >= asked,
            // The asked one itself may be what was left in the middle.
            WalName::Partial(segment) => segment > asked,
            // It may end where its pieces end.
            WalName::Piece(piece) => piece.segment > asked,
            WalName::History(_) => false,
        };
    }
    let Some(history) = histories.get(&timeline) else {
        // Nobody knows where it left the asked one.
        return true;
    };
    let left = history
        .switches
        .iter()
        .find(|switch| switch.timeline == asked.timeline);
    left.is_some_and(|left| SegmentName::holding(asked.timeline, left.at, size) > asked)
}

/// The way of a recovery from a position of a timeline: along the newest timeline that goes on from there, or a named one.
/// `None` if the named one does not.
#[must_use]
pub fn way(
    own: Timeline,
    from: Lsn,
    follow: Option<Timeline>,
    histories: &BTreeMap<Timeline, History>,
) -> Option<Vec<Stretch>> {
    let goes_on = |history: &History| {
        let mut switches = history.switches.iter();
        switches.any(|switch| switch.timeline == own && switch.at >= from)
    };
    let alone = || {
        vec![Stretch {
            timeline: own,
            from,
            until: None,
        }]
    };
    let target = match follow {
        Some(named) if named == own => return Some(alone()),
        Some(named) => (
            named,
            histories.get(&named).filter(|history| goes_on(history))?,
        ),
        None => match histories.iter().rfind(|(_, history)| goes_on(history)) {
            Some((timeline, history)) => (*timeline, history),
            None => return Some(alone()),
        },
    };
    let (last, history) = target;
    let (mut stretches, mut next) = (Vec::new(), from);
    for switch in history
        .switches
        .iter()
        .skip_while(|switch| switch.timeline != own)
    {
        stretches.push(Stretch {
            timeline: switch.timeline,
            from: next,
            until: Some(switch.at),
        });
        next = switch.at;
    }
    stretches.push(Stretch {
        timeline: last,
        from: next,
        until: None,
    });
    Some(stretches)
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
                WalName::Piece(piece) => {
                    let files = timelines.entry(piece.segment.timeline).or_default();
                    if let Some(number) = piece.segment.number(size) {
                        files.pieces.entry(number).or_default().push(piece);
                    }
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

    /// The position up to which a stream has stored what comes after the last whole segment of a timeline, without a hole;
    /// `None` if no piece of that is there.
    #[must_use]
    pub fn streamed(&self, timeline: Timeline) -> Option<Lsn> {
        let files = self.timelines.get(&timeline)?;
        let after = files.segments.last().map(|last| last + 1);
        let number = after.or_else(|| files.pieces.keys().next().copied())?;
        let last = beginning(files.pieces.get(&number)?).pop()?;
        let start = number.saturating_mul(self.size.get());
        Some(Lsn(start.saturating_add(last.to_bytes.into())))
    }

    /// The position up to which there is anything of a timeline: behind its last whole segment, or what is streamed of the
    /// next.
    #[must_use]
    pub fn end(&self, timeline: Timeline) -> Option<Lsn> {
        let last = self.timelines.get(&timeline)?.segments.last();
        let whole = last.map(|last| Lsn((last + 1).saturating_mul(self.size.get())));
        self.streamed(timeline).or(whole)
    }

    /// The pieces of a segment.
    #[must_use]
    pub fn pieces(&self, segment: SegmentName) -> &[Piece] {
        let files = self.timelines.get(&segment.timeline);
        let pieces = segment
            .number(self.size)
            .and_then(|number| files?.pieces.get(&number));
        pieces.map_or(&[], Vec::as_slice)
    }

    /// Segments that are there whole, and pieces of them nevertheless: who stored the whole was stopped before he removed
    /// those.
    pub fn twice(&self) -> impl Iterator<Item = (SegmentName, &[Piece])> {
        self.timelines.iter().flat_map(move |(timeline, files)| {
            let both = files
                .pieces
                .iter()
                .filter(|(number, _)| files.segments.contains(number));
            both.map(|(number, pieces)| {
                let name = SegmentName::numbered(*timeline, *number, self.size);
                (name, pieces.as_slice())
            })
        })
    }

    /// Whether a segment is there whole, by its number.
    pub(super) fn has(&self, timeline: Timeline, number: u64) -> bool {
        let files = self.timelines.get(&timeline);
        files.is_some_and(|files| files.segments.contains(&number))
    }

    /// The numbers of all segments of which at least a piece is there, with their timelines.
    pub(super) fn begun(&self) -> impl Iterator<Item = (Timeline, u64)> {
        self.timelines.iter().flat_map(|(timeline, files)| {
            let numbers = files.segments.iter().chain(files.pieces.keys());
            numbers.map(|number| (*timeline, *number))
        })
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

    /// What is missing of a timeline: between the segments that are there, from a position on if one is given, and up to
    /// where the timeline was left if it was.
    #[must_use]
    pub fn gaps(
        &self,
        timeline: Timeline,
        from: Option<Lsn>,
        until: Option<Lsn>,
    ) -> Vec<SegmentRange> {
        let none = BTreeSet::new();
        let segments = self
            .timelines
            .get(&timeline)
            .map_or(&none, |files| &files.segments);
        let number =
            |position| SegmentName::holding(timeline, position, self.size).number(self.size);
        let mut next = from.and_then(number).or_else(|| segments.first().copied());
        // Where a timeline is left within a segment, the next one has the beginning of it as well.
        let end = until.and_then(number);
        let mut gaps = Vec::new();
        let mut gap = |first, last| {
            gaps.push(SegmentRange {
                first: SegmentName::numbered(timeline, first, self.size),
                last: SegmentName::numbered(timeline, last, self.size),
            });
        };
        let there = segments
            .iter()
            .copied()
            .filter(|number| end.is_none_or(|end| *number < end));
        for number in there {
            let Some(expected) = next.filter(|expected| number >= *expected) else {
                continue;
            };
            if number > expected {
                gap(expected, number - 1);
            }
            next = Some(number + 1);
        }
        // What was begun proves that there was all before it.
        let files = self.timelines.get(&timeline);
        let begun = files.into_iter().flat_map(|files| {
            let partial = files.partial.and_then(|partial| partial.number(self.size));
            files.pieces.keys().copied().chain(partial)
        });
        let begun = begun
            .filter(|number| end.is_none_or(|end| *number <= end))
            .max();
        if let (Some(expected), Some(end)) = (next, end.max(begun))
            && expected < end
        {
            gap(expected, end - 1);
        }
        gaps
    }

    /// What is missing on a way.
    #[must_use]
    pub fn missing(&self, way: &[Stretch]) -> Vec<SegmentRange> {
        let gaps = way.iter();
        gaps.flat_map(|part| self.gaps(part.timeline, Some(part.from), part.until))
            .collect()
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
        let gaps = found.gaps(first, None, None);
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
        assert_eq!(found.gaps(first, Some(Lsn(7 << 24)), None).len(), 1);
        // What a capture needs is, though nothing before it is there.
        let missing = found.gaps(first, Some(Lsn((1 << 24) + 77)), None);
        assert_eq!(missing[0].first, segment("000000010000000000000001"));
        assert_eq!(missing[0].last, segment("000000010000000000000002"));
        assert!(found.gaps(first, Some(Lsn(1 << 40)), None).is_empty());
        assert_eq!(found.count(Timeline(2)), 1);
    }

    #[test]
    fn what_is_streamed_ends_at_the_first_hole() {
        let whole = "000000010000000000000003";
        let next = [
            "000000010000000000000004.00000000-00000100",
            "000000010000000000000004.00000100-00000200",
            "000000010000000000000004.00000300-00000400",
        ];
        let of = |names: &[&str]| inventory(names).streamed(Timeline(1)).map(|lsn| lsn.0);
        assert_eq!(of(&next), Some(0x400_0200));
        assert_eq!(of(&[&next[..], &[whole]].concat()), Some(0x400_0200));
        assert_eq!(of(&[whole, next[1]]), None);
        assert_eq!(
            of(&[&next[..], &["000000010000000000000004"]].concat()),
            None
        );
        let found = inventory(&[whole]);
        assert_eq!(found.end(Timeline(1)), Some(Lsn(4 << 24)));
        assert_eq!(found.end(Timeline(2)), None);
    }

    #[test]
    fn what_was_begun_proves_what_comes_before_it() {
        let holes = |names: &[&str]| {
            let gaps = inventory(names).gaps(Timeline(1), None, None);
            let gaps = gaps.iter().map(|gap| format!("{}-{}", gap.first, gap.last));
            gaps.collect::<Vec<_>>()
        };
        let hole = "000000010000000000000006-000000010000000000000007";
        for begun in [
            "000000010000000000000008.00000000-00000100",
            "000000010000000000000008.partial",
        ] {
            assert_eq!(
                holes(&["000000010000000000000005", begun]),
                [hole],
                "{begun}"
            );
        }
        let next = "000000010000000000000006.00000000-00000100";
        assert!(holes(&["000000010000000000000005", next]).is_empty());
    }

    fn history(text: &str) -> History {
        History::parse(text).expect("a history")
    }

    fn is_lost(asked: &str, own: u32, names: &[&str], histories: &[(u32, &str)]) -> bool {
        let names: Vec<WalName> = names
            .iter()
            .map(|name| name.parse().expect("a name"))
            .collect();
        let histories = histories
            .iter()
            .map(|(timeline, text)| (Timeline(*timeline), history(text)));
        let histories = histories.collect();
        let asked = asked.parse().expect("a name");
        absence(
            asked,
            Timeline(own),
            SegmentBytes::DEFAULT,
            &names,
            &histories,
        ) != Absence::Beyond
    }

    #[test]
    fn what_is_lost_is_not_the_end() {
        let asked = "000000010000000000000006";
        for proof in [
            "000000010000000000000007",
            "000000010000000000000006",
            "000000010000000000000007.partial",
            "000000010000000000000006.00000028.backup",
            "000000010000000100000000",
            "000000010000000000000007.00000000-00000100",
        ] {
            assert!(is_lost(asked, 1, &[proof], &[]), "{proof}");
        }
        for other in [
            "000000010000000000000005",
            "000000010000000000000006.partial",
            "000000010000000000000006.00000000-00000100",
            "00000001.history",
        ] {
            assert!(!is_lost(asked, 1, &[other], &[]), "{other}");
        }
        // The next timeline tells how far this one went.
        let names = ["00000002.history", "000000020000000000000007"];
        assert!(is_lost(asked, 1, &names, &[(2, "1\t0/7000100\tx")]));
        assert!(!is_lost(asked, 1, &names, &[(2, "1\t0/6000100\tx")]));
        assert!(
            is_lost(asked, 1, &names, &[]),
            "nobody knows where it was left"
        );
        // One that has nothing to do with it.
        assert!(!is_lost(
            "000000020000000000000006",
            2,
            &["00000003.history"],
            &[(3, "1\t0/9000000\tx")]
        ));
    }

    #[test]
    fn a_history_that_is_gone_hides_no_timeline() {
        assert!(!is_lost(
            "00000002.history",
            1,
            &["000000010000000000000009"],
            &[]
        ));
        assert!(is_lost(
            "00000002.history",
            1,
            &["000000020000000000000009"],
            &[]
        ));
        assert!(is_lost("00000002.history", 1, &["00000003.history"], &[]));
        // The server knows its own.
        assert!(!is_lost(
            "00000002.history",
            2,
            &["000000020000000000000009"],
            &[]
        ));
    }

    #[test]
    fn a_way_follows_the_histories_and_what_lies_off_it_is_not_missing() {
        let histories: BTreeMap<Timeline, History> = [
            (Timeline(2), history("1\t0/5000100\tx")),
            (Timeline(3), history("1\t0/5000100\tx\n2\t0/8000000\tx")),
            (Timeline(4), history("1\t0/2000000\tx")),
        ]
        .into();
        let from = Lsn(4 << 24);
        let found = way(Timeline(1), from, None, &histories).expect("a way");
        let parts: Vec<u32> = found.iter().map(|part| part.timeline.0).collect();
        assert_eq!(parts, [1, 2, 3]);
        let names = [
            "000000010000000000000002",
            "000000010000000000000004",
            "000000010000000000000009",
            "000000020000000000000005",
            "000000020000000000000007",
            "000000030000000000000008",
        ];
        let missing: Vec<String> = inventory(&names)
            .missing(&found)
            .iter()
            .map(|gap| gap.first.to_string())
            .collect();
        assert_eq!(missing, ["000000020000000000000006"]);
        // One that left before is not reached.
        assert!(way(Timeline(1), from, Some(Timeline(4)), &histories).is_none());
        let alone = way(Timeline(3), from, None, &histories).expect("a way");
        assert_eq!(alone.len(), 1);
    }
}

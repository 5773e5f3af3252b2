//! Which captures of a database and which files of its log stay, so that it can be recovered to any instant of a window.
//! It must never let the newest good capture go, nor judge the age of a capture by anything but its time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use lifeboat_format::{Id, Timestamp};

use crate::log_expiry::{LogBound, LogFile};
use crate::window::Window;

/// A physical capture of a database cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterCapture {
    /// Its snapshot.
    pub id: Id,
    /// Its tree, by which recovery points name it.
    pub tree: Id,
    /// When it was complete: it can be recovered to this instant and to later ones.
    pub completed: Timestamp,
    /// The system identifier of the cluster.
    pub system: u64,
    /// Its timeline.
    pub timeline: u32,
    /// Where its log begins, in bytes.
    pub start: u64,
    /// Where its log ends, in bytes.
    pub stop: u64,
    /// The size of a segment of the log, in bytes.
    pub segment_bytes: u64,
    /// Whether something in it is damaged.
    pub is_damaged: bool,
    /// The fleet that it belongs to.
    pub fleet: Option<String>,
}

/// A recovery point of the app that the member belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamingPoint {
    /// Its snapshot.
    pub id: Id,
    /// The trees of the captures that it names.
    pub trees: BTreeSet<Id>,
}

/// Where a timeline was left for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The timeline that was left.
    pub timeline: u32,
    /// The position up to which it counts, in bytes.
    pub at: u64,
}

/// What retention is decided on.
#[derive(Clone, Debug, Default)]
pub struct WindowFacts {
    /// All captures of the member.
    pub captures: Vec<ClusterCapture>,
    /// All other captures in the repository: what they need stays.
    pub others: Vec<ClusterCapture>,
    /// The recovery points of the app.
    pub points: Vec<NamingPoint>,
    /// The paths of archived files of each cluster; only their last part counts.
    pub logs: BTreeMap<u64, Vec<String>>,
    /// The names of folded files of each cluster.
    pub folded: BTreeMap<u64, Vec<String>>,
    /// The snapshots that they are folded into.
    pub folds: BTreeMap<u64, Vec<Id>>,
    /// What came before each timeline of each cluster, as the archived histories tell it.
    pub forks: BTreeMap<u64, BTreeMap<u32, Vec<Fork>>>,
    /// The fleet whose captures may go; `None` for those that belong to none.
    pub fleet: Option<String>,
}

/// Why a capture stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StayReason {
    /// It is from within the window.
    Within,
    /// It is the newest good one from before the window, which the first instants of it are recovered from.
    Base,
    /// It is from before the window, and later than that one.
    AfterBase,
    /// A recovery went back behind the one that the window begins with, and this timeline goes on from this one.
    Fork(u32),
    /// No good one is from before the window.
    NoBase,
    /// It is later than now: a clock was wrong.
    Future,
    /// Nothing goes while the newest one is damaged.
    Frozen,
}

impl fmt::Display for StayReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Within => "in the window",
            Self::Base => "the newest good one before the window",
            Self::AfterBase => "later than the one that the window begins with",
            Self::Fork(timeline) => return write!(f, "timeline {timeline} goes on from it"),
            Self::NoBase => "there is no good one from before the window",
            Self::Future => "later than now",
            Self::Frozen => "nothing goes while the newest is damaged",
        })
    }
}

/// What becomes of the archived log of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlan {
    /// The cluster.
    pub system: u64,
    /// Whether all of it goes: no capture of the cluster is left that it could be replayed on.
    pub is_whole: bool,
    /// The paths of what goes, in the order in which it goes.
    pub remove: Vec<String>,
    /// How many files stay.
    pub kept: usize,
    /// The folds that go: all, or none. What expires in one that stays is left out when it is folded next.
    pub folds: Vec<Id>,
}

/// To where one can recover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The first instant.
    pub oldest: Timestamp,
    /// The instant of the newest good capture.
    pub newest: Timestamp,
    /// The last segment of the log that follows it without a hole on its timeline.
    pub log_until: Option<String>,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WindowStep<'a> {
    /// Removes a snapshot.
    Snapshot(Id),
    /// Removes a file of a cluster's log.
    Log(u64, &'a str),
}

/// What goes and what stays. Captures are ordered from new to old.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowPlan {
    /// Where the window begins.
    pub begins: Timestamp,
    /// The captures that stay, and why.
    pub keep: Vec<(ClusterCapture, StayReason)>,
    /// The captures that go.
    pub remove: Vec<ClusterCapture>,
    /// The recovery points that go, because a capture that they name does.
    pub points: Vec<Id>,
    /// Captures of the member that belong to another fleet, or to none, and are left alone.
    pub left_alone: usize,
    /// The log of each cluster that the captures are of.
    pub logs: Vec<LogPlan>,
    /// The newest capture, if it is damaged: then nothing goes.
    pub frozen: Option<ClusterCapture>,
    /// To where one can recover afterwards; `None` without a good capture.
    pub reach: Option<Reach>,
}

impl WindowPlan {
    /// What is done, in an order in which it can be broken off anywhere and begun again.
    ///
    /// A log that goes as a whole goes before the captures it belongs to: without them nobody would know any more that it
    /// may go. It goes from its end, so that it is shorter at any time and never has a hole. Of another log what lies
    /// before all captures goes after those that needed it.
    #[must_use]
    pub fn steps(&self) -> Vec<WindowStep<'_>> {
        let log = |whole: bool| {
            let logs = self.logs.iter().filter(move |log| log.is_whole == whole);
            logs.flat_map(|log| {
                let paths = log.remove.iter();
                let paths = paths.map(|path| WindowStep::Log(log.system, path));
                paths.chain(log.folds.iter().map(|id| WindowStep::Snapshot(*id)))
            })
        };
        // A point never names what is gone.
        let points = self.points.iter().map(|id| WindowStep::Snapshot(*id));
        let captures = self.remove.iter().rev();
        let captures = captures.map(|capture| WindowStep::Snapshot(capture.id));
        log(true)
            .chain(points)
            .chain(captures)
            .chain(log(false))
            .collect()
    }
}

/// Two clusters whose captures lie among each other, if there are such: then time alone does not tell which of them is
/// the member, and a capture of one is no base for the other.
#[must_use]
pub fn interleaved(captures: &[ClusterCapture]) -> Option<(u64, u64)> {
    let mut spans: BTreeMap<u64, (Timestamp, Timestamp)> = BTreeMap::new();
    for capture in captures {
        let at = capture.completed;
        let (first, last) = spans.entry(capture.system).or_insert((at, at));
        (*first, *last) = ((*first).min(at), (*last).max(at));
    }
    let mut spans: Vec<_> = spans.into_iter().collect();
    spans.sort_by_key(|(_, span)| *span);
    let mut pairs = spans.windows(2);
    pairs.find_map(|pair| match pair {
        [(one, (_, last)), (other, (first, _))] if first <= last => Some((*one, *other)),
        _ => None,
    })
}

/// Decides what goes. `now` is only compared with times of captures.
#[must_use]
pub fn keep_window(facts: WindowFacts, window: Window, now: Timestamp) -> WindowPlan {
    let begins = window.before(now);
    let (mut ours, foreign): (Vec<_>, Vec<_>) = facts
        .captures
        .into_iter()
        .partition(|capture| capture.fleet == facts.fleet);
    let age = |capture: &ClusterCapture| (capture.completed, capture.id);
    ours.sort_by_key(|capture| Reverse(age(capture)));
    ours.dedup_by_key(|capture| capture.id);
    let frozen = ours.first().filter(|newest| newest.is_damaged).cloned();
    let systems: BTreeSet<u64> = ours.iter().map(|capture| capture.system).collect();
    // By time alone: after pg_upgrade a younger cluster begins with a lower position and the first timeline again.
    let before = || {
        let captures = ours.iter();
        captures.filter(|capture| !capture.is_damaged && capture.completed <= begins)
    };
    let base = before().next().map(age);
    let stems = stems(before, &facts.forks);
    let (mut keep, mut remove) = (Vec::new(), Vec::new());
    for capture in ours {
        let reason = match base {
            _ if frozen.is_some() => Some(StayReason::Frozen),
            _ if capture.completed > now => Some(StayReason::Future),
            _ if capture.completed > begins => Some(StayReason::Within),
            None => Some(StayReason::NoBase),
            Some(base) if age(&capture) == base => Some(StayReason::Base),
            Some(base) if age(&capture) > base => Some(StayReason::AfterBase),
            Some(_) => stems
                .get(&capture.id)
                .map(|timeline| StayReason::Fork(*timeline)),
        };
        match reason {
            Some(reason) => keep.push((capture, reason)),
            None => remove.push(capture),
        }
    }
    let reach = reach(&keep, &facts.logs, &facts.folded);
    // What is captured under another name, or by another fleet, may be the same cluster.
    let staying = || {
        let kept = keep.iter().map(|(capture, _)| capture);
        kept.chain(&foreign).chain(&facts.others)
    };
    // A log without a capture of this member is not looked at: it may be that of a cluster that is about to be captured.
    // A cluster whose captures all go is none of those, since the newest capture of the member is of another one.
    let logs = facts.logs.into_iter();
    let logs = logs
        .filter(|(system, _)| frozen.is_none() && systems.contains(system))
        .map(|(system, paths)| {
            let folds = facts.folds.get(&system).cloned().unwrap_or_default();
            let staying = staying().filter(|capture| capture.system == system);
            log_plan(system, paths, folds, staying)
        });
    let gone: BTreeSet<Id> = remove.iter().map(|capture| capture.tree).collect();
    let points = facts.points.iter();
    let points = points.filter(|point| !point.trees.is_disjoint(&gone));
    WindowPlan {
        begins,
        points: points.map(|point| point.id).collect(),
        logs: logs.collect(),
        left_alone: foreign.len(),
        keep,
        remove,
        frozen,
        reach,
    }
}

/// Captures that a timeline goes on from which may have begun in the window, though the base of the window is not on its
/// way: a recovery went back to before that. `before` gives the good captures from before the window, the newest first.
///
/// Timelines get ascending numbers, and one server at a time works on one of them. So one that a capture from before the
/// window is on had begun by then, and those with a lower number had ended; and so had all of other clusters than the one of
/// the newest capture.
fn stems<'a, I: Iterator<Item = &'a ClusterCapture>>(
    before: impl Fn() -> I,
    forks: &BTreeMap<u64, BTreeMap<u32, Vec<Fork>>>,
) -> BTreeMap<Id, u32> {
    let Some(system) = before().next().map(|base| base.system) else {
        return BTreeMap::new();
    };
    let of_it = || before().filter(|capture| capture.system == system);
    let begun = of_it().map(|capture| capture.timeline).max();
    let timelines = forks.get(&system).into_iter().flatten();
    let young = timelines.filter(|(timeline, _)| begun.is_none_or(|begun| **timeline > begun));
    let stem = |(timeline, past): (&u32, &Vec<Fork>)| {
        let is_on_its_way = |capture: &&ClusterCapture| {
            let mut past = past.iter();
            past.any(|fork| fork.timeline == capture.timeline && capture.stop <= fork.at)
        };
        Some((of_it().find(is_on_its_way)?.id, *timeline))
    };
    young.filter_map(stem).collect()
}

fn log_plan<'a>(
    system: u64,
    paths: Vec<String>,
    folds: Vec<Id>,
    staying: impl Iterator<Item = &'a ClusterCapture>,
) -> LogPlan {
    let bound = LogBound::of(staying);
    let goes = |path: &String| match bound {
        Some(bound) => bound.is_past(path),
        None => LogFile::parse(path).is_some(),
    };
    let (mut remove, kept): (Vec<String>, Vec<String>) = paths.into_iter().partition(goes);
    let oldest_first = |path: &String| {
        LogFile::parse(path).map(|file| (file.timeline, file.place, file.name.to_owned()))
    };
    // A history sorts before the segments of its timeline, and so goes after them where the end goes first.
    remove.sort_by_cached_key(oldest_first);
    if bound.is_none() {
        remove.reverse();
    }
    LogPlan {
        system,
        is_whole: bound.is_none(),
        remove,
        kept: kept.len(),
        folds: if bound.is_none() { folds } else { Vec::new() },
    }
}

fn reach(
    keep: &[(ClusterCapture, StayReason)],
    logs: &BTreeMap<u64, Vec<String>>,
    folded: &BTreeMap<u64, Vec<String>>,
) -> Option<Reach> {
    let good = || {
        let captures = keep.iter().map(|(capture, _)| capture);
        captures.filter(|capture| !capture.is_damaged)
    };
    let newest = good().next()?;
    let oldest = good().next_back()?;
    let paths = [logs, folded].map(|files| files.get(&newest.system));
    let names: BTreeSet<&str> = paths
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|path| LogFile::parse(path))
        .map(|file| file.name)
        .collect();
    let size = newest.segment_bytes.clamp(1, 1 << 32);
    let name = |number: u64| {
        let per_log = (1 << 32) / size;
        let (log, part) = (number / per_log, number % per_log);
        format!("{:08X}{log:08X}{part:08X}", newest.timeline)
    };
    // Its own log goes to the end of a segment.
    let mut number = newest.stop.saturating_sub(1) / size + 1;
    let mut log_until = None;
    while names.contains(name(number).as_str()) {
        log_until = Some(name(number));
        number += 1;
    }
    Some(Reach {
        oldest: oldest.completed,
        newest: newest.completed,
        log_until,
    })
}

#[cfg(test)]
mod tests {
    use super::samples::capture;
    use super::*;

    const DAY: i64 = 86_400;

    fn day(number: u8, day: i64) -> ClusterCapture {
        capture(number, day * DAY)
    }

    fn decide(captures: Vec<ClusterCapture>, more: WindowFacts) -> WindowPlan {
        let facts = WindowFacts { captures, ..more };
        keep_window(facts, "7d".parse().unwrap(), Timestamp::utc(20 * DAY, 0))
    }

    fn kept(plan: &WindowPlan) -> Vec<(u8, StayReason)> {
        let kept = plan.keep.iter();
        kept.map(|(capture, reason)| (capture.id.0[0], *reason))
            .collect()
    }

    fn gone(plan: &WindowPlan) -> Vec<u8> {
        plan.remove.iter().map(|capture| capture.id.0[0]).collect()
    }

    fn log(names: &[&str]) -> BTreeMap<u64, Vec<String>> {
        [(7, names.iter().map(|name| (*name).to_owned()).collect())].into()
    }

    #[test]
    fn the_newest_before_the_window_and_all_later_ones_stay() {
        let mut damaged = [day(3, 11), day(6, 13), day(8, 15)];
        for capture in &mut damaged {
            capture.is_damaged = true;
        }
        let [old, between, young] = damaged;
        let captures = vec![
            day(1, 3),
            day(4, 12),
            old,
            between,
            young,
            day(9, 20),
            day(10, 21),
        ];
        let names = [
            "00000001/00000001000000000000000F",
            "00000001/000000010000000000000010",
            "00000001/000000010000000000000028",
            "00000001/000000010000000000000029",
            "00000001/00000002.history",
        ];
        let point = |number: u8, trees: &[u8]| NamingPoint {
            id: Id([number; 32]),
            trees: trees.iter().map(|tree| Id([*tree; 32])).collect(),
        };
        let facts = WindowFacts {
            logs: log(&names),
            points: vec![
                point(200, &[101]),
                point(201, &[77, 104]),
                point(202, &[103, 77]),
            ],
            ..WindowFacts::default()
        };
        let plan = decide(captures, facts);
        let expected = [
            (10, StayReason::Future),
            (9, StayReason::Within),
            (8, StayReason::Within),
            (6, StayReason::AfterBase),
            (4, StayReason::Base),
        ];
        assert_eq!(
            (kept(&plan).as_slice(), gone(&plan)),
            (&expected[..], vec![3, 1])
        );
        let steps = [
            WindowStep::Snapshot(Id([200; 32])),
            WindowStep::Snapshot(Id([202; 32])),
            WindowStep::Snapshot(Id([1; 32])),
            WindowStep::Snapshot(Id([3; 32])),
            WindowStep::Log(7, names[0]),
        ];
        assert_eq!(plan.steps(), steps);
        assert_eq!((plan.logs[0].kept, plan.logs[0].is_whole), (4, false));
        let reach = plan.reach.unwrap();
        assert_eq!(reach.oldest, Timestamp::utc(12 * DAY, 0));
        assert_eq!(reach.log_until.as_deref(), Some("000000010000000000000029"));
    }

    #[test]
    fn clusters_that_follow_each_other_are_told_from_those_that_live_together() {
        let of = |system, number, at| ClusterCapture {
            system,
            ..day(number, at)
        };
        let after = [of(7, 1, 1), of(7, 2, 2), of(8, 3, 3), of(8, 4, 4)];
        assert_eq!(interleaved(&after), None);
        let beside = [of(7, 1, 1), of(8, 2, 2), of(7, 3, 3)];
        assert_eq!(interleaved(&beside), Some((7, 8)));
        assert_eq!(interleaved(&[]), None);
    }

    #[test]
    fn nothing_goes_while_the_newest_is_damaged_or_none_is_old_enough() {
        let mut newest = day(3, 19);
        newest.is_damaged = true;
        let facts = || WindowFacts {
            logs: log(&["000000010000000000000001"]),
            ..WindowFacts::default()
        };
        let plan = decide(vec![day(1, 1), day(2, 2), newest.clone()], facts());
        assert_eq!(plan.frozen, Some(newest));
        assert_eq!((plan.steps(), kept(&plan).len()), (Vec::new(), 3));
        let mut old = day(1, 1);
        old.is_damaged = true;
        let plan = decide(vec![old, day(2, 14)], WindowFacts::default());
        assert_eq!(
            kept(&plan),
            [(2, StayReason::Within), (1, StayReason::NoBase)]
        );
        // Whatever its age.
        let plan = decide(vec![day(1, -900)], facts());
        assert_eq!(kept(&plan), [(1, StayReason::Base)]);
        assert_eq!(decide(Vec::new(), facts()).steps(), []);
    }

    #[test]
    fn what_another_name_or_fleet_needs_stays() {
        let names = ["000000010000000000000003", "000000010000000000000004"];
        let facts = |others: Vec<ClusterCapture>| WindowFacts {
            others,
            logs: log(&names),
            fleet: Some("ours".into()),
            ..WindowFacts::default()
        };
        let ours = |number, at| ClusterCapture {
            fleet: Some("ours".into()),
            ..day(number, at)
        };
        let captures = || vec![ours(2, 2), ours(3, 3)];
        let plan = decide(captures(), facts(Vec::new()));
        assert_eq!((gone(&plan), plan.logs[0].remove.len()), (vec![2], 2));
        let plan = decide(captures(), facts(vec![day(1, 1)]));
        assert_eq!(
            (gone(&plan), plan.logs[0].remove.as_slice()),
            (vec![2], &[names[0].to_owned()][..])
        );
        let plan = decide([captures(), vec![day(1, 1)]].concat(), facts(Vec::new()));
        assert_eq!((gone(&plan), plan.left_alone), (vec![2], 1));
        assert_eq!(plan.logs[0].remove, names[..1]);
    }

    #[test]
    fn the_log_of_a_cluster_that_is_gone_goes_from_its_end_before_its_captures() {
        let mut upgraded = day(1, 10);
        upgraded.system = 8;
        let mut logs = log(&[
            "00000002.history",
            "000000020000000000000006",
            "000000010000000000000005",
            "000000010000000000000005.00000028.backup",
            "000000020000000000000005",
            "unknown",
        ]);
        logs.insert(8, vec!["000000010000000000000001".into()]);
        logs.insert(9, vec!["000000010000000000000001".into()]);
        let facts = WindowFacts {
            logs,
            folds: [(7, vec![Id([70; 32])]), (8, vec![Id([80; 32])])].into(),
            ..WindowFacts::default()
        };
        let plan = decide(vec![day(5, 5), upgraded], facts);
        let steps = [
            WindowStep::Log(7, "000000020000000000000006"),
            WindowStep::Log(7, "000000020000000000000005"),
            WindowStep::Log(7, "00000002.history"),
            WindowStep::Log(7, "000000010000000000000005.00000028.backup"),
            WindowStep::Log(7, "000000010000000000000005"),
            WindowStep::Snapshot(Id([70; 32])),
            WindowStep::Snapshot(Id([5; 32])),
            WindowStep::Log(8, "000000010000000000000001"),
        ];
        assert_eq!(plan.steps(), steps);
    }

    #[test]
    fn a_recovery_to_before_the_window_keeps_what_it_began_with() {
        let second = ClusterCapture {
            timeline: 2,
            ..day(9, 18)
        };
        let captures = || vec![day(1, 1), day(2, 2), day(3, 12), second.clone()];
        let with = |at| {
            let past = vec![Fork { timeline: 1, at }];
            let facts = WindowFacts {
                forks: [(7, [(2, past)].into())].into(),
                ..WindowFacts::default()
            };
            kept(&decide(captures(), facts))
        };
        let expected = [
            (9, StayReason::Within),
            (3, StayReason::Base),
            (2, StayReason::Fork(2)),
        ];
        assert_eq!(with((3 << 26) + 199), expected);
        assert_eq!(with((3 << 26) + 200), expected[..2]);
    }
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    /// A good capture of the cluster 7, completed at a second.
    pub(crate) fn capture(number: u8, seconds: i64) -> ClusterCapture {
        ClusterCapture {
            id: Id([number; Id::BYTES]),
            tree: Id([number + 100; Id::BYTES]),
            completed: Timestamp::utc(seconds, 0),
            system: 7,
            timeline: 1,
            start: u64::from(number) << 26,
            stop: (u64::from(number) << 26) + 200,
            segment_bytes: 16 << 20,
            is_damaged: false,
            fleet: None,
        }
    }
}

//! What a policy keeps.
//! It must never stand for "keep nothing": at least one rule is there, and none is zero.

use crate::forms::TIME_SPAN;
use crate::key_table::KEEP;
use crate::node::{Fields, Node};
use crate::problems::Problems;
use crate::spot::{Placed, Spot};
use crate::time_span::TimeSpan;

/// Rules for the captures of a member in one repository; a capture stays if one of them keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// So many of the newest.
    pub last: Option<u32>,
    /// The newest of each hour, for so many hours that have one.
    pub hourly: Option<u32>,
    /// The same for days.
    pub daily: Option<u32>,
    /// The same for weeks.
    pub weekly: Option<u32>,
    /// The same for months.
    pub monthly: Option<u32>,
    /// The same for years.
    pub yearly: Option<u32>,
    /// All that are less than this older than the newest.
    pub within: Option<TimeSpan>,
    /// All that recovery to any instant of this time needs.
    pub window: Option<Placed<TimeSpan>>,
    /// Where it was written.
    pub spot: Spot,
}

impl Keep {
    pub(crate) fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let fields = node.object(problems, &KEEP)?;
        let mut count = |key| count_of(&fields, key, problems);
        let (last, hourly, daily) = (count("last"), count("hourly"), count("daily"));
        let (weekly, monthly, yearly) = (count("weekly"), count("monthly"), count("yearly"));
        let mut span = |key| {
            fields
                .get(key)
                .and_then(|node| node.parsed(problems, &TIME_SPAN))
        };
        let (within, window): (Option<Placed<TimeSpan>>, _) = (span("within"), span("window"));
        Some(Self {
            last,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            within: within.map(|within| within.value),
            window,
            spot: fields.spot,
        })
    }
}

fn count_of(fields: &Fields<'_>, key: &'static str, problems: &mut Problems) -> Option<u32> {
    fields.get(key).and_then(|node| node.count(problems))
}

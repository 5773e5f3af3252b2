//! How often, how long and how well: the policies of the fleet file.
//! A policy never says both where its copies are and that the app's repositories hold; it is one or the other.

use crate::forms::{JITTER, NAME, SCHEDULE, TIME_SPAN};
use crate::jitter::Jitter;
use crate::keep::Keep;
use crate::key_table::{COPY, POLICY};
use crate::known::Known;
use crate::node::{Fields, Node};
use crate::problems::Problems;
use crate::schedule::Schedule;
use crate::spot::Placed;
use crate::time_span::TimeSpan;

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What the fleet file calls it.
    pub name: Placed<String>,
    /// When captures are made, and where they go.
    pub copies: Copies,
    /// How much time may be lost.
    pub rpo: Option<Placed<TimeSpan>>,
    /// How long recovery may take.
    pub rto: Option<Placed<TimeSpan>>,
    /// When a restore is rehearsed.
    pub drill: Option<Schedule>,
    /// When the newest capture is read back and its databases are checked.
    pub check: Option<Schedule>,
}

/// What a policy says of its copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copies {
    /// Captured into the first repository of the app, and copied to the others.
    Chained(Box<Timing>),
    /// Each captured for itself.
    Independent(Vec<PolicyCopy>),
}

/// When something is captured, and what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// When.
    pub schedule: Placed<Schedule>,
    /// By how much that is shifted; what holds if nothing is said is filled in.
    pub jitter: Jitter,
    /// What is kept.
    pub keep: Keep,
}

/// One independent copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyCopy {
    /// The repository.
    pub to: Placed<String>,
    /// When, and what is kept.
    pub timing: Timing,
    /// How much time may be lost with it alone.
    pub rpo: Option<Placed<TimeSpan>>,
}

impl Policy {
    pub(crate) fn read(
        name: Placed<String>,
        node: &Node<'_>,
        known: &Known,
        problems: &mut Problems,
    ) -> Option<Self> {
        let fields = node.object(problems, &POLICY)?;
        let copies = Copies::read(&fields, known, problems);
        let mut span = |key| {
            fields
                .get(key)
                .and_then(|node| node.parsed(problems, &TIME_SPAN))
        };
        let (rpo, rto) = (span("rpo"), span("rto"));
        let mut schedule = |key| {
            let read = fields
                .get(key)
                .and_then(|node| node.parsed::<Schedule>(problems, &SCHEDULE));
            read.map(|schedule| schedule.value)
        };
        let (drill, check) = (schedule("drill"), schedule("check"));
        Some(Self {
            name,
            copies: copies?,
            rpo,
            rto,
            drill,
            check,
        })
    }
}

impl Copies {
    fn read(fields: &Fields<'_>, known: &Known, problems: &mut Problems) -> Option<Self> {
        let Some(list) = fields.get("copies") else {
            for key in ["schedule", "keep"] {
                if fields.key_spot(key).is_none() {
                    let what = format!("the key `{key}` is missing");
                    fields.wrong(
                        problems,
                        what,
                        "a policy has `schedule` and `keep`, or `copies`",
                    );
                }
            }
            return Timing::read(fields, problems).map(|timing| Self::Chained(Box::new(timing)));
        };
        for key in ["schedule", "jitter", "keep"] {
            let hint = "say it in each of the copies, or remove `copies`";
            fields.misplaced(
                problems,
                key,
                "this does not go together with `copies`",
                hint,
            );
            // What is read is judged, even where it does not belong.
            if let Some(node) = fields.get(key) {
                match key {
                    "schedule" => drop(node.parsed::<Schedule>(problems, &SCHEDULE)),
                    "jitter" => drop(node.parsed::<Jitter>(problems, &JITTER)),
                    _ => drop(Keep::read(&node, problems)),
                }
            }
        }
        let mut copies: Vec<PolicyCopy> = Vec::new();
        for node in list.list(problems)? {
            let Some(copy) = PolicyCopy::read(&node, known, problems) else {
                continue;
            };
            if let Some(first) = copies.iter().find(|other| other.to.value == copy.to.value) {
                let what = format!(
                    "a copy in `{}` was given before, at {}",
                    copy.to.value, first.to.spot
                );
                let hint = "a repository has one copy of a member: keep one of the two".to_owned();
                problems.add(copy.to.spot, format!("{}.to", node.path), what, hint);
            }
            copies.push(copy);
        }
        Some(Self::Independent(copies))
    }

    /// The timings, with the repository where that is said.
    pub fn timings(&self) -> impl Iterator<Item = &Timing> {
        let (chained, independent) = match self {
            Self::Chained(timing) => (Some(&**timing), &[][..]),
            Self::Independent(copies) => (None, &copies[..]),
        };
        chained
            .into_iter()
            .chain(independent.iter().map(|copy| &copy.timing))
    }
}

impl Timing {
    fn read(fields: &Fields<'_>, problems: &mut Problems) -> Option<Self> {
        let schedule = fields
            .get("schedule")
            .and_then(|node| node.parsed::<Schedule>(problems, &SCHEDULE));
        let keep = fields
            .get("keep")
            .and_then(|node| Keep::read(&node, problems));
        let jitter = fields
            .get("jitter")
            .and_then(|node| node.parsed::<Jitter>(problems, &JITTER));
        let schedule = schedule?;
        if let (
            Some(node),
            Some(Placed {
                value: Jitter::UpTo(most),
                ..
            }),
        ) = (fields.get("jitter"), jitter)
            && most.duration() >= schedule.value.period()
        {
            let hint = "a run must be over before the next is due: shift it by less";
            node.wrong(
                problems,
                format!(
                    "{most} is no less than the time between two runs of `{}`",
                    schedule.value
                ),
                hint,
            );
        }
        let jitter = jitter.map_or_else(|| Jitter::of(&schedule.value), |jitter| jitter.value);
        Some(Self {
            schedule,
            jitter,
            keep: keep?,
        })
    }
}

impl PolicyCopy {
    fn read(node: &Node<'_>, known: &Known, problems: &mut Problems) -> Option<Self> {
        let fields = node.object(problems, &COPY)?;
        let to = fields.get("to").and_then(|node| {
            let name = node.placed(problems, &NAME)?;
            known.repositories.check(&node, &name.value, problems)?;
            Some(name)
        });
        let timing = Timing::read(&fields, problems);
        let rpo = fields
            .get("rpo")
            .and_then(|node| node.parsed(problems, &TIME_SPAN));
        Some(Self {
            to: to?,
            timing: timing?,
            rpo,
        })
    }
}

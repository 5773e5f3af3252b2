//! One case of the matrix: which command meets which fault, and when; written so that it can be run again.

use std::fmt;
use std::str::FromStr;

use lifeboat_testkit::faults::{Fault, FaultPlan, Operation};
use lifeboat_testkit::random::Random;

/// Repeats one case alone, as `backup:17:TimeoutAfter`.
pub(crate) const CASE_VARIABLE: &str = "LIFEBOAT_FAULT";

/// What may go wrong in one operation.
pub(crate) const FAULTS: [Fault; 17] = [
    Fault::FailBefore,
    Fault::FailAfter,
    Fault::Truncate,
    Fault::FlipBit,
    Fault::HideNewest(1),
    Fault::HideNewest(3),
    Fault::StaleListing,
    Fault::ListTwice,
    Fault::Missing,
    Fault::Busy,
    Fault::Unreachable,
    Fault::TimeoutBefore,
    Fault::TimeoutAfter,
    Fault::Duplicate,
    Fault::WrongLength,
    Fault::Denied,
    Fault::Clock,
];
/// What may go wrong in every operation from one on.
pub(crate) const LASTING: [Fault; 7] = [
    Fault::FailBefore,
    Fault::ListTwice,
    Fault::Busy,
    Fault::Unreachable,
    Fault::TimeoutAfter,
    Fault::Denied,
    Fault::Clock,
];
/// What may go wrong in any operation of a storm.
const STORM: [Fault; 8] = [
    Fault::Busy,
    Fault::Unreachable,
    Fault::TimeoutBefore,
    Fault::TimeoutAfter,
    Fault::Duplicate,
    Fault::FlipBit,
    Fault::Truncate,
    Fault::ListTwice,
];
/// How many operations of a storm go wrong, in a hundred.
const STORM_PERCENT: u64 = 15;

/// When it goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// In one operation.
    Once(u64),
    /// From one operation on.
    From(u64),
    /// Now and then, by a seed.
    Storm(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) command: String,
    pub(crate) when: When,
    /// That of a storm is its first one and says nothing.
    pub(crate) fault: Fault,
}

impl Case {
    /// All cases of a command that has so many operations, but for storms, of which there is no end.
    pub(crate) fn all(command: &str, operations: &[Operation]) -> Vec<Self> {
        let of = |when, fault| Self {
            command: command.to_owned(),
            when,
            fault,
        };
        let mut all = Vec::new();
        for operation in operations {
            let fitting = FAULTS.iter().filter(|fault| fault.fits(operation.verb));
            all.extend(fitting.map(|fault| of(When::Once(operation.number), *fault)));
            all.extend(LASTING.map(|fault| of(When::From(operation.number), fault)));
        }
        all
    }

    pub(crate) fn storm(command: &str, random: &mut Random) -> Self {
        Self {
            command: command.to_owned(),
            when: When::Storm(random.below(1 << 32)),
            fault: STORM[0],
        }
    }

    pub(crate) fn plan(&self) -> FaultPlan {
        match self.when {
            When::Once(number) => FaultPlan::at(number, self.fault),
            When::From(number) => FaultPlan::from(number, self.fault),
            When::Storm(seed) => FaultPlan::random(seed, STORM_PERCENT, &STORM),
        }
    }

    /// Whether the command must succeed all the same, because another try goes well or none is needed.
    pub(crate) fn must_succeed(&self) -> bool {
        match self.when {
            When::Once(_) => self.fault.passes(),
            When::From(_) => self.fault == Fault::ListTwice,
            When::Storm(_) => false,
        }
    }

    /// Whether what is listed may be what once was, so that no result can be called wrong.
    pub(crate) fn hides(&self) -> bool {
        matches!(self.fault, Fault::HideNewest(_) | Fault::StaleListing)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            command,
            when,
            fault,
        } = self;
        match when {
            When::Once(number) => write!(f, "{command}:{number}:{fault:?}"),
            When::From(number) => write!(f, "{command}:{number}+:{fault:?}"),
            When::Storm(seed) => write!(f, "{command}:{seed}:storm"),
        }
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let [command, number, fault] = text.split(':').collect::<Vec<_>>()[..] else {
            return Err(format!("{text:?} is no COMMAND:NUMBER:FAULT"));
        };
        let digits = number.trim_end_matches('+');
        let count = digits
            .parse()
            .map_err(|_| format!("{number:?} is no number"))?;
        let found = FAULTS
            .into_iter()
            .find(|known| format!("{known:?}") == fault);
        let (when, fault) = match (fault, found) {
            ("storm", _) => (When::Storm(count), STORM[0]),
            (_, None) => return Err(format!("there is no fault {fault:?}")),
            (_, Some(fault)) if digits == number => (When::Once(count), fault),
            (_, Some(fault)) => (When::From(count), fault),
        };
        Ok(Self {
            command: known(command)?,
            when,
            fault,
        })
    }
}

/// The name of a command, if there is one of it: a case that nobody runs would seem to go well.
pub(crate) fn known(command: &str) -> Result<String, String> {
    let mut all = super::COMMANDS.iter();
    let found = all.any(|known| known.name == command);
    let none = || format!("there is no command {command:?}");
    found.then(|| command.to_owned()).ok_or_else(none)
}

#[test]
fn a_case_that_is_shown_can_be_read() {
    let mut random = Random::new(1);
    let mut cases = vec![Case::storm("check", &mut random)];
    for fault in FAULTS {
        for when in [When::Once(3), When::From(0)] {
            cases.push(Case {
                command: "key-add".into(),
                when,
                fault,
            });
        }
    }
    for case in cases {
        assert_eq!(case.to_string().parse(), Ok(case));
    }
    for wrong in [
        "",
        "check:1",
        "chekc:1:Busy",
        "check:one:Busy",
        "check:1:Buzy",
    ] {
        assert!(wrong.parse::<Case>().is_err(), "{wrong}");
    }
}

//! What a verification says in the end, with all that was measured on the way.
//! It must never say that something comes back which was not seen to come back: what could not be looked at is unknown.

use serde::{Serialize, Serializer};

use super::super::lsn::{Lsn, Timeline};
use super::baseline::Skipped;
use super::check::{Check, Found};

/// The verdict, and what it rests on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Proof {
    /// What was found out.
    pub verdict: Verdict,
    /// What was measured, as far as it came.
    pub report: Report,
}

/// Whether a capture can be recovered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was recovered. A check that could not be made is told in the report.
    Recoverable,
    /// It can't be, or not whole.
    NotRecoverable {
        /// Why, in the words of the server or the check that found it.
        words: String,
    },
    /// Nobody knows: something else than the capture was in the way.
    Undetermined {
        /// What.
        why: String,
    },
}

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// The version of the server that recovered it.
    pub server_version: Option<String>,
    /// Libraries that the live server was started with, and this one was not.
    pub libraries_left_out: Vec<String>,
    /// From the start of the server until it answered, in seconds.
    pub accepting_seconds: Option<f64>,
    /// From the start of the server until the recovery had ended, in seconds.
    pub recovery_seconds: Option<f64>,
    /// The end of the last record that was replayed.
    #[serde(serialize_with = "position")]
    pub position: Option<Lsn>,
    /// The timeline that the record is on.
    #[serde(serialize_with = "timeline")]
    pub timeline: Option<Timeline>,
    /// When the last transaction that was replayed ended, in UTC; nothing if there was none.
    #[serde(serialize_with = "instant")]
    pub last_transaction: Option<jiff::Timestamp>,
    /// Databases that nobody could look into.
    pub skipped: Vec<Skipped>,
    /// The checks that were made, in their order.
    pub checks: Vec<Check>,
}

impl Report {
    /// The checks that could not be made, by their names.
    pub fn unknown(&self) -> impl Iterator<Item = &'static str> {
        let unknown = self
            .checks
            .iter()
            .filter(|check| matches!(check.found, Found::Unknown(_)));
        unknown.map(|check| check.name)
    }

    /// The verdict on a cluster that was recovered, by its checks.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let mut words = Vec::new();
        for check in &self.checks {
            if let Found::Wrong { findings, more } = &check.found {
                let first = findings.first().map_or("", String::as_str);
                words.push(match (findings.len() as u64).saturating_sub(1) + more {
                    0 => format!("{}: {first}", check.name),
                    others => format!("{}: {first} (and {others} more)", check.name),
                });
            }
        }
        if words.is_empty() {
            return Verdict::Recoverable;
        }
        Verdict::NotRecoverable {
            words: words.join("\n"),
        }
    }
}

fn position<S: Serializer>(position: &Option<Lsn>, to: S) -> Result<S::Ok, S::Error> {
    position.map(|position| position.to_string()).serialize(to)
}

fn timeline<S: Serializer>(timeline: &Option<Timeline>, to: S) -> Result<S::Ok, S::Error> {
    timeline.map(|timeline| timeline.0).serialize(to)
}

fn instant<S: Serializer>(instant: &Option<jiff::Timestamp>, to: S) -> Result<S::Ok, S::Error> {
    instant.map(|instant| instant.to_string()).serialize(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &'static str, found: Found) -> Check {
        Check {
            name,
            seconds: 0.5,
            found,
        }
    }

    #[test]
    fn one_finding_makes_it_not_recoverable_and_what_is_unknown_is_told() {
        let mut report = Report {
            checks: vec![
                check("amcheck", Found::Unknown("why".into())),
                check("checksums", Found::Nothing),
            ],
            ..Report::default()
        };
        assert_eq!(report.verdict(), Verdict::Recoverable);
        assert_eq!(report.unknown().collect::<Vec<_>>(), ["amcheck"]);
        let wrong = Found::Wrong {
            findings: vec!["a".into(), "b".into()],
            more: 3,
        };
        report.checks.push(check("baseline", wrong));
        assert_eq!(
            report.verdict(),
            Verdict::NotRecoverable {
                words: "baseline: a (and 4 more)".into()
            }
        );
    }

    #[test]
    fn a_report_is_written_as_people_write_it() {
        let report = Report {
            position: Some(Lsn(0x300_0060)),
            timeline: Some(Timeline(2)),
            last_transaction: Some(jiff::Timestamp::UNIX_EPOCH),
            checks: vec![check("amcheck", Found::Nothing)],
            ..Report::default()
        };
        let proof = Proof {
            verdict: report.verdict(),
            report,
        };
        let json: serde_json::Value = serde_json::to_value(&proof).expect("JSON");
        assert_eq!(json["verdict"], "recoverable");
        assert_eq!(json["report"]["position"], "0/3000060");
        assert_eq!(json["report"]["timeline"], 2);
        assert_eq!(json["report"]["last_transaction"], "1970-01-01T00:00:00Z");
        assert_eq!(json["report"]["checks"][0]["found"], "nothing");
    }
}

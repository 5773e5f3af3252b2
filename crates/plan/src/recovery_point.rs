//! What `recovery-point.json` says: one capture of every member of an app, each with its own instant.
//! It must never call an app newer than the oldest of its members, nor forget a member that was not captured this time.

use std::collections::BTreeMap;

use lifeboat_format::{Id, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The version of the record that is written.
pub const POINT_VERSION: u32 = 1;
/// Its name in the snapshot.
pub const POINT_FILE: &str = "recovery-point.json";
/// A longer record is none.
pub const POINT_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// The record of one recovery point of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryPoint {
    /// [`POINT_VERSION`] of its time.
    pub version: u32,
    /// Which point it is; proofs are of it.
    pub point: Uuid,
    /// The fleet that the app belongs to.
    pub fleet: Uuid,
    /// The app.
    pub app: String,
    /// When it was written.
    pub written: Timestamp,
    /// How old it is: the instant of its oldest member. None if a member has no capture at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instant: Option<Timestamp>,
    /// What the instants of the members have to do with each other.
    pub consistency: Consistency,
    /// The members by name.
    pub members: BTreeMap<String, PointMember>,
}

/// What the instants of members have to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// Nothing: each is consistent in itself, as of its own instant.
    Member,
}

/// What a point says of one member. Its capture is named by its tree, so that new tags and copies change nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointMember {
    /// Where its capture comes from.
    pub state: MemberState,
    /// What reads and starts it, as `postgresql`.
    pub engine: String,
    /// What comes back is the state of this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instant: Option<Timestamp>,
    /// The tree of its capture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<Id>,
    /// The ID of the repository that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Faults of the capture, such as damaged pages.
    #[serde(default, skip_serializing_if = "is_none")]
    pub faults: u64,
    /// Why there is no newer capture, if one was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Where the capture of a member comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// It was made for this point.
    Captured,
    /// It is that of the point before: its turn has not come.
    Carried,
    /// Its turn had come and it failed; the capture, if there is one, is that of the point before.
    Failed,
}

/// The record can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PointError {
    /// It is no such record.
    #[error("{POINT_FILE} is no record of a recovery point")]
    Form(#[source] serde_json::Error),
    /// It was written by a later program.
    #[error(
        "{POINT_FILE} has version {0}, and this program knows {POINT_VERSION}: use a newer one"
    )]
    Version(u32),
}

impl RecoveryPoint {
    /// The point that follows: these members have been captured or have failed, all others of the point before are carried.
    #[must_use]
    pub fn after(
        before: Option<&Self>,
        point: Uuid,
        (fleet, app): (Uuid, &str),
        written: Timestamp,
        done: BTreeMap<String, PointMember>,
    ) -> Self {
        let known = before.filter(|before| before.fleet == fleet && before.app == app);
        let mut members = BTreeMap::new();
        for (name, member) in known.into_iter().flat_map(|before| &before.members) {
            let state = match member.state {
                MemberState::Failed => MemberState::Failed,
                MemberState::Captured | MemberState::Carried => MemberState::Carried,
            };
            let carried = PointMember {
                state,
                ..member.clone()
            };
            members.insert(name.clone(), carried);
        }
        for (name, member) in done {
            let last = members.remove(&name);
            let member = match (member.state, last) {
                (MemberState::Failed, Some(last)) => PointMember {
                    state: MemberState::Failed,
                    error: member.error,
                    ..last
                },
                _ => member,
            };
            members.insert(name, member);
        }
        let instants: Option<Vec<Timestamp>> =
            members.values().map(|member| member.instant).collect();
        Self {
            version: POINT_VERSION,
            point,
            fleet,
            app: app.to_owned(),
            written,
            instant: instants.and_then(|instants| instants.into_iter().min()),
            consistency: Consistency::Member,
            members,
        }
    }

    /// Reads the record.
    ///
    /// # Errors
    /// When it is none, or none that is known.
    pub fn parse(json: &[u8]) -> Result<Self, PointError> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Beginning {
            version: u32,
        }
        let beginning: Beginning = serde_json::from_slice(json).map_err(PointError::Form)?;
        if beginning.version != POINT_VERSION {
            return Err(PointError::Version(beginning.version));
        }
        serde_json::from_slice(json).map_err(PointError::Form)
    }

    /// The record as it is stored.
    ///
    /// # Errors
    /// When it can't be written as JSON.
    pub fn to_json(&self) -> Result<Vec<u8>, PointError> {
        let mut json = serde_json::to_vec_pretty(self).map_err(PointError::Form)?;
        json.push(b'\n');
        Ok(json)
    }
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp {
            seconds,
            ..Timestamp::ZERO
        }
    }

    fn captured(seconds: i64) -> PointMember {
        PointMember {
            state: MemberState::Captured,
            engine: "postgresql".into(),
            instant: Some(at(seconds)),
            tree: Some(Id::of(&seconds.to_le_bytes())),
            repository: Some("r".into()),
            faults: 0,
            error: None,
        }
    }

    fn failed() -> PointMember {
        PointMember {
            state: MemberState::Failed,
            instant: None,
            tree: None,
            repository: None,
            error: Some("the server is down".into()),
            ..captured(0)
        }
    }

    fn next(
        before: Option<&RecoveryPoint>,
        app: &str,
        written: i64,
        done: &[(&str, PointMember)],
    ) -> RecoveryPoint {
        let done = done
            .iter()
            .map(|(name, member)| ((*name).to_owned(), member.clone()));
        let point = Uuid::from_u128(u128::from(written.unsigned_abs()));
        RecoveryPoint::after(
            before,
            point,
            (Uuid::from_u128(7), app),
            at(written),
            done.collect(),
        )
    }

    #[test]
    fn a_point_is_as_old_as_its_oldest_member() {
        let first = next(
            None,
            "memos",
            20,
            &[("db", captured(11)), ("assets", captured(12))],
        );
        assert_eq!(first.instant, Some(at(11)));
        let second = next(Some(&first), "memos", 30, &[("db", captured(29))]);
        assert_eq!(second.members["assets"].state, MemberState::Carried);
        assert_eq!(second.members["assets"].tree, first.members["assets"].tree);
        assert_eq!(second.members["db"].state, MemberState::Captured);
        assert_eq!(second.instant, Some(at(12)));
        // Another app's is none of it.
        assert_eq!(next(Some(&first), "other", 30, &[]).members.len(), 0);
    }

    #[test]
    fn what_failed_keeps_what_it_had_and_says_why_until_it_is_captured() {
        let first = next(
            None,
            "memos",
            20,
            &[("db", captured(11)), ("new", failed())],
        );
        assert_eq!(first.instant, None, "nothing of one member comes back");
        let second = next(Some(&first), "memos", 30, &[("db", failed())]);
        let db = &second.members["db"];
        assert_eq!(
            (db.state, db.instant, db.tree),
            (MemberState::Failed, Some(at(11)), first.members["db"].tree)
        );
        assert_eq!(db.error.as_deref(), Some("the server is down"));
        let third = next(Some(&second), "memos", 40, &[("new", captured(39))]);
        assert_eq!(third.members["db"].state, MemberState::Failed);
        assert_eq!(third.instant, Some(at(11)));
        let fourth = next(Some(&third), "memos", 50, &[("db", captured(49))]);
        assert_eq!(fourth.members["db"], captured(49));
        assert_eq!(fourth.members["new"].state, MemberState::Carried);
    }

    #[test]
    fn a_record_comes_back_as_it_was_and_a_later_one_is_refused() {
        let point = next(
            None,
            "memos",
            20,
            &[("db", captured(11)), ("new", failed())],
        );
        let json = point.to_json().unwrap();
        assert_eq!(RecoveryPoint::parse(&json).unwrap(), point);
        let later = String::from_utf8(json)
            .unwrap()
            .replace("\"version\": 1", "\"version\": 2");
        let refused = RecoveryPoint::parse(later.as_bytes()).unwrap_err();
        assert!(refused.to_string().contains("version 2"), "{refused}");
        assert!(RecoveryPoint::parse(b"{}").is_err());
    }
}

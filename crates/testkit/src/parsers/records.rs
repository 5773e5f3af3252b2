//! The parsers of the records that lie beside captures, which are read years after they were written, each with what must hold.
//! They must never let a record be read as another than it was written.

use std::collections::BTreeMap;

use lifeboat_format::Timestamp;
use lifeboat_plan::{MemberState, RecoveryPoint};
use lifeboat_state::postgres::dump::{Record, flags};
use lifeboat_state::postgres::{CaptureKind, ENGINE, MEMBER_VERSION, Member, MemberError};
use uuid::Uuid;

use super::stable;

/// `member.json`, of either kind.
pub(super) fn capture(json: &[u8]) {
    let write = |record: &Record| {
        let written = match record {
            Record::Physical(member) => member.to_json(),
            Record::Logical(member) => member.to_json(),
        };
        written.unwrap_or_else(|error| panic!("{error:?} in what was read"))
    };
    let physical = Member::parse(json);
    let Some((first, second)) = stable(json, Record::parse, write) else {
        assert!(physical.is_err(), "a record of no kind");
        return;
    };
    assert_eq!(first, second);
    match (first, physical) {
        (Record::Physical(member), Ok(same)) => {
            assert_eq!(*member, same);
            assert_eq!(member.kind, CaptureKind::Physical);
            known(member.version, &member.engine);
            if let Some(after) = member.postgres.log_after() {
                let size = member.postgres.segment_bytes;
                assert_eq!(after.0 % size.max(1), 0, "a segment begins there");
            }
        }
        (Record::Logical(member), Err(MemberError::Logical)) => {
            assert_eq!(member.kind, CaptureKind::Logical);
            known(member.version, &member.engine);
            if let Some(baseline) = &member.baseline {
                let doubts = flags(Some(&member), baseline);
                assert!(doubts.len() <= baseline.databases.len());
            }
        }
        (record, other) => panic!("{record:?}, and as a physical one {other:?}"),
    }
}

fn known(version: u32, engine: &str) {
    assert_eq!((version, engine), (MEMBER_VERSION, ENGINE));
}

/// `recovery-point.json`.
pub(super) fn recovery_point(json: &[u8]) {
    let write = |point: &RecoveryPoint| {
        let written = point.to_json();
        written.unwrap_or_else(|error| panic!("{error:?} in what was read"))
    };
    let Some((first, second)) = stable(json, RecoveryPoint::parse, write) else {
        return;
    };
    assert_eq!(first, second);
    // The point after it forgets no member, and is as old as the oldest.
    let written = Timestamp::utc(1_700_000_000, 0);
    let whose = (first.fleet, first.app.as_str());
    let next = RecoveryPoint::after(Some(&first), Uuid::nil(), whose, written, BTreeMap::new());
    assert!(next.members.keys().eq(first.members.keys()));
    for (name, member) in &next.members {
        let before = &first.members[name];
        assert_eq!((member.tree, member.instant), (before.tree, before.instant));
        assert_ne!(member.state, MemberState::Captured);
        assert!(member.instant.is_none() || next.instant <= member.instant);
    }
    let is_whole = next.members.values().all(|member| member.instant.is_some());
    assert_eq!(next.instant.is_some(), is_whole && !next.members.is_empty());
    let again = next.to_json().ok().map(|json| RecoveryPoint::parse(&json));
    assert!(again.is_some_and(|again| again.is_ok_and(|again| again == next)));
}

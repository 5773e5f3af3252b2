//! The parts of a capture in its snapshot: the directories and the record that `state` names.
//! It must never take another tree for a capture.

use lifeboat_format::Id;
use lifeboat_repo::{BlobReader, RepoError};
use lifeboat_state::postgres::dump::Record;
use lifeboat_state::postgres::{MEMBER_FILE, MEMBER_MAX_BYTES, Member};

use crate::ProtectError;
use crate::record::small_file;

/// The record of a physical capture.
///
/// # Errors
/// When the tree is none of such a capture, or the record can't be read.
pub fn member_of(reader: &BlobReader<'_>, root: Id) -> Result<Member, ProtectError> {
    Ok(Member::parse(&json_of(reader, root)?)?)
}

/// The record of a capture of either kind.
///
/// # Errors
/// As [`member_of`].
pub fn record_of(reader: &BlobReader<'_>, root: Id) -> Result<Record, ProtectError> {
    Ok(Record::parse(&json_of(reader, root)?)?)
}

fn json_of(reader: &BlobReader<'_>, root: Id) -> Result<Vec<u8>, ProtectError> {
    small_file(reader, root, MEMBER_FILE, MEMBER_MAX_BYTES)?.ok_or_else(|| {
        ProtectError::NotInSnapshot(format!(
            "it is no capture of a database: there is no {MEMBER_FILE} in it"
        ))
    })
}

/// The tree of a directory in a capture, `None` if there is none.
///
/// # Errors
/// When a tree on the way can't be read.
pub fn subtree(reader: &BlobReader<'_>, root: Id, path: &[&str]) -> Result<Option<Id>, RepoError> {
    let mut at = root;
    for name in path {
        let tree = reader.tree(at)?;
        match tree.find(name.as_bytes()).and_then(|node| node.subtree) {
            Some(below) => at = below,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

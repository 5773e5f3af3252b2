//! Reads the small files beside a capture that say what it is.
//! It must never read one that is longer than such a record can be.

use lifeboat_format::{BlobKind, Id, Node, NodeKind};
use lifeboat_repo::{BlobReader, RepoError};

/// The content of a file in the top directory of a tree; `None` if there is none of this name, or a longer one.
///
/// # Errors
/// When it can't be read.
pub(crate) fn small_file(
    reader: &BlobReader<'_>,
    root: Id,
    name: &str,
    max_bytes: u64,
) -> Result<Option<Vec<u8>>, RepoError> {
    let tree = reader.tree(root)?;
    let node = tree.find(name.as_bytes());
    let Some(node) =
        node.filter(|node| node.kind == NodeKind::File && node.size_bytes <= max_bytes)
    else {
        return Ok(None);
    };
    content(reader, node).map(Some)
}

/// The content of a file.
///
/// # Errors
/// When it can't be read.
pub(crate) fn content(reader: &BlobReader<'_>, node: &Node) -> Result<Vec<u8>, RepoError> {
    let (mut all, mut blob) = (Vec::new(), Vec::new());
    for id in node.content.iter().flatten() {
        reader.read(BlobKind::Data, *id, &mut blob)?;
        all.extend_from_slice(&blob);
    }
    Ok(all)
}

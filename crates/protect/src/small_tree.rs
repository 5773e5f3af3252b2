//! Stores the top of a capture: trees that are there already, beside small files that say what it is.
//! It must never be given what does not fit into memory many times over.

use std::sync::RwLock;

use lifeboat_flow::Timestamp;
use lifeboat_format::{Id, Mode, Node, NodeKind, Tree};
use lifeboat_repo::{Index, Ingest, IngestOptions, LockGuard, Repository};

use crate::ProtectError;
use crate::backup::add_tree;

/// Such files hold no secrets, and are for whoever restores.
const FILE_MODE: u32 = 0o644;

/// A file to store.
pub(crate) struct SmallFile<'a> {
    pub name: &'a str,
    pub content: &'a [u8],
}

/// Stores a tree of these nodes and these files, all in one directory.
///
/// # Errors
/// When it can't be stored.
pub(crate) fn store_top(
    (repository, index, lock): (&Repository, &RwLock<Index>, Option<&LockGuard>),
    options: IngestOptions,
    mut nodes: Vec<Node>,
    files: &[SmallFile<'_>],
    now: Timestamp,
) -> Result<Id, ProtectError> {
    let (tree, _) = Ingest::run(
        repository,
        index,
        lock,
        options,
        |ingest| -> Result<Id, ProtectError> {
            let mut sealer = ingest.sealer()?;
            for file in files {
                nodes.push(Node {
                    mode: Mode::new(&NodeKind::File, FILE_MODE),
                    modified: now,
                    accessed: now,
                    changed: now,
                    size_bytes: file.content.len() as u64,
                    links: 1,
                    content: Some(ingest.add_data(&[file.content], &mut sealer)?),
                    ..Node::bare(file.name.as_bytes(), NodeKind::File)
                });
            }
            nodes.sort_by(|one, other| one.name.cmp(&other.name));
            let tree = Tree { nodes };
            add_tree(ingest, &mut sealer, &tree, || "/".to_owned())
        },
    )?;
    Ok(tree)
}

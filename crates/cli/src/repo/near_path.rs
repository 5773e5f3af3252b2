//! What to say of a path that a snapshot does not have: where something of that name is instead.
//! It must never cost more than a few trees, nor fail where only a hint is at stake.

use lifeboat_format::{Id, Node, NodeKind};
use lifeboat_protect::ProtectError;
use lifeboat_repo::BlobReader;

use super::node_view::named;
use crate::failure::Failure;

/// Trees that are read for a hint at most.
const TREES_MAX: usize = 64;
const LISTS: &str = "`lifeboat repo ls SNAPSHOT` lists everything that is in it";

/// The tree of a directory inside another tree; where it is not there, the failure says what is near.
pub fn subfolder(reader: &BlobReader<'_>, root: Id, path: &[u8]) -> Result<Id, Failure> {
    lifeboat_protect::subfolder(reader, root, path).map_err(|error| match error {
        ProtectError::NotInSnapshot(_) => Failure::from(error).hint(hint(reader, root, path, true)),
        other => other.into(),
    })
}

/// What to do about a path that is not there, or is no directory and should be one.
pub fn hint(reader: &BlobReader<'_>, root: Id, path: &[u8], wants_dir: bool) -> String {
    let wanted: Vec<&[u8]> = path
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .collect();
    let mut search = Search {
        reader,
        left: 0,
        is_over: false,
    };
    let mut near = |wants_dir| search.near(root, &wanted, wants_dir);
    match (near(wants_dir), wants_dir) {
        (Some(near), _) => format!("{LISTS}; there is {}", named(&near)),
        (None, false) => LISTS.to_owned(),
        (None, true) => near(false).map_or(LISTS.to_owned(), |file| {
            let file = named(&file);
            format!("{file} is no directory: `lifeboat repo dump SNAPSHOT {file}` writes a file, `restore SNAPSHOT --include {file}` restores it")
        }),
    }
}

struct Search<'s, 'r> {
    reader: &'s BlobReader<'r>,
    /// Trees that may still be read.
    left: usize,
    /// Whether the place does not answer any more: each further tree would wait for it as long as the last one.
    is_over: bool,
}

impl Search<'_, '_> {
    /// The path of what has as much of the wanted path at its end as possible, in small letters or capital ones: below
    /// any directory near the top, because paths are easily given without their beginning or with one too many.
    fn near(&mut self, root: Id, wanted: &[&[u8]], wants_dir: bool) -> Option<Vec<u8>> {
        self.left = TREES_MAX;
        let mut dirs: Vec<(Vec<u8>, Vec<Node>)> = vec![(Vec::new(), self.nodes(root)?)];
        let mut at = 0;
        // Half of what may be read is for finding directories, the rest for looking below them.
        while let Some((path, nodes)) = dirs.get(at) {
            let below: Vec<(Vec<u8>, Id)> = nodes
                .iter()
                .filter_map(|node| Some((joined(path, &node.name), subtree(node)?)))
                .collect();
            for (path, tree) in below {
                if self.left <= TREES_MAX / 2 {
                    break;
                }
                dirs.extend(self.nodes(tree).map(|nodes| (path, nodes)));
            }
            at += 1;
        }
        for from in 0..wanted.len() {
            let end = wanted.get(from..).unwrap_or_default();
            for (path, nodes) in &dirs {
                if let Some(found) = self.below(path.clone(), nodes, end, wants_dir) {
                    return Some(found);
                }
            }
        }
        None
    }

    /// The path of these names below a directory, if it is there.
    fn below(
        &mut self,
        path: Vec<u8>,
        nodes: &[Node],
        names: &[&[u8]],
        wants_dir: bool,
    ) -> Option<Vec<u8>> {
        let (first, rest) = names.split_first()?;
        let alike = nodes.iter().filter(|node| is_alike(&node.name, first));
        for node in alike {
            let path = joined(&path, &node.name);
            let tree = subtree(node);
            if rest.is_empty() {
                if tree.is_some() || !wants_dir {
                    return Some(path);
                }
                continue;
            }
            let nodes = tree.and_then(|tree| self.nodes(tree)).unwrap_or_default();
            let found = self.below(path, &nodes, rest, wants_dir);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// What is in a tree; nothing if it can't be read, or enough were.
    fn nodes(&mut self, tree: Id) -> Option<Vec<Node>> {
        if self.is_over {
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        match self.reader.tree(tree) {
            Ok(tree) => Some(tree.nodes),
            Err(error) => {
                self.is_over = error.ends_all();
                None
            }
        }
    }
}

fn subtree(node: &Node) -> Option<Id> {
    node.subtree.filter(|_| node.kind == NodeKind::Dir)
}

fn joined(path: &[u8], name: &[u8]) -> Vec<u8> {
    [path, b"/", name].concat()
}

/// Whether two names are the same but for small and capital letters.
fn is_alike(one: &[u8], other: &[u8]) -> bool {
    let small = |name| String::from_utf8_lossy(name).to_lowercase();
    one == other || small(one) == small(other)
}

//! A walk through a snapshot's entries from top to bottom, each directory before what is in it.
//! It must never hold more than the directories above the present entry, and never stop at a tree that can't be read.

use lifeboat_flow::Cancel;
use lifeboat_format::{Id, Node, NodeKind};
use lifeboat_plan::repeated_names;
use lifeboat_repo::BlobReader;

use super::node_view::named;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ui::Ui;

/// A walk. The caller asks step by step, so that it can also stop or leave directories out.
pub struct TreeWalk<'a, 'r> {
    reader: &'a BlobReader<'r>,
    cancel: &'a Cancel,
    above: Vec<Dir>,
    path: Vec<u8>,
    /// The tree to go into with the next step.
    enter: Option<Id>,
    present: Option<Node>,
}

struct Dir {
    tree: Id,
    nodes: std::vec::IntoIter<Node>,
    count: usize,
    repeated: Vec<usize>,
    path_bytes: usize,
}

/// An entry on the way.
pub struct Seen<'s> {
    /// Its path, from the slash of the walk's top on.
    pub path: &'s [u8],
    /// What it is.
    pub node: &'s Node,
    /// The tree that names it.
    pub parent: Id,
    /// How many directories of the walk are above it; 1 for what is in the top.
    pub depth: usize,
    /// Whether the tree named it before: only a damaged or hostile one does.
    pub is_repeated: bool,
}

impl<'a, 'r> TreeWalk<'a, 'r> {
    /// A walk from a tree on.
    pub fn new(reader: &'a BlobReader<'r>, root: Id, cancel: &'a Cancel) -> Self {
        Self::below(reader, root, b"/", cancel)
    }

    /// A walk from a tree on that is the directory at `path`, without a slash at its end unless it is the top.
    pub fn below(reader: &'a BlobReader<'r>, root: Id, path: &[u8], cancel: &'a Cancel) -> Self {
        let path = path.strip_suffix(b"/").unwrap_or(path).to_vec();
        Self {
            reader,
            cancel,
            above: Vec::new(),
            path,
            enter: Some(root),
            present: None,
        }
    }

    /// The next entry. After a failure the walk can go on: it leaves out the directory that could not be read.
    pub fn step(&mut self) -> Result<Option<Seen<'_>>, Failure> {
        self.cancel.check()?;
        if let Some(tree) = self.enter.take() {
            self.go_into(tree)?;
        }
        let (node, parent, is_repeated) = loop {
            let Some(dir) = self.above.last_mut() else {
                return Ok(None);
            };
            self.path.truncate(dir.path_bytes);
            let number = dir.count - dir.nodes.len();
            if let Some(node) = dir.nodes.next() {
                break (node, dir.tree, dir.repeated.binary_search(&number).is_ok());
            }
            self.above.pop();
        };
        self.path.push(b'/');
        self.path.extend_from_slice(&node.name);
        if node.kind == NodeKind::Dir {
            match node.subtree {
                Some(tree) => self.enter = Some(tree),
                None => {
                    return Err(Failure::new("its entry names no tree")
                        .while_doing(format_args!("read the directory {}", named(&self.path))));
                }
            }
        }
        let depth = self.above.len();
        let node: &Node = self.present.insert(node);
        Ok(Some(Seen {
            path: &self.path,
            node,
            parent,
            depth,
            is_repeated,
        }))
    }

    /// Leaves out what is in the directory that the last step gave.
    pub fn skip(&mut self) {
        self.enter = None;
    }

    fn go_into(&mut self, tree: Id) -> Result<(), Failure> {
        let read = self.reader.tree(tree).map_err(|error| {
            let shown = if self.path.is_empty() {
                "/".into()
            } else {
                named(&self.path)
            };
            Failure::from(error).while_doing(format_args!(
                "read the directory {shown} (tree {})",
                tree.short()
            ))
        })?;
        let repeated = repeated_names(read.nodes.iter().map(|node| node.name.as_slice()));
        let count = read.nodes.len();
        self.above.push(Dir {
            tree,
            nodes: read.nodes.into_iter(),
            count,
            repeated,
            path_bytes: self.path.len(),
        });
        Ok(())
    }
}

/// Directories that could not be read: each is named, the rest goes on, the command fails at its end.
#[derive(Default)]
pub struct Unread(u64);

impl Unread {
    /// Names one, or gives the wish to stop back.
    pub fn name(&mut self, ui: &Ui, failure: Failure) -> Result<(), Failure> {
        if failure.exit == Exit::Interrupted {
            return Err(failure);
        }
        ui.warn(&failure.message);
        self.0 += 1;
        Ok(())
    }

    /// How the command ends.
    pub fn end(&self) -> Result<Exit, Failure> {
        if self.0 == 0 {
            return Ok(Exit::Done);
        }
        let what = crate::format::count(self.0, "directory");
        Err(Failure::new(format!(
            "{what} could not be read and what is in them is not shown"
        ))
        .hint("`lifeboat repo check --read-data` names everything that is damaged"))
    }
}

/// The nodes of one tree.
pub fn read_tree(reader: &BlobReader<'_>, tree: Id) -> Result<Vec<Node>, Failure> {
    let read = reader.tree(tree).map(|tree| tree.nodes);
    read.map_err(|error| {
        Failure::from(error).while_doing(format_args!("read the tree {}", tree.short()))
    })
}

//! `lifeboat repo diff`: what changed from one snapshot to another.
//! It must never call two entries the same because one could not be read.

use std::collections::HashSet;

use clap::Args;
use lifeboat_flow::Cancel;
use lifeboat_format::{BlobKind, Id, Node, NodeKind};
use lifeboat_plan::{Pair, merge};
use lifeboat_repo::{BlobReader, PackListing};
use serde_json::{Value, json};

use super::near_path::subfolder;
use super::node_view::{named, shown, text};
use super::out::Out;
use super::select;
use super::session::{Locking, Session};
use super::tree_walk::{TreeWalk, Unread, read_tree};
use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::ui::Ui;

/// Directories in each other that are compared; no file system that can be backed up goes so deep.
const DEPTH_MAX: usize = 2000;

/// Show what changed between two snapshots
///
/// Each line begins with what happened to an entry: `+` it is new, `-` it is gone, `M` its content changed, `T` it is
/// something else, as a link instead of a file, `U` its metadata changed, `?` its content changed and nothing else did:
/// perhaps damage.
///
/// Example: lifeboat repo diff latest~1 latest
#[derive(Args)]
pub struct Diff {
    /// The older snapshot, or a directory of it
    #[arg(value_name = "SNAPSHOT[:DIR]")]
    from: String,
    /// The newer one
    #[arg(value_name = "SNAPSHOT[:DIR]")]
    to: String,
    /// Show also entries of which only metadata changed
    #[arg(long)]
    metadata: bool,
}

impl Diff {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let mut out = Out::stdout(ui);
        let outcome = self.compare(global, ui, &mut out);
        out.end(outcome)
    }

    fn compare(&self, global: &Global, ui: &Ui, out: &mut Out<'_>) -> Outcome {
        let session = Session::open(global, ui, Locking::Read)?;
        let from = select::one(&session, ui, &self.from, &select::Filter::default())?;
        let to = select::one(&session, ui, &self.to, &select::Filter::default())?;
        out.say(format!(
            "from snapshot {} to {}:",
            from.id.short(),
            to.id.short()
        ))?;
        let (index, _) = session.index(ui, PackListing::Skip)?;
        let reader = BlobReader::new(&session.repository, &index);
        let trees = [
            subfolder(&reader, from.snapshot.tree, &from.subfolder)?,
            subfolder(&reader, to.snapshot.tree, &to.subfolder)?,
        ];
        let mut comparison = Comparison {
            reader: &reader,
            cancel: &session.cancel,
            ui,
            out,
            metadata: self.metadata,
            changed_files: 0,
            removed: Side::of(trees[0]),
            added: Side::of(trees[1]),
            common: HashSet::new(),
            unread: Unread::default(),
        };
        comparison.trees(b"/", trees, 0)?;
        comparison.report(&self.from, &self.to)
    }
}

type Blobs = HashSet<(BlobKind, Id)>;

/// What only one of the snapshots has.
#[derive(Default)]
struct Side {
    files: u64,
    dirs: u64,
    others: u64,
    /// Everything that this snapshot uses in what was compared.
    blobs: Blobs,
}

impl Side {
    fn of(root: Id) -> Self {
        Self {
            blobs: Blobs::from([(BlobKind::Tree, root)]),
            ..Self::default()
        }
    }

    fn count(&mut self, node: &Node) {
        *match node.kind {
            NodeKind::File => &mut self.files,
            NodeKind::Dir => &mut self.dirs,
            _ => &mut self.others,
        } += 1;
    }
}

fn add_blobs(blobs: &mut Blobs, node: &Node) {
    match node.kind {
        NodeKind::File => blobs.extend(
            node.content
                .iter()
                .flatten()
                .map(|id| (BlobKind::Data, *id)),
        ),
        NodeKind::Dir => blobs.extend(node.subtree.map(|id| (BlobKind::Tree, id))),
        _ => {}
    }
}

struct Comparison<'a, 'r, 'u> {
    reader: &'a BlobReader<'r>,
    cancel: &'a Cancel,
    ui: &'a Ui,
    out: &'a mut Out<'u>,
    metadata: bool,
    changed_files: u64,
    removed: Side,
    added: Side,
    /// What is used below directories that are the same in both.
    common: Blobs,
    unread: Unread,
}

impl Comparison<'_, '_, '_> {
    fn trees(&mut self, prefix: &[u8], trees: [Id; 2], depth: usize) -> Result<(), Failure> {
        self.cancel.check()?;
        if depth > DEPTH_MAX {
            return Err(Failure::new(format!(
                "{} lies {DEPTH_MAX} directories deep, more than can be compared",
                named(prefix)
            )));
        }
        let (left, right) = (
            read_tree(self.reader, trees[0])?,
            read_tree(self.reader, trees[1])?,
        );
        for pair in merge(&left, &right, node_name, node_name) {
            match pair {
                Pair::Left(node) => self.only(prefix, node, "-")?,
                Pair::Right(node) => self.only(prefix, node, "+")?,
                Pair::Both(left, right) => self.both(prefix, left, right, depth)?,
            }
        }
        Ok(())
    }

    fn both(
        &mut self,
        prefix: &[u8],
        left: &Node,
        right: &Node,
        depth: usize,
    ) -> Result<(), Failure> {
        add_blobs(&mut self.removed.blobs, left);
        add_blobs(&mut self.added.blobs, right);
        let path = join(prefix, right);
        let mut change = String::new();
        if left.kind != right.kind {
            change.push('T');
        }
        if left.kind == NodeKind::File
            && right.kind == NodeKind::File
            && left.content != right.content
        {
            change.push('M');
            self.changed_files += 1;
            if metadata_of(left) == metadata_of(right) {
                change.push('?');
            }
        } else if self.metadata && !is_same(left, right) {
            change.push('U');
        }
        if !change.is_empty() {
            self.change(&path, &change)?;
        }
        let (Some(left), Some(right)) = (dir_tree(left), dir_tree(right)) else {
            return Ok(());
        };
        let done = if left == right {
            self.collect(&path, left)
        } else {
            self.trees(&path, [left, right], depth + 1)
        };
        done.or_else(|failure| self.unread.name(self.ui, failure))
    }

    /// An entry with all that is below it, which only one snapshot has.
    fn only(&mut self, prefix: &[u8], node: &Node, change: &str) -> Result<(), Failure> {
        let path = join(prefix, node);
        self.one(&path, node, change)?;
        let Some(tree) = dir_tree(node) else {
            return Ok(());
        };
        let mut walk = TreeWalk::below(self.reader, tree, &path, self.cancel);
        loop {
            match walk.step() {
                Ok(Some(seen)) => {
                    let slash: &[u8] = if seen.node.kind == NodeKind::Dir {
                        b"/"
                    } else {
                        b""
                    };
                    self.one(&[seen.path, slash].concat(), seen.node, change)?;
                }
                Ok(None) => return Ok(()),
                Err(failure) => self.unread.name(self.ui, failure)?,
            }
        }
    }

    fn one(&mut self, path: &[u8], node: &Node, change: &str) -> Result<(), Failure> {
        let side = if change == "-" {
            &mut self.removed
        } else {
            &mut self.added
        };
        side.count(node);
        add_blobs(&mut side.blobs, node);
        self.change(path, change)
    }

    /// Everything that a directory uses that is the same in both.
    fn collect(&mut self, path: &[u8], tree: Id) -> Result<(), Failure> {
        let mut walk = TreeWalk::below(self.reader, tree, path, self.cancel);
        loop {
            match walk.step() {
                Ok(Some(seen)) => {
                    let is_known = dir_tree(seen.node)
                        .is_some_and(|tree| self.common.contains(&(BlobKind::Tree, tree)));
                    add_blobs(&mut self.common, seen.node);
                    if is_known {
                        walk.skip();
                    }
                }
                Ok(None) => return Ok(()),
                Err(failure) => self.unread.name(self.ui, failure)?,
            }
        }
    }

    fn change(&mut self, path: &[u8], change: &str) -> Result<(), Failure> {
        if self.ui.json {
            return self.out.line(
                json!({"message_type": "change", "path": text(path), "modifier": change})
                    .to_string(),
            );
        }
        let mut line = format!("{change:<5}").into_bytes();
        line.extend_from_slice(&shown(path, self.out.is_terminal));
        self.out.say(line)
    }

    fn report(mut self, from: &str, to: &str) -> Outcome {
        let removed = self.sum(&self.removed, &self.added.blobs);
        let added = self.sum(&self.added, &self.removed.blobs);
        let unknown = removed.unknown + added.unknown;
        if self.ui.json {
            let statistics = json!({
                "message_type": "statistics", "source_snapshot": from, "target_snapshot": to, "changed_files": self.changed_files,
                "added": added.to_json(&self.added), "removed": removed.to_json(&self.removed),
            });
            self.out.line(statistics.to_string())?;
        } else {
            let (new, gone) = (&self.added, &self.removed);
            for line in [
                String::new(),
                format!(
                    "Files:       {:5} new, {:5} removed, {:5} changed",
                    new.files, gone.files, self.changed_files
                ),
                format!("Dirs:        {:5} new, {:5} removed", new.dirs, gone.dirs),
                format!(
                    "Others:      {:5} new, {:5} removed",
                    new.others, gone.others
                ),
                format!(
                    "Data blobs:  {:5} new, {:5} removed",
                    added.data_blobs, removed.data_blobs
                ),
                format!(
                    "Tree blobs:  {:5} new, {:5} removed",
                    added.tree_blobs, removed.tree_blobs
                ),
                format!("  Added:   {}", format::bytes(added.bytes)),
                format!("  Removed: {}", format::bytes(removed.bytes)),
            ] {
                self.out.line(line)?;
            }
        }
        if unknown > 0 {
            return Err(Failure::new(format!(
                "{} are in no index file, so their size is not counted",
                format::count(unknown, "blob")
            ))
            .hint("`lifeboat repo check` names everything that is missing"));
        }
        std::mem::take(&mut self.unread).end()
    }

    fn sum(&self, side: &Side, other: &Blobs) -> Sum {
        let mut sum = Sum::default();
        for (kind, id) in side
            .blobs
            .iter()
            .filter(|blob| !other.contains(blob) && !self.common.contains(blob))
        {
            match kind {
                BlobKind::Data => sum.data_blobs += 1,
                BlobKind::Tree => sum.tree_blobs += 1,
            }
            match self.reader.index().plain_bytes(*kind, id) {
                Some(bytes) => sum.bytes += bytes,
                None => sum.unknown += 1,
            }
        }
        sum
    }
}

/// The blobs that only one snapshot uses.
#[derive(Default)]
struct Sum {
    data_blobs: u64,
    tree_blobs: u64,
    bytes: u64,
    unknown: u64,
}

impl Sum {
    fn to_json(&self, side: &Side) -> Value {
        json!({"files": side.files, "dirs": side.dirs, "others": side.others, "data_blobs": self.data_blobs, "tree_blobs": self.tree_blobs, "bytes": self.bytes})
    }
}

fn node_name(node: &Node) -> &[u8] {
    &node.name
}

fn dir_tree(node: &Node) -> Option<Id> {
    node.subtree.filter(|_| node.kind == NodeKind::Dir)
}

/// The path of an entry in a directory whose path ends with a slash; that of a directory ends with one too.
fn join(prefix: &[u8], node: &Node) -> Vec<u8> {
    let slash: &[u8] = if node.kind == NodeKind::Dir {
        b"/"
    } else {
        b""
    };
    [prefix, &node.name, slash].concat()
}

/// Everything but the content, with attributes in an order that does not matter.
fn metadata_of(node: &Node) -> Node {
    let mut node = Node {
        content: None,
        ..node.clone()
    };
    node.xattrs.sort_by(|a, b| a.name.cmp(&b.name));
    node
}

fn is_same(left: &Node, right: &Node) -> bool {
    left.content == right.content && metadata_of(left) == metadata_of(right)
}

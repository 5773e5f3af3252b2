//! Repairs snapshots: copies of them without the directories and the parts of files that are lost.
//! It must never take a tree that is out of reach for lost, nor write one anew of which nothing is lost.

use std::collections::{HashMap, HashSet};
use std::sync::RwLock;

use lifeboat_flow::Cancel;
use lifeboat_format::{BlobKind, Id, Node, NodeKind, Snapshot, Tree};

use super::losses::{Losses, LossesOf};
use super::sure;
use crate::backend::{FileKind, FileName};
use crate::index_writer::ensure;
use crate::lock::LockGuard;
use crate::{
    BlobReader, BlobSet, Index, IndexReport, Ingest, IngestOptions, RepoError, Repository,
};

/// New trees that are kept in memory before they are stored, in bytes.
const BATCH_MAX_BYTES: usize = 32 * 1024 * 1024;
/// Losses that are planned and not told, before what stands for these snapshots is stored: who gives up in the middle of
/// many snapshots has those that are done.
const PLANNED_LOSSES_MAX: u64 = 100_000;
/// The tag of a repaired snapshot beside the broken one, as restic's.
const REPAIRED_TAG: &str = "repaired";

/// Something that is not in the repaired snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Its path.
    pub path: Vec<u8>,
    /// What became of it.
    pub kind: LossKind,
}

/// What became of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LossKind {
    /// A file lacks so many of its blobs: what is left is shorter.
    Content {
        /// Blobs that are lost.
        blobs: u64,
        /// The size that it had, in bytes.
        size_before_bytes: u64,
        /// The size that it has now.
        size_bytes: u64,
    },
    /// A file said another size than its content has; nothing is lost.
    Size {
        /// The size that it said, in bytes.
        size_before_bytes: u64,
        /// The size that it has.
        size_bytes: u64,
    },
    /// A directory can't be read and is empty now.
    Directory,
    /// An entry of a kind that can't be restored is left out.
    Entry {
        /// Its kind.
        kind: String,
    },
}

/// What is to become of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotVerdict {
    /// Nothing of it is lost.
    Whole,
    /// It is repaired by one with this tree.
    Changed {
        /// The new root.
        tree: Id,
    },
    /// Its root can't be read: nothing of it can be saved.
    Nothing,
}

/// The plan for one snapshot.
#[derive(Clone, Debug)]
pub struct SnapshotPlan {
    /// The snapshot.
    pub id: Id,
    /// What is to become of it.
    pub verdict: SnapshotVerdict,
    /// What is lost of it.
    pub losses: Losses,
}

/// A snapshot that was dealt with.
#[derive(Clone, Debug)]
pub struct RepairedSnapshot {
    /// What was decided.
    pub plan: SnapshotPlan,
    /// The repaired snapshot; that of an earlier run, if it did the same.
    pub new: Option<Id>,
    /// Whether the broken one was removed.
    pub removed: bool,
}

/// How to repair snapshots.
pub struct SnapshotsRepair<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// Its index, compared with the packs that are there.
    pub index: &'a Index,
    /// What loading it brought to light.
    pub report: &'a IndexReport,
    /// All snapshots that can be read: one of them may be the result of an earlier run.
    pub all: &'a [(Id, Snapshot)],
    /// The lock, exclusive.
    pub lock: Option<&'a LockGuard>,
    /// Remove what was repaired.
    pub forget: bool,
    /// Only decide.
    pub dry_run: bool,
    /// The wish to stop.
    pub cancel: &'a Cancel,
}

impl SnapshotsRepair<'_> {
    /// Repairs these snapshots and tells `each` what became of one, when that is stored.
    ///
    /// # Errors
    /// [`RepoError::NoPacks`], [`RepoError::IndexFirst`] or [`RepoError::PacksFirst`] before the snapshot is changed if
    /// something seems lost that is elsewhere, or that another repair may bring back; others when something is out of reach or can't be written.
    pub fn run(
        &self,
        snapshots: &[(Id, Snapshot)],
        each: &mut dyn FnMut(RepairedSnapshot),
    ) -> Result<(), RepoError> {
        let reader = BlobReader::new(self.repository, self.index);
        let mut rewriter = Rewriter {
            reader: &reader,
            whole: BlobSet::new(self.index),
            changed: HashMap::new(),
            new: Vec::new(),
            new_bytes: 0,
            there: HashSet::new(),
            lost: Vec::new(),
            cancel: self.cancel,
        };
        let mut planned: Vec<(&Snapshot, SnapshotPlan)> = Vec::new();
        let (mut hidden, mut losses) = (None, 0u64);
        for (id, snapshot) in snapshots {
            let plan = rewriter.plan(*id, snapshot.tree)?;
            self.refuse_if_empty(*id, &rewriter.lost)?;
            self.refuse_if_early(&rewriter.lost, &mut hidden)?;
            rewriter.lost.clear();
            losses = losses.saturating_add(plan.losses.count());
            planned.push((snapshot, plan));
            if rewriter.new_bytes >= BATCH_MAX_BYTES || losses >= PLANNED_LOSSES_MAX {
                losses = 0;
                self.store(&mut rewriter, &mut planned, each)?;
            }
        }
        self.store(&mut rewriter, &mut planned, each)
    }

    /// Where there is no pack at all nothing is lost: something is in the way of all of them.
    fn refuse_if_empty(&self, id: Id, lost: &[(BlobKind, Id)]) -> Result<(), RepoError> {
        if lost.is_empty() || !self.report.listed_packs.is_empty() {
            return Ok(());
        }
        Err(RepoError::NoPacks {
            location: self.repository.backend().location(),
            needed: format!("snapshot {} needs some", id.short()),
        })
    }

    /// What only seems lost must not be given up: nothing is, while another repair may bring it back.
    fn refuse_if_early(
        &self,
        lost: &[(BlobKind, Id)],
        hidden: &mut Option<HashMap<(BlobKind, Id), Id>>,
    ) -> Result<(), RepoError> {
        if lost.is_empty() {
            return Ok(());
        }
        if let Some((id, _)) = self.report.damaged.first() {
            let what = format!("index file {} is damaged", id.short());
            return Err(RepoError::IndexFirst(what));
        }
        let missing = self.report.missing_packs.iter();
        let short = missing.filter(|id| self.report.listed_packs.contains_key(id));
        if let Some(first) = short.min() {
            return Err(RepoError::PacksFirst { first: *first });
        }
        let hidden = match hidden {
            Some(hidden) => hidden,
            None => {
                // All are short or not listed, and the short ones were dealt with above.
                for id in &self.report.missing_packs {
                    self.cancel.check()?;
                    let name = FileName::new(FileKind::Pack, *id);
                    self.repository.refuse_if_there(name)?;
                }
                hidden.insert(self.unindexed()?)
            }
        };
        if let Some(pack) = lost.iter().find_map(|blob| hidden.get(blob)) {
            let what = format!("pack {} is in no index file", pack.short());
            return Err(RepoError::IndexFirst(what));
        }
        Ok(())
    }

    /// The blobs in packs that no index file names, by their headers: an interrupted backup leaves such packs.
    fn unindexed(&self) -> Result<HashMap<(BlobKind, Id), Id>, RepoError> {
        let indexed: HashSet<Id> = self.index.packs().map(|(id, _)| id).collect();
        let marked: HashSet<&Id> = self.report.marked_packs.iter().collect();
        let mut blobs = HashMap::new();
        for (id, size) in &self.report.listed_packs {
            if indexed.contains(id) || marked.contains(id) {
                continue;
            }
            self.cancel.check()?;
            match sure(|| self.repository.pack_header(*id, *size)) {
                Ok(header) => {
                    blobs.extend(header.iter().map(|(kind, blob, _)| ((*kind, *blob), *id)))
                }
                Err(error) if error.is_damage() => {
                    return Err(RepoError::PacksFirst { first: *id });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(blobs)
    }

    /// Stores the new trees, then the snapshots that name them, then removes what they replace.
    fn store(
        &self,
        rewriter: &mut Rewriter<'_, '_>,
        planned: &mut Vec<(&Snapshot, SnapshotPlan)>,
        each: &mut dyn FnMut(RepairedSnapshot),
    ) -> Result<(), RepoError> {
        rewriter.new_bytes = 0;
        let trees = std::mem::take(&mut rewriter.new);
        if !self.dry_run && !trees.is_empty() {
            let nothing = RwLock::new(Index::new());
            let options = IngestOptions::default();
            Ingest::run(
                self.repository,
                &nothing,
                self.lock,
                options,
                |ingest| -> Result<(), RepoError> {
                    let mut sealer = ingest.sealer()?;
                    for (id, json) in &trees {
                        self.cancel.check()?;
                        ingest.add(BlobKind::Tree, *id, json, &mut sealer)?;
                    }
                    Ok(())
                },
            )?;
        }
        for (snapshot, plan) in planned.drain(..) {
            self.cancel.check()?;
            let id = plan.id;
            let new = match plan.verdict {
                SnapshotVerdict::Changed { tree } if !self.dry_run => {
                    Some(self.replace(id, snapshot, tree)?)
                }
                _ => None,
            };
            let removed = self.forget && !self.dry_run && plan.verdict != SnapshotVerdict::Whole;
            if removed {
                ensure(self.lock)?;
                match new {
                    Some(new) => self.repository.remove_replaced(id, new)?,
                    None => self.repository.remove_snapshot(id)?,
                }
            }
            each(RepairedSnapshot { plan, new, removed });
        }
        Ok(())
    }

    /// The snapshot that stands for a broken one.
    fn replace(&self, id: Id, snapshot: &Snapshot, tree: Id) -> Result<Id, RepoError> {
        let mut new = snapshot.clone();
        new.tree = tree;
        new.original = Some(id);
        // What was lost may be there still where it came from.
        new.whole = None;
        if !self.forget {
            tag(&mut new);
        }
        let mut tagged = new.clone();
        if self.forget {
            tag(&mut tagged);
        }
        // An earlier run, without `forget` or stopped, has made it already.
        let is_it = |known: &Snapshot| *known == new || *known == tagged;
        if let Some((earlier, _)) = self.all.iter().find(|(_, known)| is_it(known)) {
            return Ok(*earlier);
        }
        self.repository.save_snapshot_under(self.lock, &new)
    }
}

fn tag(snapshot: &mut Snapshot) {
    if !snapshot.tags.iter().any(|tag| tag == REPAIRED_TAG) {
        snapshot.tags.push(REPAIRED_TAG.to_owned());
    }
}

/// Makes trees without what is lost; it only reads.
struct Rewriter<'w, 'r> {
    reader: &'w BlobReader<'r>,
    /// Trees below which nothing is lost.
    whole: BlobSet<'w>,
    /// Trees below which something is, with what stands for them and what is lost.
    changed: HashMap<Id, (Id, Losses)>,
    /// New trees that are not stored yet.
    new: Vec<(Id, Vec<u8>)>,
    new_bytes: usize,
    /// Trees that stand for others and are stored, or will be.
    there: HashSet<Id>,
    /// Blobs that were found to be lost since this was last looked at.
    lost: Vec<(BlobKind, Id)>,
    cancel: &'w Cancel,
}

/// A directory on the way down.
struct Frame {
    tree: Id,
    nodes: std::vec::IntoIter<Node>,
    out: Vec<Node>,
    /// The directory's entry whose tree is worked on above this frame.
    waiting: Option<Node>,
    is_changed: bool,
    losses: LossesOf,
}

enum Known {
    Whole,
    Changed(Id, Losses),
    Open(Box<Frame>),
    Unreadable,
}

impl Rewriter<'_, '_> {
    fn plan(&mut self, id: Id, root: Id) -> Result<SnapshotPlan, RepoError> {
        let (verdict, losses) = match self.tree(root)? {
            None => (SnapshotVerdict::Nothing, Losses::of_root()),
            Some((tree, losses)) if tree == root => (SnapshotVerdict::Whole, losses),
            Some((tree, losses)) => (SnapshotVerdict::Changed { tree }, losses),
        };
        Ok(SnapshotPlan {
            id,
            verdict,
            losses,
        })
    }

    fn look(&mut self, tree: Id) -> Result<Known, RepoError> {
        if self.whole.contains(BlobKind::Tree, &tree) {
            return Ok(Known::Whole);
        }
        if let Some((new, losses)) = self.changed.get(&tree) {
            return Ok(Known::Changed(*new, losses.clone()));
        }
        self.cancel.check()?;
        match sure(|| self.reader.tree(tree)) {
            Ok(read) => Ok(Known::Open(Box::new(Frame {
                tree,
                nodes: read.nodes.into_iter(),
                out: Vec::new(),
                waiting: None,
                is_changed: false,
                losses: LossesOf::default(),
            }))),
            Err(error) if error.is_damage() => {
                self.lost.push((BlobKind::Tree, tree));
                // Of an empty directory it is known what it was.
                let empty = Tree::default();
                if tree == encoded(&empty)?.0 {
                    self.add(&empty)?;
                    self.whole.insert(BlobKind::Tree, &tree);
                    return Ok(Known::Whole);
                }
                Ok(Known::Unreadable)
            }
            Err(error) => Err(error),
        }
    }

    /// What stands for a tree, and what is lost below it; `None` if it can't be read.
    fn tree(&mut self, root: Id) -> Result<Option<(Id, Losses)>, RepoError> {
        let mut stack = match self.look(root)? {
            Known::Whole => return Ok(Some((root, Losses::default()))),
            Known::Changed(new, losses) => return Ok(Some((new, losses))),
            Known::Unreadable => return Ok(None),
            Known::Open(frame) => vec![frame],
        };
        while let Some(mut frame) = stack.pop() {
            let Some(node) = frame.nodes.next() else {
                let (new, losses) = self.finish(*frame)?;
                match stack.last_mut() {
                    None => return Ok(Some((new, losses))),
                    Some(above) => above.take(new, |name, all| all.add_below(name, losses)),
                }
                continue;
            };
            if node.kind != NodeKind::Dir {
                self.entry(&mut frame, node);
                stack.push(frame);
                continue;
            }
            let known = match node.subtree {
                None => Known::Unreadable,
                Some(tree) => self.look(tree)?,
            };
            frame.waiting = Some(node);
            match known {
                Known::Whole => frame.take_whole(),
                Known::Changed(new, losses) => {
                    frame.take(new, |name, all| all.add_below(name, losses));
                }
                Known::Unreadable => {
                    let empty = self.add(&Tree::default())?;
                    frame.take(empty, |name, all| all.add(name, LossKind::Directory));
                }
                Known::Open(below) => {
                    stack.push(frame);
                    stack.push(below);
                    continue;
                }
            }
            stack.push(frame);
        }
        Ok(None)
    }

    /// Puts an entry that is no directory into its new tree, without what is lost of it.
    fn entry(&mut self, frame: &mut Frame, mut node: Node) {
        let lose = |frame: &mut Frame, kind| {
            frame.losses.add(&node.name, kind);
            frame.is_changed = true;
        };
        match &node.kind {
            NodeKind::Other(word) if word.is_empty() || &**word == "irregular" => {
                let kind = word.to_string();
                lose(frame, LossKind::Entry { kind });
                return;
            }
            NodeKind::File => {}
            _ => {
                frame.out.push(node);
                return;
            }
        }
        let index = self.reader.index();
        let before = node.content.take();
        let (mut size_bytes, mut content) = (0, Vec::new());
        for blob in before.iter().flatten() {
            if index.can_read(BlobKind::Data, blob)
                && let Some(bytes) = index.plain_bytes(BlobKind::Data, blob)
            {
                size_bytes += bytes;
                content.push(*blob);
            } else {
                self.lost.push((BlobKind::Data, *blob));
            }
        }
        let size_before_bytes = node.size_bytes;
        let blobs = before.as_ref().map_or(0, Vec::len) - content.len();
        if blobs > 0 {
            let blobs = blobs as u64;
            lose(
                frame,
                LossKind::Content {
                    blobs,
                    size_before_bytes,
                    size_bytes,
                },
            );
        } else if size_bytes != size_before_bytes || before.is_none() {
            lose(
                frame,
                LossKind::Size {
                    size_before_bytes,
                    size_bytes,
                },
            );
        }
        node.size_bytes = size_bytes;
        node.content = Some(content);
        frame.out.push(node);
    }

    /// Closes a directory: its tree stays as it is, or another stands for it.
    fn finish(&mut self, frame: Frame) -> Result<(Id, Losses), RepoError> {
        if !frame.is_changed {
            self.whole.insert(BlobKind::Tree, &frame.tree);
            return Ok((frame.tree, Losses::default()));
        }
        let new = self.add(&Tree { nodes: frame.out })?;
        let losses = frame.losses.finish();
        self.changed.insert(frame.tree, (new, losses.clone()));
        Ok((new, losses))
    }

    /// Takes care that a tree is stored.
    fn add(&mut self, tree: &Tree) -> Result<Id, RepoError> {
        let (id, json) = encoded(tree)?;
        if self.there.insert(id) && !self.can_be_read(id)? {
            self.new_bytes += json.len();
            self.new.push((id, json));
        }
        Ok(id)
    }

    /// Whether a tree is stored and whole: that the index names it says nothing in a damaged repository.
    fn can_be_read(&self, tree: Id) -> Result<bool, RepoError> {
        if !self.reader.index().has(BlobKind::Tree, &tree) {
            return Ok(false);
        }
        match sure(|| self.reader.tree(tree)) {
            Ok(_) => Ok(true),
            Err(error) if error.is_damage() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A tree's ID and what is stored of it.
fn encoded(tree: &Tree) -> Result<(Id, Vec<u8>), RepoError> {
    let json = tree
        .to_json()
        .map_err(|error| RepoError::Refused(format!("a tree can't be repaired: {error}")))?;
    Ok((Id::of(&json), json))
}

impl Frame {
    fn take_whole(&mut self) {
        self.out.extend(self.waiting.take());
    }

    /// Takes what stands for the tree of the directory that waits.
    fn take(&mut self, tree: Id, lose: impl FnOnce(&[u8], &mut LossesOf)) {
        let Some(mut node) = self.waiting.take() else {
            return;
        };
        self.is_changed |= node.subtree != Some(tree);
        lose(&node.name, &mut self.losses);
        node.subtree = Some(tree);
        self.out.push(node);
    }
}

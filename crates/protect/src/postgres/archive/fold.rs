//! Folds the log of a cluster: what lies beside the repository becomes a snapshot that holds all of it that is needed.
//! It must never take anything out of the log, or remove an older fold, before the snapshot that holds it is acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLock};

use lifeboat_flow::{Cancel, Cancelled};
use lifeboat_format::{
    BlobKind, Id, Mode, Node, NodeKind, Snapshot, SnapshotSummary, Timestamp, Tree,
};
use lifeboat_plan::{FoldFacts, FoldPlan, LogBound, fold, is_history};
use lifeboat_repo::{
    BlobReader, Index, Ingest, IngestOptions, IngestStats, LockGuard, LogError, RepoError,
    Repository, Sealer,
};
use lifeboat_state::postgres::{SegmentName, WalName};

use super::folds::{Folds, dirs_of, fold_path};
use super::{Archive, ArchiveError};
use crate::ProtectError;
use crate::backup::{acknowledge, add_tree};
use crate::point::OWN_TAG;

/// The length of the pieces that files of a log are stored in: what a server wrote once it never writes again, so nothing
/// is gained by cutting where the content says so.
const CHUNK_BYTES: usize = 4 << 20;
/// Permissions of files and directories, as the server has them.
const FILE_PERMISSIONS: u32 = 0o600;
const DIR_PERMISSIONS: u32 = 0o700;

/// A fold of one cluster's log, that runs once.
pub struct Fold<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// Its index, compared with the listing of packs.
    pub index: &'a RwLock<Index>,
    /// An exclusive lock: two folds at once would each remove what the other one does not hold. A dry run has none.
    pub lock: Option<&'a LockGuard>,
    /// All its snapshots.
    pub snapshots: &'a [(Id, Snapshot)],
    /// The cluster.
    pub system_id: u64,
    /// What the captures of the cluster need; `None` without captures.
    pub bound: Option<LogBound>,
    /// How many of the newest segments of each timeline stay in the log.
    pub unfolded: usize,
    /// How to store.
    pub ingest: IngestOptions,
    /// The wish to stop.
    pub cancel: &'a Cancel,
}

/// What a fold did, or would do.
#[derive(Clone, Debug, Default)]
pub struct Folded {
    /// What was decided.
    pub plan: FoldPlan,
    /// The new fold; `None` for a dry run, and where the one that is there holds all.
    pub snapshot: Option<Id>,
    /// What was stored.
    pub stored: IngestStats,
    /// Files that were taken out of the log.
    pub taken_out: u64,
    /// Older folds that were removed.
    pub removed: u64,
}

/// A fold can't go on. What it would have replaced is as it was, or the new one holds it.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// The archive can't be used.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A file is gone that was there.
    #[error("{0} was taken out of the log while it was folded")]
    Gone(WalName),
    /// What is folded already is not in the repository any more.
    #[error("{name} is folded in a snapshot, and a part of it, {blob}, is lost")]
    Lost {
        /// The file.
        name: WalName,
        /// What is missing.
        blob: Id,
    },
    /// A file can't be taken out of the log.
    #[error("take {name} out of the log")]
    TakeOut {
        /// The file.
        name: WalName,
        /// Why.
        #[source]
        cause: LogError,
    },
    /// Storing failed.
    #[error(transparent)]
    Protect(#[from] ProtectError),
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// Somebody wished to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// Files of a fold that is made, by directory.
#[derive(Default)]
struct Files {
    dirs: BTreeMap<Vec<String>, BTreeMap<Vec<u8>, Node>>,
}

impl Fold<'_> {
    /// Decides, and does it unless it is a dry run. `draft` is the snapshot with host, user and program; `now` tells the
    /// time.
    ///
    /// # Errors
    /// When anything can't be read or stored, or a file is in the log with other content than in a fold.
    pub fn run(
        self,
        draft: Snapshot,
        now: impl Fn() -> Timestamp,
        is_dry_run: bool,
    ) -> Result<Folded, FoldError> {
        let archive = Archive::new(self.repository, self.system_id).heeding(self.cancel);
        let folds = Folds::among(self.system_id, self.snapshots);
        let known: BTreeMap<WalName, Node> = {
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            let reader = BlobReader::new(self.repository, &index);
            folds.files(&reader)?.into_iter().collect()
        };
        let facts = FoldFacts {
            // Pieces stay: they are looked for in the log alone, and go when their segment is whole or expires.
            log: archive
                .log_names()?
                .iter()
                .filter(|name| !matches!(name, WalName::Piece(_)))
                .map(WalName::to_string)
                .collect(),
            folded: known.keys().map(WalName::to_string).collect(),
            bound: self.bound,
            unfolded: self.unfolded,
        };
        let plan = fold(&facts);
        let mut done = Folded {
            plan,
            ..Folded::default()
        };
        if is_dry_run {
            return Ok(done);
        }
        let plan = &done.plan;
        let is_needed = !plan.is_the_same() || folds.snapshots.len() > 1;
        let started = now();
        let (tree, stored) = Ingest::run(
            self.repository,
            self.index,
            self.lock,
            self.ingest,
            |ingest| self.store(ingest, &archive, plan, &known, started),
        )?;
        if is_needed && !(plan.add.is_empty() && plan.keep.is_empty()) {
            let (root, summary) = tree;
            let snapshot = Snapshot {
                time: started,
                tree: root,
                paths: vec![fold_path(self.system_id)],
                tags: vec![OWN_TAG.to_owned(), format!("wal={}", self.system_id)],
                summary: Some(SnapshotSummary {
                    backup_start: Some(started),
                    backup_end: Some(now()),
                    files_new: plan.add.len() as u64,
                    data_blobs: i64::try_from(stored.data_blobs).unwrap_or(i64::MAX),
                    tree_blobs: i64::try_from(stored.tree_blobs).unwrap_or(i64::MAX),
                    data_added: stored.plain_bytes,
                    data_added_packed: stored.stored_bytes,
                    ..summary
                }),
                ..draft
            };
            let id = acknowledge(
                self.repository,
                self.index,
                self.lock,
                self.cancel,
                &snapshot,
            )?;
            done.snapshot = Some(id);
        }
        done.stored = stored;
        self.take_out(&archive, &known, &mut done)?;
        // All that the older ones hold is in the new one, or is needed no more.
        let old = folds.snapshots.iter().filter(|_| is_needed);
        for (id, _) in old.filter(|(id, _)| Some(*id) != done.snapshot) {
            self.ensure()?;
            self.repository.remove_snapshot(*id)?;
            done.removed += 1;
        }
        Ok(done)
    }

    /// Stores what is new, and the trees; compares what is folded already. Gives the root.
    fn store(
        &self,
        ingest: &Ingest<'_>,
        archive: &Archive<'_>,
        plan: &FoldPlan,
        known: &BTreeMap<WalName, Node>,
        now: Timestamp,
    ) -> Result<(Id, SnapshotSummary), FoldError> {
        let mut sealer = ingest.sealer()?;
        let mut files = Files::default();
        let kept: BTreeSet<&String> = plan.keep.iter().collect();
        for (name, node) in known
            .iter()
            .filter(|(name, _)| kept.contains(&name.to_string()))
        {
            // Relied on from here on, so that it is looked for once more before the snapshot is written.
            for blob in node.content.iter().flatten() {
                let found = ingest.known(BlobKind::Data, blob);
                found.ok_or(FoldError::Lost {
                    name: *name,
                    blob: *blob,
                })?;
            }
            files.put(*name, node.clone());
        }
        for text in &plan.again {
            self.cancel.check()?;
            let (name, content) = read(archive, text)?;
            let chunks: Vec<&[u8]> = content.chunks(CHUNK_BYTES).collect();
            let same = known.get(&name).and_then(|node| node.content.as_ref());
            if same != Some(&Id::of_each(&chunks)) {
                let system_id = self.system_id;
                return Err(ArchiveError::FoldedDifferent { name, system_id }.into());
            }
        }
        for text in &plan.add {
            self.cancel.check()?;
            let (name, content) = read(archive, text)?;
            let chunks: Vec<&[u8]> = content.chunks(CHUNK_BYTES).collect();
            let node = Node {
                size_bytes: content.len() as u64,
                links: 1,
                content: Some(ingest.add_data(&chunks, &mut sealer)?),
                ..node(text.as_bytes(), NodeKind::File, FILE_PERMISSIONS, now)
            };
            files.put(name, node);
        }
        let of_files = files.dirs.values().flat_map(BTreeMap::values);
        let summary = SnapshotSummary {
            total_files_processed: of_files.clone().count() as u64,
            total_bytes_processed: of_files.map(|node| node.size_bytes).sum(),
            ..SnapshotSummary::default()
        };
        Ok((files.store(ingest, &mut sealer)?, summary))
    }

    /// Notes how far the log is folded, and takes it out of the log. What is noted first is that a name was given.
    fn take_out(
        &self,
        archive: &Archive<'_>,
        known: &BTreeMap<WalName, Node>,
        done: &mut Folded,
    ) -> Result<(), FoldError> {
        let plan = &done.plan;
        let names = plan.keep.iter().chain(&plan.add);
        let names: Vec<WalName> = names.filter_map(|name| name.parse().ok()).collect();
        let mut newest: BTreeMap<u32, SegmentName> = BTreeMap::new();
        for name in &names {
            match name {
                WalName::Segment(segment) => {
                    let mark = newest.entry(segment.timeline.0).or_insert(*segment);
                    *mark = (*mark).max(*segment);
                }
                // Of a copied repository, the log may lack it.
                WalName::History(_) if known.contains_key(name) => {
                    if let Some(content) = archive.read(*name)? {
                        archive.push(*name, &content)?;
                    }
                }
                _ => {}
            }
        }
        self.ensure()?;
        archive.mark(&newest.into_values().collect::<Vec<_>>())?;
        let out = plan.add.iter().chain(&plan.again);
        for text in out.filter(|name| !is_history(name)) {
            self.cancel.check()?;
            self.ensure()?;
            let name: WalName = parse(text)?;
            let removed = self.repository.log().remove(&archive.log_name(name)?);
            removed.map_err(|cause| FoldError::TakeOut { name, cause })?;
            done.taken_out += 1;
        }
        Ok(())
    }

    fn ensure(&self) -> Result<(), RepoError> {
        self.lock.map_or(Ok(()), LockGuard::ensure)
    }
}

impl Files {
    fn put(&mut self, name: WalName, node: Node) {
        let dir = self.dirs.entry(dirs_of(name)).or_default();
        dir.insert(node.name.clone(), node);
    }

    /// Stores the trees, the deepest first, and gives the root. A tree in which nothing changed is the one that is there.
    fn store(mut self, ingest: &Ingest<'_>, sealer: &mut Sealer) -> Result<Id, FoldError> {
        let deepest = self.dirs.keys().map(Vec::len).max().unwrap_or_default();
        for depth in (0..=deepest).rev() {
            let of_depth: Vec<Vec<String>> = self
                .dirs
                .keys()
                .filter(|dir| dir.len() == depth)
                .cloned()
                .collect();
            for mut path in of_depth {
                let nodes = self.dirs.remove(&path).unwrap_or_default();
                let modified = nodes.values().map(|node| node.modified).max();
                let id = store_dir(ingest, sealer, nodes)?;
                let Some(name) = path.pop() else {
                    return Ok(id);
                };
                let modified = modified.unwrap_or(Timestamp::ZERO);
                let dir = Node {
                    subtree: Some(id),
                    ..node(name.as_bytes(), NodeKind::Dir, DIR_PERMISSIONS, modified)
                };
                let above = self.dirs.entry(path).or_default();
                above.insert(dir.name.clone(), dir);
            }
        }
        Ok(store_dir(ingest, sealer, BTreeMap::new())?)
    }
}

fn store_dir(
    ingest: &Ingest<'_>,
    sealer: &mut Sealer,
    nodes: BTreeMap<Vec<u8>, Node>,
) -> Result<Id, ProtectError> {
    let tree = Tree {
        nodes: nodes.into_values().collect(),
    };
    add_tree(ingest, sealer, &tree, || "a folded log".to_owned())
}

fn node(name: &[u8], kind: NodeKind, permissions: u32, time: Timestamp) -> Node {
    Node {
        mode: Mode::new(&kind, permissions),
        modified: time,
        accessed: time,
        changed: time,
        ..Node::bare(name, kind)
    }
}

fn parse(text: &str) -> Result<WalName, FoldError> {
    let name = text.parse::<WalName>();
    name.map_err(|error| RepoError::Refused(error.to_string()).into())
}

/// A file of the log, which was listed.
fn read(archive: &Archive<'_>, text: &str) -> Result<(WalName, Vec<u8>), FoldError> {
    let name = parse(text)?;
    let content = archive.read_log(name)?;
    Ok((name, content.ok_or(FoldError::Gone(name))?))
}

//! The log of a cluster as far as it is folded into snapshots: what is in them, and how it is read.
//! It must never give what is not what was folded, nor take a damaged snapshot for one that is not there.

use std::collections::BTreeSet;

use lifeboat_flow::Cancel;
use lifeboat_format::{Id, Node, NodeKind, Snapshot};
use lifeboat_repo::{BlobReader, Index, PackListing, RepoError, Repository};
use lifeboat_state::postgres::WalName;

use crate::postgres::parts::subtree;
use crate::record::content;

/// What the path of a fold begins with; the system identifier follows.
const FOLD_PATH: &str = "/wal/";

/// The path that folds of a cluster have.
pub(super) fn fold_path(system_id: u64) -> String {
    format!("{FOLD_PATH}{system_id}")
}

/// The cluster whose log a snapshot holds.
fn cluster_of(snapshot: &Snapshot) -> Option<u64> {
    match snapshot.paths.as_slice() {
        [path] => path.strip_prefix(FOLD_PATH)?.parse().ok(),
        _ => None,
    }
}

/// The clusters of which there are folds.
///
/// # Errors
/// When snapshots can't be listed.
pub(super) fn folded_clusters(repository: &Repository) -> Result<BTreeSet<u64>, RepoError> {
    let snapshots = repository.snapshots()?.all;
    let clusters = snapshots
        .iter()
        .filter_map(|(_, snapshot)| cluster_of(snapshot));
    Ok(clusters.collect())
}

/// The directories in a fold that lead to a file: its timeline, and for what is no history the middle part of its name.
pub(super) fn dirs_of(name: WalName) -> Vec<String> {
    let text = name.to_string();
    let timeline = text.get(..8).unwrap_or_default().to_owned();
    match (name, text.get(8..16)) {
        (WalName::History(_), _) | (_, None) => vec![timeline],
        (_, Some(middle)) => vec![timeline, middle.to_owned()],
    }
}

/// The folds of a cluster, the newest first. There is one, but for a moment, or where a fold was broken off.
#[derive(Debug, Default)]
pub(super) struct Folds {
    pub(super) snapshots: Vec<(Id, Snapshot)>,
}

impl Folds {
    /// Those among snapshots.
    pub(super) fn among(system_id: u64, all: &[(Id, Snapshot)]) -> Self {
        let of_it = all.iter().rev();
        let of_it = of_it.filter(|(_, snapshot)| cluster_of(snapshot) == Some(system_id));
        Self {
            snapshots: of_it.cloned().collect(),
        }
    }

    /// Where a file is.
    pub(super) fn find(
        &self,
        reader: &BlobReader<'_>,
        name: WalName,
    ) -> Result<Option<Node>, RepoError> {
        let dirs = dirs_of(name);
        let dirs: Vec<&str> = dirs.iter().map(String::as_str).collect();
        for (_, snapshot) in &self.snapshots {
            let Some(dir) = subtree(reader, snapshot.tree, &dirs)? else {
                continue;
            };
            let tree = reader.tree(dir)?;
            if let Some(node) = tree.find(name.to_string().as_bytes()) {
                return Ok(Some(node.clone()));
            }
        }
        Ok(None)
    }

    /// All files, of those in several folds the newest.
    pub(super) fn files(&self, reader: &BlobReader<'_>) -> Result<Vec<(WalName, Node)>, RepoError> {
        let (mut found, mut known) = (Vec::new(), BTreeSet::new());
        for (_, snapshot) in &self.snapshots {
            // Two levels, however many somebody else made.
            let mut trees = vec![(snapshot.tree, 0)];
            while let Some((tree, depth)) = trees.pop() {
                for node in reader.tree(tree)?.nodes {
                    if let Some(below) = node.subtree.filter(|_| depth < 2) {
                        trees.push((below, depth + 1));
                        continue;
                    }
                    let text = String::from_utf8_lossy(&node.name);
                    if node.kind == NodeKind::File
                        && let Ok(name) = text.parse::<WalName>()
                        && known.insert(name)
                    {
                        found.push((name, node));
                    }
                }
            }
        }
        found.sort_by_key(|(name, _)| *name);
        Ok(found)
    }
}

/// What of folds is looked at: with the index, which is only read where there is a fold.
pub(super) struct FoldView<'a> {
    repository: &'a Repository,
    folds: Folds,
    index: Option<Index>,
    /// A snapshot that can't be read, and may be a fold.
    damaged: Option<(Id, String)>,
}

impl<'a> FoldView<'a> {
    /// Looks at what is there now.
    pub(super) fn new(
        repository: &'a Repository,
        system_id: u64,
        cancel: &Cancel,
    ) -> Result<Self, RepoError> {
        let snapshots = repository.snapshots()?;
        let folds = Folds::among(system_id, &snapshots.all);
        let index = match folds.snapshots.is_empty() {
            true => None,
            false => Some(repository.load_index(PackListing::Skip, cancel)?.0),
        };
        Ok(Self {
            repository,
            folds,
            index,
            damaged: snapshots
                .damaged
                .first()
                .map(|(id, cause)| (*id, lifeboat_repo::chain(cause))),
        })
    }

    /// The content of a file, `None` if it is in no fold that could be read.
    pub(super) fn read(&self, name: WalName) -> Result<Option<Vec<u8>>, RepoError> {
        let Some(index) = &self.index else {
            return Ok(None);
        };
        let reader = BlobReader::new(self.repository, index);
        let node = self.folds.find(&reader, name)?;
        node.map(|node| content(&reader, &node)).transpose()
    }

    /// Whether every snapshot could be read.
    pub(super) fn certain(&self) -> Result<(), RepoError> {
        match &self.damaged {
            None => Ok(()),
            Some((id, why)) => Err(RepoError::Refused(format!(
                "the snapshot {} can't be read, and may hold it: {why}",
                id.short()
            ))),
        }
    }

    /// The names of all files.
    pub(super) fn names(&self) -> Result<Vec<WalName>, RepoError> {
        let Some(index) = &self.index else {
            return Ok(Vec::new());
        };
        let files = self.folds.files(&BlobReader::new(self.repository, index))?;
        Ok(files.into_iter().map(|(name, _)| name).collect())
    }
}

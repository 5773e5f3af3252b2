//! Checks a repository: is everything there that its snapshots need, and is it what it says?
//! It must never change anything, and never stop at the first finding.

mod advice;
mod pack;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::{BlobKind, Id, NodeKind, Tree};

use crate::backend::{FileKind, FileName};
use crate::by_pack::pack_bytes;
use crate::{
    BlobReader, BlobSet, ByPack, Index, MEMORY_DEFAULT_BYTES, PackListing, RepoError, Repository,
    TreeRoot, TreeSeen, chain, walk_trees,
};

pub use advice::Repair;
pub(crate) use pack::split_header;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FindingKind {
    /// A key file can't be read.
    Key,
    /// The config can't be read any more.
    Config,
    /// An index file can't be read.
    Index,
    /// A snapshot can't be read.
    Snapshot,
    /// A pack that the index names is not there or has another size.
    PackMissing,
    /// A pack is damaged.
    PackDamaged,
    /// A pack is in no index file: harmless, left by an interrupted run.
    PackUnindexed,
    /// A pack is marked for deletion and needed nevertheless: prune indexes it again.
    PackMarked,
    /// A tree can't be read or contradicts itself.
    Tree,
    /// A blob that a tree names is in no index file.
    BlobMissing,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// What kind of thing.
    pub kind: FindingKind,
    /// The file or blob.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
    /// Whether data is lost or at risk; otherwise it is only untidy.
    pub serious: bool,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

/// What to check.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// Packs to read whole; `None` reads none.
    pub read_packs: Option<Vec<Id>>,
    /// Threads; a backend that is worth more requests at once gets more. Fewer read packs where memory does not allow them.
    pub threads: usize,
    /// Memory for packs that are read whole, in bytes; one is always possible.
    pub memory_bytes: usize,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self {
            read_packs: None,
            threads: 1,
            memory_bytes: MEMORY_DEFAULT_BYTES,
        }
    }
}

/// What a check found.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
    /// Snapshots that were checked.
    pub snapshots: u64,
    /// Trees that were checked.
    pub trees: u64,
    /// Packs that the backend holds.
    pub packs: u64,
    /// Packs that were read whole.
    pub packs_read: u64,
    /// Blobs that no snapshot needs.
    pub unused_blobs: u64,
    /// Packs that are there and damaged, sorted: what `repair packs` is for.
    pub damaged_packs: Vec<Id>,
    /// What would repair it, in the order in which it should be done.
    pub repairs: Vec<Repair>,
    /// Memory that the index and what is noted about its entries took, in bytes.
    pub index_memory_bytes: usize,
}

impl CheckReport {
    /// Whether data is lost or at risk.
    #[must_use]
    pub fn is_serious(&self) -> bool {
        self.findings.iter().any(|finding| finding.serious)
    }
}

/// What is found, by several threads.
#[derive(Default)]
struct Findings {
    found: Mutex<Found>,
    /// What ends the check: when nothing can be read any more, that is no finding.
    ended: Mutex<Option<RepoError>>,
}

#[derive(Default)]
struct Found {
    all: Vec<Finding>,
    damaged_packs: BTreeSet<Id>,
    /// Whether a pack is sound that the index tells something else of.
    index_differs: bool,
}

impl Findings {
    /// What could not be read.
    fn unreadable(&self, kind: FindingKind, what: impl fmt::Display, error: RepoError) {
        if error.ends_all() {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.get_or_insert(error);
        } else {
            self.add(kind, what, chain(&error));
        }
    }

    fn is_ended(&self) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.is_some()
    }

    /// Ends the check by `?` if nothing can be read any more.
    fn check(&self) -> Result<(), RepoError> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.take().map_or(Ok(()), Err)
    }

    fn add(&self, kind: FindingKind, what: impl fmt::Display, why: impl fmt::Display) {
        let serious = kind != FindingKind::PackUnindexed;
        let finding = Finding {
            kind,
            what: what.to_string(),
            why: why.to_string(),
            serious,
        };
        self.found().all.push(finding);
    }

    fn pack_is_wrong(&self, pack: Id, wrong: &pack::Wrong) {
        for why in &wrong.what {
            self.add(FindingKind::PackDamaged, format_args!("pack {pack}"), why);
        }
        if !wrong.what.is_empty() {
            if wrong.blames_index {
                self.found().index_differs = true;
            } else {
                self.pack_is_damaged(pack);
            }
        }
    }

    fn pack_is_unreadable(&self, pack: Id, error: RepoError) {
        if error.is_damage() {
            self.pack_is_damaged(pack);
        }
        self.unreadable(FindingKind::PackDamaged, format_args!("pack {pack}"), error);
    }

    fn pack_is_damaged(&self, pack: Id) {
        self.found().damaged_packs.insert(pack);
    }

    fn found(&self) -> std::sync::MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Repository {
    /// Packs with their sizes, sorted by ID: what `--read-data-subset` chooses from.
    ///
    /// # Errors
    /// When the listing fails.
    pub fn packs(&self) -> Result<BTreeMap<Id, u64>, RepoError> {
        let mut packs = BTreeMap::new();
        self.backend().list(FileKind::Pack, &mut |id, size| {
            packs.insert(id, size);
        })?;
        Ok(packs)
    }

    /// Checks the repository. The total of bytes to read is put into the counters before reading starts.
    ///
    /// # Errors
    /// When a listing fails, so that it can't be said what is there; everything else is a finding.
    pub fn check(
        &self,
        options: &CheckOptions,
        counters: &Counters,
        cancel: &Cancel,
    ) -> Result<CheckReport, RepoError> {
        let findings = Findings::default();
        let threads = self.readers(options.threads);
        let mut report = CheckReport::default();
        self.check_keys(&findings)?;
        if let Err(error) = self
            .load_json(FileName::CONFIG)
            .and_then(|json| Ok(lifeboat_format::Config::from_json(&json)?))
        {
            findings.unreadable(FindingKind::Config, "config", error);
        }
        findings.check()?;
        // Snapshots before the index: what a snapshot names was indexed before it was written.
        let snapshots = self.snapshots()?;
        for (id, error) in &snapshots.damaged {
            findings.add(
                FindingKind::Snapshot,
                format_args!("snapshot {id}"),
                chain(error),
            );
        }
        let (index, loaded) = self.load_index(PackListing::Compare, cancel)?;
        for (id, error) in &loaded.damaged {
            findings.add(
                FindingKind::Index,
                format_args!("index file {id}"),
                chain(error),
            );
        }
        report.packs = loaded.listed_packs.len() as u64;
        let by_pack = ByPack::new(&index);
        check_packs(
            &loaded.listed_packs,
            &by_pack,
            &loaded.marked_packs,
            &findings,
        );
        let roots: Vec<TreeRoot> = snapshots
            .all
            .iter()
            .map(|(id, snapshot)| TreeRoot {
                snapshot: *id,
                tree: snapshot.tree,
            })
            .collect();
        report.snapshots = roots.len() as u64;
        let used = self.check_trees(&index, &roots, threads, &findings, cancel)?;
        check_marked(&loaded.listed_packs, &used.in_marked_packs, &findings);
        report.trees = used.trees;
        report.unused_blobs = used.unused;
        report.index_memory_bytes =
            index.memory_bytes() + by_pack.memory_bytes() + used.memory_bytes;
        if let Some(packs) = &options.read_packs {
            let largest = packs.iter().filter_map(|id| loaded.listed_packs.get(id));
            let largest = largest.max().copied().unwrap_or(0).max(1);
            let affordable = options.memory_bytes as u64 / largest;
            let affordable = usize::try_from(affordable).unwrap_or(threads);
            report.packs_read = self.read_packs(
                packs,
                &loaded.listed_packs,
                &by_pack,
                threads.min(affordable).max(1),
                counters,
                &findings,
                cancel,
            )?;
        }
        let found = findings
            .found
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        report.findings = found.all;
        report.findings.sort();
        report.findings.dedup();
        report.damaged_packs = found
            .damaged_packs
            .into_iter()
            .filter(|pack| loaded.listed_packs.contains_key(pack))
            .collect();
        report.repairs =
            advice::repairs(&report.findings, &report.damaged_packs, found.index_differs);
        Ok(report)
    }

    fn check_keys(&self, findings: &Findings) -> Result<(), RepoError> {
        for id in self.ids(FileKind::Key)? {
            let loaded = self
                .load_raw(FileName::new(FileKind::Key, id))
                .and_then(|json| Ok(lifeboat_format::KeyFile::from_json(&json)?));
            if let Err(error) = loaded {
                findings.unreadable(FindingKind::Key, format_args!("key {id}"), error);
            }
        }
        findings.check()
    }

    fn check_trees(
        &self,
        index: &Index,
        roots: &[TreeRoot],
        threads: usize,
        findings: &Findings,
        cancel: &Cancel,
    ) -> Result<Used, RepoError> {
        let reader = BlobReader::new(self, index);
        let used = BlobSet::new(index);
        let marked = Mutex::new(HashSet::new());
        let trees = walk_trees(&reader, roots, &used, threads, cancel, &|seen| {
            let needed = Needed {
                used: &used,
                index,
                marked: &marked,
            };
            check_tree(seen, needed, findings);
            findings.check()
        })?;
        findings.check()?;
        let mut unused = 0;
        for kind in [BlobKind::Data, BlobKind::Tree] {
            let entries = 0..index.len(kind) as u32;
            unused += entries
                .filter(|entry| !used.has_entry(kind, *entry))
                .count() as u64;
        }
        Ok(Used {
            trees,
            unused,
            memory_bytes: used.memory_bytes(),
            in_marked_packs: marked.into_inner().unwrap_or_else(PoisonError::into_inner),
        })
    }
}

struct Used {
    trees: u64,
    /// Places of blobs that no snapshot needs.
    unused: u64,
    memory_bytes: usize,
    /// Blobs that only packs hold that are marked for deletion, with these packs.
    in_marked_packs: HashSet<(Id, BlobKind, Id)>,
}

/// What snapshots need, as it is found.
#[derive(Clone, Copy)]
struct Needed<'a> {
    used: &'a BlobSet<'a>,
    index: &'a Index,
    marked: &'a Mutex<HashSet<(Id, BlobKind, Id)>>,
}

impl Needed<'_> {
    fn note(&self, kind: BlobKind, id: Id) {
        if self.used.insert(kind, &id).is_none()
            && let Some(place) = self.index.find_marked(kind, &id)
        {
            self.marked
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert((place.pack, kind, id));
        }
    }
}

/// Says which packs are to be deleted although snapshots need them: a program that takes no locks relied on them while
/// a prune marked them.
fn check_marked(
    listed: &HashMap<Id, u64>,
    needed: &HashSet<(Id, BlobKind, Id)>,
    findings: &Findings,
) {
    let mut packs: BTreeMap<Id, usize> = BTreeMap::new();
    for (pack, ..) in needed {
        *packs.entry(*pack).or_default() += 1;
    }
    for (pack, blobs) in packs {
        if listed.contains_key(&pack) {
            let why = format_args!(
                "it is marked for deletion, but snapshots need {blobs} of its blobs; prune indexes it again, and until then other programs can't read them"
            )
            .to_string();
            findings.add(FindingKind::PackMarked, format_args!("pack {pack}"), why);
        } else {
            let why =
                format!("it is not there; {blobs} blobs that snapshots need are lost with it");
            findings.add(FindingKind::PackMissing, format_args!("pack {pack}"), why);
        }
    }
}

/// Compares the packs that the index names with those that are there, by presence and size.
fn check_packs(
    listed: &HashMap<Id, u64>,
    by_pack: &ByPack<'_>,
    marked: &[Id],
    findings: &Findings,
) {
    for id in by_pack.packs() {
        let size = listed.get(id);
        if size.is_some_and(|size| by_pack.is_plainly(id, *size)) {
            continue;
        }
        let blobs = by_pack.blobs(id);
        let expected = pack_bytes(&blobs);
        match size {
            None => findings.add(
                FindingKind::PackMissing,
                format_args!("pack {id}"),
                format_args!("it is not there; {} blobs are lost with it", blobs.len()),
            ),
            Some(size) if *size != expected => {
                findings.add(
                    FindingKind::PackMissing,
                    format_args!("pack {id}"),
                    format_args!("it has {size} bytes, the index expects {expected}"),
                );
                findings.pack_is_damaged(*id);
            }
            Some(_) => {}
        }
    }
    let marked: HashSet<&Id> = marked.iter().collect();
    for id in listed
        .keys()
        .filter(|id| !by_pack.contains(id) && !marked.contains(id))
    {
        findings.add(FindingKind::PackUnindexed, format_args!("pack {id}"), "it is in no index file; an interrupted backup leaves such packs and prune removes them");
    }
}

/// Checks one tree, and notes which blobs it uses.
fn check_tree(seen: TreeSeen<'_>, needed: Needed<'_>, findings: &Findings) {
    let id = seen.id;
    let context = format!("snapshot {}", seen.snapshot.short());
    needed.note(BlobKind::Tree, id);
    let tree: &Tree = match seen.tree {
        Ok(tree) => tree,
        Err(error) => {
            if let RepoError::BlobDamaged { pack, .. } = &error {
                findings.pack_is_damaged(*pack);
            }
            findings.unreadable(
                FindingKind::Tree,
                format_args!("tree {id} ({context})"),
                error,
            );
            return;
        }
    };
    let wrong = |name: &[u8], why: &dyn fmt::Display| {
        findings.add(
            FindingKind::Tree,
            format_args!("tree {id} ({context}), {:?}", String::from_utf8_lossy(name)),
            why,
        )
    };
    if let Err(error) = tree.check_order() {
        wrong(b"", &error);
    }
    for node in &tree.nodes {
        match (&node.kind, &node.content, &node.subtree) {
            (NodeKind::File, Some(content), _) => {
                let mut size = Some(0);
                for blob in content {
                    needed.note(BlobKind::Data, *blob);
                    let bytes = needed.index.plain_bytes(BlobKind::Data, blob);
                    if bytes.is_none() {
                        findings.add(
                            FindingKind::BlobMissing,
                            format_args!("data blob {blob}"),
                            format_args!(
                                "it is in no index file, but {context} needs it for {:?}",
                                String::from_utf8_lossy(&node.name)
                            ),
                        );
                    }
                    size = size.zip(bytes).map(|(size, bytes)| size + bytes);
                }
                if let Some(size) = size
                    && size != node.size_bytes
                {
                    let why = format!(
                        "its size is {} bytes, its blobs have {size}",
                        node.size_bytes
                    );
                    wrong(&node.name, &why);
                }
            }
            (NodeKind::File, None, _) => wrong(&node.name, &"it is a file without a list of blobs"),
            (NodeKind::Dir, _, None) => wrong(&node.name, &"it is a directory without a tree"),
            _ => {}
        }
        if node.name.is_empty()
            || node.name.contains(&b'/')
            || node.name == b"."
            || node.name == b".."
        {
            wrong(&node.name, &"such a name is not possible");
        }
    }
}

//! Checks a repository: is everything there that its snapshots need, and is it what it says?
//! It must never change anything, and never stop at the first finding.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::{BlobKind, BlobRef, FormatError, Id, NodeKind, Tree, decode_header};

use crate::backend::{FileKind, FileName};
use crate::{BlobReader, Index, Opener, PackListing, RepoError, Repository, chain, open_blob};

/// Requests at once at most, whatever a backend is worth.
const REQUESTS_MAX: usize = 32;
/// Memory for packs that are read at once, in bytes, where a backend is worth more readers than there are threads.
const PACKS_READ_MAX_BYTES: u64 = 256 * 1024 * 1024;

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
#[derive(Clone, Debug, Default)]
pub struct CheckOptions {
    /// Packs to read whole; `None` reads none.
    pub read_packs: Option<Vec<Id>>,
    /// Threads at least; a backend that is worth more requests at once gets more.
    pub threads: usize,
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
}

impl CheckReport {
    /// Whether data is lost or at risk.
    #[must_use]
    pub fn is_serious(&self) -> bool {
        self.findings.iter().any(|finding| finding.serious)
    }
}

#[derive(Default)]
struct Findings {
    all: Mutex<Vec<Finding>>,
    /// What ends the check: when nothing can be read any more, that is no finding.
    ended: Mutex<Option<RepoError>>,
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
        self.all
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(finding);
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
        let requests = self.backend().connections().min(REQUESTS_MAX);
        let threads = options.threads.max(1).max(requests);
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
        let by_pack = blobs_by_pack(&index);
        check_packs(
            &loaded.listed_packs,
            &by_pack,
            &loaded.marked_packs,
            &findings,
        );
        let roots: Vec<(Id, Id)> = snapshots
            .all
            .iter()
            .map(|(id, snapshot)| (snapshot.tree, *id))
            .collect();
        report.snapshots = roots.len() as u64;
        let used = self.check_trees(&index, &roots, threads, &findings, cancel)?;
        check_marked(&loaded.listed_packs, &used.in_marked_packs, &findings);
        report.trees = used.trees;
        report.unused_blobs = ((index.len(BlobKind::Data) + index.len(BlobKind::Tree)) as u64)
            .saturating_sub(used.blobs);
        if let Some(packs) = &options.read_packs {
            let largest = packs.iter().filter_map(|id| loaded.listed_packs.get(id));
            let largest = largest.max().copied().unwrap_or(0).max(1);
            let affordable = usize::try_from(PACKS_READ_MAX_BYTES / largest).unwrap_or(threads);
            report.packs_read = self.read_packs(
                packs,
                &loaded.listed_packs,
                &by_pack,
                threads.min(affordable.max(options.threads)).max(1),
                counters,
                &findings,
                cancel,
            )?;
        }
        report.findings = findings
            .all
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        report.findings.sort();
        report.findings.dedup();
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
        roots: &[(Id, Id)],
        threads: usize,
        findings: &Findings,
        cancel: &Cancel,
    ) -> Result<Used, RepoError> {
        struct Work {
            todo: Vec<(Id, String)>,
            seen: HashSet<Id>,
            busy: usize,
        }
        let mut seen = HashSet::new();
        let todo = roots
            .iter()
            .filter(|(tree, _)| seen.insert(*tree))
            .map(|(tree, snapshot)| (*tree, format!("snapshot {}", snapshot.short())))
            .collect();
        let work = (
            Mutex::new(Work {
                todo,
                seen,
                busy: 0,
            }),
            std::sync::Condvar::new(),
        );
        let data = Mutex::new(HashSet::new());
        let marked = Mutex::new(HashSet::new());
        let reader = BlobReader::new(self, index);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let (state, changed) = &work;
                    loop {
                        let mut guard = state.lock().unwrap_or_else(PoisonError::into_inner);
                        let (id, context) = loop {
                            if cancel.is_cancelled() || findings.is_ended() {
                                changed.notify_all();
                                return;
                            }
                            if let Some(next) = guard.todo.pop() {
                                break next;
                            }
                            if guard.busy == 0 {
                                changed.notify_all();
                                return;
                            }
                            guard = changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
                        };
                        guard.busy += 1;
                        drop(guard);
                        let children = {
                            let needed = Needed {
                                data: &data,
                                marked: &marked,
                            };
                            check_tree(&reader, id, &context, needed, findings)
                        };
                        let mut guard = state.lock().unwrap_or_else(PoisonError::into_inner);
                        guard.busy -= 1;
                        for (child, context) in children {
                            if guard.seen.insert(child) {
                                guard.todo.push((child, context));
                            }
                        }
                        changed.notify_all();
                    }
                });
            }
        });
        cancel.check()?;
        findings.check()?;
        let trees = work
            .0
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .seen
            .len() as u64;
        let data = data
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .len() as u64;
        Ok(Used {
            trees,
            blobs: trees + data,
            in_marked_packs: marked.into_inner().unwrap_or_else(PoisonError::into_inner),
        })
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one check, each used once"
    )]
    fn read_packs(
        &self,
        wanted: &[Id],
        listed: &HashMap<Id, u64>,
        by_pack: &HashMap<Id, Vec<(BlobKind, Id, BlobRef)>>,
        threads: usize,
        counters: &Counters,
        findings: &Findings,
        cancel: &Cancel,
    ) -> Result<u64, RepoError> {
        let total: u64 = wanted.iter().filter_map(|id| listed.get(id)).sum();
        counters.bytes_total.store(total, Ordering::Relaxed);
        counters
            .files_total
            .store(wanted.len() as u64, Ordering::Relaxed);
        let next = AtomicUsize::new(0);
        let read = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..threads.min(wanted.len()) {
                scope.spawn(|| {
                    let mut buffers = (Opener::default(), Vec::new(), Vec::new());
                    while let Some(id) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let Some(size) = listed.get(id) else { continue };
                        if cancel.is_cancelled() || findings.is_ended() {
                            return;
                        }
                        let expected = by_pack.get(id).map(Vec::as_slice).unwrap_or_default();
                        let what = format_args!("pack {id}");
                        match self.check_pack(*id, *size, expected, &mut buffers) {
                            Ok(wrong) => {
                                for why in wrong {
                                    findings.add(FindingKind::PackDamaged, what, why);
                                }
                            }
                            Err(error) => {
                                findings.unreadable(FindingKind::PackDamaged, what, error);
                            }
                        }
                        read.fetch_add(1, Ordering::Relaxed);
                        counters.files_done.fetch_add(1, Ordering::Relaxed);
                        counters.bytes_done.fetch_add(*size, Ordering::Relaxed);
                    }
                });
            }
        });
        cancel.check()?;
        findings.check()?;
        Ok(read.into_inner())
    }

    /// Everything that is wrong with one pack, or why it can't be read at all.
    fn check_pack(
        &self,
        id: Id,
        size: u64,
        indexed: &[(BlobKind, Id, BlobRef)],
        (opener, pack, plain): &mut (Opener, Vec<u8>, Vec<u8>),
    ) -> Result<Vec<String>, RepoError> {
        let Ok(len) = usize::try_from(size) else {
            let why = format!("it has {size} bytes, more than a pack can have");
            return Ok(vec![why]);
        };
        // Not cleared before: every byte is read over, or an error.
        pack.resize(len, 0);
        self.backend()
            .load_at(FileName::new(FileKind::Pack, id), 0, pack)?;
        let mut wrong = Vec::new();
        let got = Id::of(pack);
        if got != id {
            wrong.push(format!("its content has the hash {got}"));
        }
        let entries = match split_header(self, id, pack) {
            Ok(entries) => entries,
            Err(error) => {
                wrong.push(format!("its header can't be read: {}", chain(&error)));
                Vec::new()
            }
        };
        if !entries.is_empty() {
            let header: HashSet<_> = entries.iter().collect();
            for (kind, blob, _) in indexed.iter().filter(|entry| !header.contains(entry)) {
                wrong.push(format!(
                    "the index says that {} blob {blob} is in it, its header does not",
                    kind.word()
                ));
            }
        }
        // The index rules where the header is gone: what it names may still be good.
        let blobs = if entries.is_empty() {
            indexed
        } else {
            &entries
        };
        for (kind, blob, place) in blobs {
            let (from, to) = (
                place.offset_bytes as usize,
                place.offset_bytes as usize + place.length_bytes as usize,
            );
            let opened = match pack.get_mut(from..to) {
                Some(sealed) => open_blob(self, *blob, *place, sealed, opener, plain),
                None => Err(FormatError::TooShort {
                    what: "pack",
                    got_bytes: size,
                    needed_bytes: to as u64,
                }),
            };
            if let Err(error) = opened {
                wrong.push(format!("{} blob {blob}: {}", kind.word(), chain(&error)));
            }
        }
        Ok(wrong)
    }

    /// The entries of a pack's own header, read without the index.
    ///
    /// # Errors
    /// When the pack is not there or its header is damaged.
    pub fn pack_header(
        &self,
        id: Id,
        size: u64,
    ) -> Result<Vec<(BlobKind, Id, BlobRef)>, RepoError> {
        let name = FileName::new(FileKind::Pack, id);
        let damaged = |cause| self.damaged(name, cause);
        let mut length = [0u8; 4];
        let short = || {
            damaged(FormatError::TooShort {
                what: "pack",
                got_bytes: size,
                needed_bytes: 4,
            })
        };
        self.backend()
            .load_at(name, size.checked_sub(4).ok_or_else(short)?, &mut length)?;
        let length = u64::from(u32::from_le_bytes(length));
        if length > u64::from(lifeboat_format::HEADER_MAX_BYTES) {
            return Err(damaged(FormatError::Limit {
                what: "length of a pack header",
                got: length,
                limit: u64::from(lifeboat_format::HEADER_MAX_BYTES),
            }));
        }
        let mut tail = vec![0; usize::try_from(length + 4).unwrap_or(0)];
        self.backend().load_at(
            name,
            size.checked_sub(length + 4).ok_or_else(short)?,
            &mut tail,
        )?;
        let sealed = tail
            .get_mut(..usize::try_from(length).unwrap_or(0))
            .unwrap_or_default();
        let plain = self.master().open(sealed).map_err(damaged)?;
        decode_header(plain, id, size - length - 4).map_err(damaged)
    }
}

struct Used {
    trees: u64,
    blobs: u64,
    in_marked_packs: HashSet<(Id, BlobKind, Id)>,
}

/// What snapshots need, as it is found.
#[derive(Clone, Copy)]
struct Needed<'a> {
    data: &'a Mutex<HashSet<Id>>,
    /// Blobs that only packs hold that are marked for deletion, with these packs.
    marked: &'a Mutex<HashSet<(Id, BlobKind, Id)>>,
}

impl Needed<'_> {
    fn note_marked(&self, index: &Index, kind: BlobKind, id: Id) {
        if let Some(place) = index.find_marked(kind, &id) {
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

fn blobs_by_pack(index: &Index) -> HashMap<Id, Vec<(BlobKind, Id, BlobRef)>> {
    let mut by_pack: HashMap<Id, Vec<_>> = HashMap::new();
    index.each(|kind, id, place| {
        by_pack
            .entry(place.pack)
            .or_default()
            .push((kind, id, place))
    });
    for blobs in by_pack.values_mut() {
        blobs.sort_by_key(|(kind, id, place)| {
            (
                place.offset_bytes,
                *kind,
                *id,
                place.length_bytes,
                place.raw_length_bytes,
            )
        });
        blobs.dedup();
    }
    by_pack
}

/// Compares the packs that the index names with those that are there, by presence and size.
fn check_packs(
    listed: &HashMap<Id, u64>,
    by_pack: &HashMap<Id, Vec<(BlobKind, Id, BlobRef)>>,
    marked: &[Id],
    findings: &Findings,
) {
    for (id, blobs) in by_pack {
        let entries: Vec<_> = blobs
            .iter()
            .map(|(kind, id, place)| lifeboat_format::PackEntry {
                kind: *kind,
                id: *id,
                length_bytes: place.length_bytes,
                raw_length_bytes: place.raw_length_bytes,
            })
            .collect();
        let expected = blobs
            .iter()
            .map(|(_, _, place)| u64::from(place.length_bytes))
            .sum::<u64>()
            + lifeboat_format::header_bytes(&entries);
        match listed.get(id) {
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
            }
            Some(_) => {}
        }
    }
    let marked: HashSet<&Id> = marked.iter().collect();
    for id in listed
        .keys()
        .filter(|id| !by_pack.contains_key(id) && !marked.contains(id))
    {
        findings.add(FindingKind::PackUnindexed, format_args!("pack {id}"), "it is in no index file; an interrupted backup leaves such packs and prune removes them");
    }
}

pub(crate) fn split_header(
    repository: &Repository,
    id: Id,
    pack: &[u8],
) -> Result<Vec<(BlobKind, Id, BlobRef)>, FormatError> {
    let short = FormatError::TooShort {
        what: "pack",
        got_bytes: pack.len() as u64,
        needed_bytes: 4,
    };
    let Some((rest, length)) = pack.split_last_chunk::<4>() else {
        return Err(short);
    };
    let length = u32::from_le_bytes(*length);
    if length > lifeboat_format::HEADER_MAX_BYTES {
        return Err(FormatError::Limit {
            what: "length of a pack header",
            got: length.into(),
            limit: lifeboat_format::HEADER_MAX_BYTES.into(),
        });
    }
    let Some(at) = rest.len().checked_sub(length as usize) else {
        return Err(short);
    };
    let mut sealed = rest.get(at..).unwrap_or_default().to_vec();
    decode_header(repository.master().open(&mut sealed)?, id, at as u64)
}

/// Checks one tree and gives the trees below it.
fn check_tree(
    reader: &BlobReader<'_>,
    id: Id,
    context: &str,
    needed: Needed<'_>,
    findings: &Findings,
) -> Vec<(Id, String)> {
    needed.note_marked(reader.index(), BlobKind::Tree, id);
    let tree: Tree = match reader.tree(id) {
        Ok(tree) => tree,
        Err(error) => {
            findings.unreadable(
                FindingKind::Tree,
                format_args!("tree {id} ({context})"),
                error,
            );
            return Vec::new();
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
    let mut children = Vec::new();
    for node in &tree.nodes {
        match (&node.kind, &node.content, &node.subtree) {
            (NodeKind::File, Some(content), _) => {
                let mut size = 0;
                for blob in content {
                    needed.note_marked(reader.index(), BlobKind::Data, *blob);
                    match reader.index().plain_bytes(BlobKind::Data, blob) {
                        Some(bytes) => size += bytes,
                        None => findings.add(
                            FindingKind::BlobMissing,
                            format_args!("data blob {blob}"),
                            format_args!(
                                "it is in no index file, but {context} needs it for {:?}",
                                String::from_utf8_lossy(&node.name)
                            ),
                        ),
                    }
                }
                if size != node.size_bytes
                    && content
                        .iter()
                        .all(|blob| reader.index().find(BlobKind::Data, blob).is_some())
                {
                    wrong(
                        &node.name,
                        &format_args!(
                            "its size is {} bytes, its blobs have {size}",
                            node.size_bytes
                        ),
                    );
                }
                needed
                    .data
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend(content.iter().copied());
            }
            (NodeKind::File, None, _) => wrong(&node.name, &"it is a file without a list of blobs"),
            (NodeKind::Dir, _, Some(subtree)) => children.push((*subtree, context.to_owned())),
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
    children
}

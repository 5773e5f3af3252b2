//! `lifeboat repo stats`: how large snapshots are, by one of four ways of counting.
//! It must never give a sum that leaves out what could not be read.

use std::collections::HashSet;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use clap::{Args, ValueEnum};
use lifeboat_flow::{Cancelled, Counters};
use lifeboat_format::{BlobKind, Id, Node, NodeKind, OVERHEAD_BYTES, Snapshot};
use lifeboat_repo::{BlobReader, BlobSet, Index, PackListing, RepoError, TreeRoot, walk_trees};
use serde_json::{Map, Value};

use super::out::Out;
use super::select::{self, FilterArgs};
use super::session::{Locking, Session};
use super::tree_walk::TreeWalk;
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::progress::{self, Shown, workers};
use crate::ui::Ui;

/// Show how large snapshots are
///
/// Example: lifeboat repo stats --mode raw-data --host web
#[derive(Args)]
pub struct Stats {
    /// Only these snapshots: IDs or `latest`; otherwise all
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    /// What is counted
    #[arg(long, value_enum, default_value = "restore-size", value_name = "MODE")]
    mode: Mode,
    #[command(flatten)]
    filter: FilterArgs,
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// What a restore of each snapshot writes
    RestoreSize,
    /// Files, those of the same content once
    FilesByContents,
    /// Blobs, once in each file
    BlobsPerFile,
    /// What lies in the repository for these snapshots: each blob once, compressed and encrypted
    RawData,
}

impl Stats {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let mut out = Out::stdout(ui);
        let outcome = self.show(global, ui, &mut out);
        out.end(outcome)
    }

    fn show(&self, global: &Global, ui: &Ui, out: &mut Out<'_>) -> Outcome {
        let session = Session::open(global, ui, Locking::Read)?;
        let snapshots = select::many(&session, ui, &self.snapshots, &self.filter.filter())?;
        let (index, _) = session.index(ui, PackListing::Skip)?;
        let counters = Counters::default();
        let work = || self.count(&session, &index, &snapshots, &counters);
        let shown = Shown {
            noun: "entries",
            stored: false,
            totals_known: false,
        };
        // Programs want one object and no more.
        let sums = if ui.json {
            work()?
        } else {
            progress::during(ui, &counters, shown, work)?
        };
        if ui.json {
            out.line(sums.to_json().to_string())?;
        } else {
            self.report(&sums, out)?;
        }
        Ok(Exit::Done)
    }

    fn count(
        &self,
        session: &Session,
        index: &Index,
        snapshots: &[(Id, Snapshot)],
        counters: &Counters,
    ) -> Result<Sums, Failure> {
        let reader = BlobReader::new(&session.repository, index);
        let mut sums = Sums::default();
        if self.mode == Mode::RawData {
            sums.snapshots = snapshots.len() as u64;
            let used = use_blobs(session, &reader, snapshots, counters)?;
            sums.add_blobs(index, &used, session.repository.compresses());
            return Ok(sums);
        }
        let mut files = FileCount::new(index);
        for (id, snapshot) in snapshots {
            let doing = || format!("count snapshot {}", id.short());
            sums.snapshots += 1;
            files.links.clear();
            let mut walk = TreeWalk::new(&reader, snapshot.tree, &session.cancel);
            while let Some(seen) = walk
                .step()
                .map_err(|failure| failure.while_doing(doing()))?
            {
                counters.files_done.fetch_add(1, Ordering::Relaxed);
                counters
                    .bytes_done
                    .fetch_add(seen.node.size_bytes, Ordering::Relaxed);
                match self.mode {
                    Mode::RestoreSize => files.restored(&mut sums, seen.node),
                    Mode::FilesByContents => files.by_contents(&mut sums, seen.node),
                    Mode::BlobsPerFile => files
                        .blobs(&mut sums, index, seen.path, seen.node)
                        .map_err(|failure| failure.while_doing(doing()))?,
                    Mode::RawData => {}
                }
            }
        }
        Ok(sums)
    }

    fn report(&self, sums: &Sums, out: &mut Out<'_>) -> Result<(), Failure> {
        let mode = self
            .mode
            .to_possible_value()
            .map(|mode| mode.get_name().to_owned())
            .unwrap_or_default();
        out.line(format!(
            "{mode} of {}:",
            format::count(sums.snapshots, "snapshot")
        ))?;
        let mut row = |name: &str, value: String| out.line(format!("{name:>24}  {value}"));
        if sums.blobs > 0 {
            row("Blobs", sums.blobs.to_string())?;
        }
        if sums.files > 0 {
            row("Entries", sums.files.to_string())?;
        }
        if sums.uncompressed > 0 {
            row("Size if not compressed", format::bytes(sums.uncompressed))?;
        }
        row("Size", format::bytes(sums.bytes))?;
        let [progress, ratio, saving] = sums.rates();
        if progress > 0.0 {
            row("Compressed share", format!("{progress:.2} %"))?;
        }
        if ratio > 0.0 {
            row("Compression ratio", format!("{ratio:.2}x"))?;
        }
        if saving > 0.0 {
            row("Saved by compression", format!("{saving:.2} %"))?;
        }
        Ok(())
    }
}

/// What was counted.
#[derive(Default)]
struct Sums {
    snapshots: u64,
    bytes: u64,
    files: u64,
    blobs: u64,
    uncompressed: u64,
    /// Of compressed blobs alone: as they lie there, and as they would be.
    squeezed: u64,
    unsqueezed: u64,
}

impl Sums {
    fn add_blobs(&mut self, index: &Index, used: &BlobSet<'_>, is_compressible: bool) {
        used.each(|kind, id, _| {
            // The place that a restore would read from.
            let Some(place) = index.find(kind, &id) else {
                return;
            };
            let length = u64::from(place.length_bytes);
            let sealed = place.plain_bytes() + OVERHEAD_BYTES as u64;
            self.blobs += 1;
            self.bytes += length;
            if is_compressible {
                self.uncompressed += sealed;
            }
            if is_compressible && place.raw_length_bytes != 0 {
                self.squeezed += length;
                self.unsqueezed += sealed;
            }
        });
    }

    /// How much is compressed in percent, how much smaller that is, and how much is saved in percent.
    fn rates(&self) -> [f64; 3] {
        let part = |of: u64, all: u64| {
            if all == 0 {
                0.0
            } else {
                of as f64 / all as f64
            }
        };
        let saving = if self.uncompressed == 0 {
            0.0
        } else {
            (1.0 - part(self.bytes, self.uncompressed)) * 100.0
        };
        [
            part(self.unsqueezed, self.uncompressed) * 100.0,
            part(self.unsqueezed, self.squeezed),
            saving,
        ]
    }

    fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("total_size".into(), self.bytes.into());
        for (key, value) in [
            ("total_uncompressed_size", self.uncompressed),
            ("total_file_count", self.files),
            ("total_blob_count", self.blobs),
        ] {
            if value != 0 {
                object.insert(key.into(), value.into());
            }
        }
        let [progress, ratio, saving] = self.rates();
        for (key, value) in [
            ("compression_progress", progress),
            ("compression_ratio", ratio),
            ("compression_space_saving", saving),
        ] {
            if value != 0.0 {
                object.insert(key.into(), value.into());
            }
        }
        object.insert("snapshots_count".into(), self.snapshots.into());
        Value::Object(object)
    }
}

/// What must be remembered so that nothing is counted twice: bits where it can be, because there may be millions.
struct FileCount<'i> {
    /// Inodes of the present snapshot that have several names.
    links: HashSet<(u64, u64)>,
    /// Whether a file without content was met.
    has_empty: bool,
    /// Contents of a single blob.
    single: BlobSet<'i>,
    /// Contents of several blobs, by the hash of their IDs: only large files have such.
    several: HashSet<Id>,
    /// Paths, by their hash.
    paths: HashSet<Short>,
    /// Blobs of each path, by the hash of both.
    references: HashSet<Short>,
}

/// The half of a hash: in a billion of them two are alike with a chance of one in 10^20.
type Short = [u8; 16];

fn short(parts: &[&[u8]]) -> Short {
    let mut half = Short::default();
    half.copy_from_slice(&Id::of(&parts.concat()).0[..16]);
    half
}

impl<'i> FileCount<'i> {
    fn new(index: &'i Index) -> Self {
        Self {
            links: HashSet::new(),
            has_empty: false,
            single: BlobSet::new(index),
            several: HashSet::new(),
            paths: HashSet::new(),
            references: HashSet::new(),
        }
    }

    fn restored(&mut self, sums: &mut Sums, node: &Node) {
        sums.files += 1;
        let is_alone = node.links == 1 || node.kind == NodeKind::Dir || node.inode == 0;
        if is_alone || self.links.insert((node.inode, node.device_id)) {
            sums.bytes += node.size_bytes;
        }
    }

    fn is_new_content(&mut self, node: &Node) -> bool {
        let content = node.content.as_deref().unwrap_or_default();
        if content.is_empty() {
            return !std::mem::replace(&mut self.has_empty, true);
        }
        if let [blob] = content
            && let Some(is_new) = self.single.insert(BlobKind::Data, blob)
        {
            return is_new;
        }
        let ids: Vec<u8> = content.iter().flat_map(|id| id.0).collect();
        self.several.insert(Id::of(&ids))
    }

    /// As restic counts: everything without content is one file.
    fn by_contents(&mut self, sums: &mut Sums, node: &Node) {
        if self.is_new_content(node) {
            sums.files += 1;
            sums.bytes += node.size_bytes;
        }
    }

    fn blobs(
        &mut self,
        sums: &mut Sums,
        index: &Index,
        path: &[u8],
        node: &Node,
    ) -> Result<(), Failure> {
        if !self.is_new_content(node) {
            return Ok(());
        }
        let short_path = short(&[path]);
        for blob in node.content.iter().flatten() {
            sums.files += u64::from(self.paths.insert(short_path));
            if self.references.insert(short(&[&short_path, &blob.0])) {
                let kind = BlobKind::Data;
                sums.bytes += index
                    .plain_bytes(kind, blob)
                    .ok_or(RepoError::BlobUnknown { kind, id: *blob })?;
                sums.blobs += 1;
            }
        }
        Ok(())
    }
}

/// All blobs that snapshots use.
fn use_blobs<'i>(
    session: &Session,
    reader: &BlobReader<'i>,
    snapshots: &[(Id, Snapshot)],
    counters: &Counters,
) -> Result<BlobSet<'i>, Failure> {
    let used = BlobSet::new(reader.index());
    let roots: Vec<TreeRoot> = snapshots
        .iter()
        .map(|(id, snapshot)| TreeRoot {
            snapshot: *id,
            tree: snapshot.tree,
        })
        .collect();
    let failed = OnceLock::new();
    let walked = walk_trees(reader, &roots, &used, workers(), &session.cancel, &|seen| {
        let snapshot = seen.snapshot.short();
        // No sum leaves anything out, so the rest need not be walked.
        let fail = |error: RepoError| {
            let doing = format!("count snapshot {snapshot}");
            let _ = failed.set(Failure::from(error).while_doing(doing));
            Err(RepoError::Cancelled(Cancelled))
        };
        match seen.tree {
            Err(error) if error.ends_all() => return Err(error),
            Err(error) => return fail(error),
            Ok(tree) => {
                let count = tree.nodes.len() as u64;
                counters.files_done.fetch_add(count, Ordering::Relaxed);
                let files = tree.nodes.iter().filter(|n| n.kind == NodeKind::File);
                for id in files.flat_map(|node| node.content.iter().flatten()) {
                    if used.insert(BlobKind::Data, id).is_none() {
                        let (kind, id) = (BlobKind::Data, *id);
                        return fail(RepoError::BlobUnknown { kind, id });
                    }
                }
            }
        }
        Ok(())
    });
    match failed.into_inner() {
        Some(failure) => Err(failure),
        None => {
            walked?;
            Ok(used)
        }
    }
}

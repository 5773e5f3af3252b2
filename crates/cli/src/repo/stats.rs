//! `lifeboat repo stats`: how large snapshots are, by one of four ways of counting.
//! It must never give a sum that leaves out what could not be read.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use clap::{Args, ValueEnum};
use lifeboat_flow::Counters;
use lifeboat_format::{BlobKind, Id, Node, NodeKind, OVERHEAD_BYTES, Snapshot};
use lifeboat_repo::{BlobReader, Index, PackListing, RepoError};
use serde_json::{Map, Value};

use super::out::Out;
use super::select::{self, FilterArgs};
use super::session::{Locking, Session};
use super::tree_walk::{TreeWalk, read_tree};
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::progress::{self, Shown};
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
        let mut files = FileCount::default();
        let mut used = HashSet::new();
        for (id, snapshot) in snapshots {
            let doing = || format!("count snapshot {}", id.short());
            sums.snapshots += 1;
            if self.mode == Mode::RawData {
                use_blobs(session, &reader, snapshot.tree, &mut used, counters)
                    .map_err(|failure| failure.while_doing(doing()))?;
                continue;
            }
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
        let is_compressible = session.repository.compresses();
        for (kind, id) in &used {
            session.cancel.check()?;
            sums.add_blob(index, *kind, *id, is_compressible)?;
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
    fn add_blob(
        &mut self,
        index: &Index,
        kind: BlobKind,
        id: Id,
        is_compressible: bool,
    ) -> Result<(), Failure> {
        let place = index
            .find(kind, &id)
            .ok_or(RepoError::BlobUnknown { kind, id })?;
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
        Ok(())
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

/// What must be remembered so that nothing is counted twice.
#[derive(Default)]
struct FileCount {
    /// Inodes of the present snapshot that have several names.
    links: HashSet<(u64, u64)>,
    /// Contents, by the hash of their blobs' IDs.
    contents: HashSet<Id>,
    /// Paths, by their hash.
    paths: HashSet<Id>,
    /// Blobs of each path.
    references: HashSet<(Id, Id)>,
}

impl FileCount {
    fn restored(&mut self, sums: &mut Sums, node: &Node) {
        sums.files += 1;
        let is_alone = node.links == 1 || node.kind == NodeKind::Dir || node.inode == 0;
        if is_alone || self.links.insert((node.inode, node.device_id)) {
            sums.bytes += node.size_bytes;
        }
    }

    fn is_new_content(&mut self, node: &Node) -> bool {
        let ids: Vec<u8> = node.content.iter().flatten().flat_map(|id| id.0).collect();
        self.contents.insert(Id::of(&ids))
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
        let path = Id::of(path);
        for blob in node.content.iter().flatten() {
            sums.files += u64::from(self.paths.insert(path));
            if self.references.insert((path, *blob)) {
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

/// Adds all blobs that a tree uses. A tree that was met before is not read again.
fn use_blobs(
    session: &Session,
    reader: &BlobReader<'_>,
    root: Id,
    used: &mut HashSet<(BlobKind, Id)>,
    counters: &Counters,
) -> Result<(), Failure> {
    let mut todo = vec![root];
    while let Some(tree) = todo.pop() {
        session.cancel.check()?;
        if !used.insert((BlobKind::Tree, tree)) {
            continue;
        }
        for node in read_tree(reader, tree)? {
            counters.files_done.fetch_add(1, Ordering::Relaxed);
            if node.kind == NodeKind::File {
                used.extend(
                    node.content
                        .into_iter()
                        .flatten()
                        .map(|id| (BlobKind::Data, id)),
                );
            } else if let (NodeKind::Dir, Some(tree)) = (&node.kind, node.subtree) {
                todo.push(tree);
            }
        }
    }
    Ok(())
}

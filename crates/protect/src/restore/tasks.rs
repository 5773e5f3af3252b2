//! Groups the blobs of files by the packs that hold them, so that each pack is read once and in order.
//! It must never hold more than a batch: memory does not grow with the snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use crossbeam_channel::Sender;
use lifeboat_flow::Problem;
use lifeboat_format::{BlobKind, BlobRef, Id};

use super::Run;
use super::file::FileTask;
use crate::backup::ProtectError;

/// Blobs in a batch at most.
const BATCH_MAX_BLOBS: usize = 32 * 1024;
/// Blobs of one file in one task, so that several workers share a large file; 32 MiB or so.
const DELTA_TASK_BLOBS: usize = 24;
/// Files that are there already and are handed over at once, at most: most are small, and waking a worker costs more.
const GROUP_MAX_TASKS: usize = 32;
/// Content of these files at most, in bytes.
const GROUP_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Largest part of a pack that is fetched at once, in bytes.
const RANGE_MAX_BYTES: u32 = 8 * 1024 * 1024;
/// A gap between two blobs that is fetched rather than skipped, in bytes.
const GAP_MAX_BYTES: u32 = 64 * 1024;

/// Where a blob goes.
pub(super) struct Place {
    pub(super) file: Arc<FileTask>,
    pub(super) offset: u64,
}

/// A blob to be fetched with all the places it goes to.
pub(super) struct Wanted {
    pub(super) id: Id,
    pub(super) at: BlobRef,
    pub(super) places: Vec<Place>,
    /// When it was first asked for, among those of its batch.
    pub(super) order: usize,
}

/// A part of the work of a restore.
pub(super) enum Task {
    /// A file without content, or one that is taken for the same.
    Whole(Arc<FileTask>),
    /// Blobs that lie close together in one pack, in order.
    Range(Vec<Wanted>),
    /// Blobs of a file that is there already: numbers of the first and the one after the last, and the offset of the first.
    Delta(Arc<FileTask>, usize, usize, u64),
}

/// Files that wait to be grouped.
pub(super) struct Batch<'r, 'a> {
    run: &'r Run<'a>,
    wanted: HashMap<Id, Wanted>,
    blobs: usize,
    group: Vec<Task>,
    group_bytes: u64,
    tasks: Sender<Vec<Task>>,
}

impl<'r, 'a> Batch<'r, 'a> {
    pub(super) fn new(run: &'r Run<'a>, tasks: Sender<Vec<Task>>) -> Self {
        Self {
            run,
            wanted: HashMap::new(),
            blobs: 0,
            group: Vec::new(),
            group_bytes: 0,
            tasks,
        }
    }

    /// Takes a file.
    pub(super) fn add(&mut self, file: FileTask) -> Result<(), ProtectError> {
        let file = Arc::new(file);
        if file.is_same {
            file.wait_for(1);
            return self.join(Task::Whole(file), 0);
        }
        let mut places = Vec::with_capacity(file.content.len());
        let mut offset = 0;
        for id in &file.content {
            let Some(at) = self.run.reader.index().find(BlobKind::Data, id) else {
                let why = format!("data blob {id} is in no index file of the repository");
                self.refuse(&file, why);
                return Ok(());
            };
            places.push((*id, at, offset));
            offset += at.plain_bytes();
        }
        if offset != file.entry.size_bytes {
            let why = format!(
                "the snapshot gives its size as {} bytes, its blobs have {offset}",
                file.entry.size_bytes
            );
            self.refuse(&file, why);
            return Ok(());
        }
        if file.content.is_empty() {
            file.wait_for(1);
            return self.join(Task::Whole(file), 0);
        }
        if file.is_delta {
            let parts: Vec<_> = places.chunks(DELTA_TASK_BLOBS).collect();
            file.wait_for(parts.len() as u64);
            let mut from = 0;
            for part in parts {
                let offset = part.first().map_or(0, |(_, _, offset)| *offset);
                let bytes = part.iter().map(|(_, at, _)| at.plain_bytes()).sum();
                let task = Task::Delta(file.clone(), from, from + part.len(), offset);
                self.join(task, bytes)?;
                from += part.len();
            }
            return Ok(());
        }
        file.wait_for(places.len() as u64);
        self.blobs += places.len();
        for (id, at, offset) in places {
            let order = self.wanted.len();
            let wanted = self.wanted.entry(id).or_insert_with(|| Wanted {
                id,
                at,
                places: Vec::new(),
                order,
            });
            wanted.places.push(Place {
                file: file.clone(),
                offset,
            });
        }
        if self.blobs >= BATCH_MAX_BLOBS {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn refuse(&self, file: &FileTask, why: String) {
        self.run.lose(&file.path);
        self.run.restore.problem(Problem {
            path: file.path.display(),
            doing: "restore file".into(),
            why,
        });
    }

    /// Sends all that was collected.
    pub(super) fn end(mut self) -> Result<(), ProtectError> {
        self.send_group()?;
        self.flush()
    }

    /// Lets a task go with others.
    fn join(&mut self, task: Task, bytes: u64) -> Result<(), ProtectError> {
        self.group.push(task);
        self.group_bytes += bytes;
        if self.group.len() < GROUP_MAX_TASKS && self.group_bytes < GROUP_MAX_BYTES {
            return Ok(());
        }
        self.send_group()
    }

    fn send_group(&mut self) -> Result<(), ProtectError> {
        self.group_bytes = 0;
        let group = std::mem::take(&mut self.group);
        self.send(group)
    }

    /// Sends the blobs that were collected, pack by pack.
    fn flush(&mut self) -> Result<(), ProtectError> {
        let mut all: Vec<Wanted> = std::mem::take(&mut self.wanted).into_values().collect();
        self.blobs = 0;
        // Packs in the order in which files need them, so that a large file is written from front to back.
        let mut first_need: HashMap<Id, usize> = HashMap::new();
        for wanted in &all {
            let need = first_need.entry(wanted.at.pack).or_insert(wanted.order);
            *need = (*need).min(wanted.order);
        }
        all.sort_by_cached_key(|wanted| {
            let need = first_need.get(&wanted.at.pack).copied();
            (need, wanted.at.pack, wanted.at.offset_bytes)
        });
        for range in ranges(all) {
            self.send(vec![Task::Range(range)])?;
        }
        Ok(())
    }

    fn send(&self, tasks: Vec<Task>) -> Result<(), ProtectError> {
        // Workers only end early when the restore has failed or was cancelled.
        if self.tasks.send(tasks).is_err() {
            self.run.check()?;
        }
        Ok(())
    }
}

/// Splits blobs, sorted by pack and offset, into parts to be fetched at once.
pub(super) fn ranges(sorted: Vec<Wanted>) -> Vec<Vec<Wanted>> {
    let mut ranges: Vec<Vec<Wanted>> = Vec::new();
    for wanted in sorted {
        let joins = ranges
            .last()
            .and_then(|range| Some((range.first()?.at, range.last()?.at)))
            .is_some_and(|(first, last)| {
                let end = last.offset_bytes.saturating_add(last.length_bytes);
                first.pack == wanted.at.pack
                    && wanted.at.offset_bytes >= end
                    && wanted.at.offset_bytes - end <= GAP_MAX_BYTES
                    && wanted
                        .at
                        .offset_bytes
                        .saturating_add(wanted.at.length_bytes)
                        - first.offset_bytes
                        <= RANGE_MAX_BYTES
            });
        match ranges.last_mut() {
            Some(range) if joins => range.push(wanted),
            _ => ranges.push(vec![wanted]),
        }
    }
    ranges
}

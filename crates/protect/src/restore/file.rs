//! A file that is being restored: a new one under a name of its own until it is whole, one that is there in its place.
//! A new file must never take its final name before the last byte is there, and one that can be read and is right already
//! must never be opened for writing.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lifeboat_flow::{Entry, EntryPath, Problem, TargetError, TargetFile};
use lifeboat_format::Id;

use super::Run;
use crate::backup::ProtectError;

/// What is said to be done when content could not be had from the repository.
pub(crate) const LOST: &str = "restore file";
/// What is said to be done when an entry is there, but not with all of its metadata.
pub(crate) const METADATA: &str = "restore metadata";

/// Files that stay open between two writes; beyond that they are opened again.
const OPEN_FILES_MAX: u64 = 128;
/// How the name of a file begins that is not whole yet.
const PARTIAL_PREFIX: &str = ".lifeboat-partial-";

/// A file to be restored.
pub(super) struct FileTask {
    /// Its final path.
    pub(super) path: EntryPath,
    /// Its metadata.
    pub(super) entry: Entry,
    /// Its blobs.
    pub(super) content: Vec<Id>,
    /// A file is there whose content is to be kept where it is right.
    pub(super) is_delta: bool,
    /// The file that is there is taken for the same.
    pub(super) is_same: bool,
    state: Mutex<FileState>,
    /// Parts that are not written yet.
    waiting: AtomicU64,
    is_damaged: AtomicBool,
    /// Something was not written because it is zero, so the length has to be set in the end.
    has_holes: AtomicBool,
}

#[derive(Default)]
struct FileState {
    /// The name that it has until it is whole; the final one for a delta.
    writing_to: Option<EntryPath>,
    file: Option<Arc<dyn TargetFile>>,
    /// The file that is there, to be compared.
    existing: Option<Arc<dyn TargetFile>>,
}

impl FileTask {
    pub(super) fn new(
        path: EntryPath,
        entry: Entry,
        content: Vec<Id>,
        is_delta: bool,
        is_same: bool,
    ) -> Self {
        Self {
            path,
            entry,
            content,
            is_delta,
            is_same,
            state: Mutex::default(),
            waiting: AtomicU64::new(0),
            is_damaged: AtomicBool::new(false),
            has_holes: AtomicBool::new(false),
        }
    }

    /// Says how many parts it waits for; to be called before any of them is worked on.
    pub(super) fn wait_for(&self, parts: u64) {
        self.waiting.store(parts, Ordering::Release);
    }

    /// Adds parts, from within one of those it waits for.
    pub(super) fn wait_for_more(&self, parts: u64) {
        self.waiting.fetch_add(parts, Ordering::AcqRel);
    }

    fn state(&self) -> MutexGuard<'_, FileState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that zeros were left out.
    pub(super) fn leave_hole(&self) {
        self.has_holes.store(true, Ordering::Release);
    }

    /// Marks it as not restorable; the first to do so is told.
    pub(super) fn damage(&self) -> bool {
        !self.is_damaged.swap(true, Ordering::AcqRel)
    }

    /// Whether it can't be restored, so that nothing more is to be fetched for it.
    pub(super) fn is_damaged(&self) -> bool {
        self.is_damaged.load(Ordering::Acquire)
    }
}

fn changed_meanwhile(path: &EntryPath) -> TargetError {
    TargetError {
        doing: "set metadata of",
        path: path.display(),
        cause: io::Error::other("its size changed while it was restored"),
    }
}

impl Run<'_> {
    /// The file that is there, to be read: as long as nothing in it differs, nobody who uses it notices a restore.
    /// Where it can't be read, opening it for writing does more to get at it.
    pub(super) fn existing(&self, task: &FileTask) -> Result<Arc<dyn TargetFile>, TargetError> {
        let mut state = task.state();
        if let Some(existing) = &state.existing {
            return Ok(existing.clone());
        }
        if state.writing_to.is_none()
            && let Ok(existing) = self.restore.target.read_file(&task.path)
        {
            return Ok(state.existing.insert(existing.into()).clone());
        }
        drop(state);
        self.open(task)
    }

    /// The open file, opened again if it was closed meanwhile.
    pub(super) fn open(&self, task: &FileTask) -> Result<Arc<dyn TargetFile>, TargetError> {
        let mut state = task.state();
        if let Some(file) = &state.file {
            return Ok(file.clone());
        }
        let target = self.restore.target;
        let file: Arc<dyn TargetFile> = match &state.writing_to {
            Some(path) => target.open_file(path, true)?.into(),
            None if task.is_delta => {
                // What was compared is what is written: something else may be at the path by now.
                let file = match &state.existing {
                    Some(existing) => existing.to_write()?,
                    None => target.open_file(&task.path, true)?,
                };
                state.writing_to = Some(task.path.clone());
                file.into()
            }
            None => {
                let number = self.partial_names.fetch_add(1, Ordering::Relaxed);
                let parent = task.path.parent().unwrap_or_default();
                let name = format!("{PARTIAL_PREFIX}{:08x}-{number}", self.partial_token);
                let path = parent.join(name.as_bytes());
                self.partials().insert(path.clone());
                let file = target.open_file(&path, false)?;
                state.writing_to = Some(path);
                file.into()
            }
        };
        if self.open_files.load(Ordering::Relaxed) < OPEN_FILES_MAX {
            self.open_files.fetch_add(1, Ordering::Relaxed);
            state.file = Some(file.clone());
        }
        Ok(file)
    }

    fn partials(&self) -> MutexGuard<'_, HashSet<EntryPath>> {
        self.partials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what was begun and is not to be finished: pieces of files would only take room.
    pub(super) fn remove_partials(&self) {
        let partials = std::mem::take(&mut *self.partials());
        for path in partials {
            // What is still there can't be mistaken for a file of the snapshot.
            let _ = self.restore.target.remove(&path);
        }
    }

    /// One part is done; after the last the file gets its metadata and its name.
    pub(super) fn part_done(&self, task: &FileTask) -> Result<(), ProtectError> {
        if task.waiting.fetch_sub(1, Ordering::AcqRel) != 1 {
            return Ok(());
        }
        let is_damaged = task.is_damaged();
        let result = if is_damaged {
            Ok(())
        } else {
            self.complete(task)
        };
        if is_damaged && task.state().writing_to.is_some() && !task.is_delta {
            // Zeros up to the end, as far as the target lets us: the file is named as damaged already.
            let _ = self
                .open(task)
                .and_then(|file| file.set_len(task.entry.size_bytes));
        }
        let mut state = task.state();
        if state.file.take().is_some() {
            self.open_files.fetch_sub(1, Ordering::Relaxed);
        }
        state.existing = None;
        let partial = state.writing_to.take().filter(|path| *path != task.path);
        drop(state);
        if is_damaged && let Some(partial) = partial {
            self.partials().remove(&partial);
            self.restore.problem(Problem {
                path: task.path.display(),
                doing: "restore file".into(),
                why: format!(
                    "what could be read of it is in {}, with zeros for the rest",
                    partial.display()
                ),
            });
        }
        match result {
            Ok(()) => Ok(()),
            Err(error) => {
                self.lose(&task.path);
                self.target_problem(&task.path, error)
            }
        }
    }

    fn complete(&self, task: &FileTask) -> Result<(), TargetError> {
        if task.is_same {
            return self.complete_same(task);
        }
        let wanted_bytes = task.entry.size_bytes;
        let mut file = if task.is_delta && task.state().writing_to.is_none() {
            self.existing(task)?
        } else {
            self.open(task)?
        };
        let is_short = task.has_holes.load(Ordering::Acquire);
        if is_short || (task.is_delta && file.len_bytes()? != wanted_bytes) {
            file = self.open(task)?;
            file.set_len(wanted_bytes)?;
        }
        self.finish_problems(&task.path, file.finish(&task.entry));
        let writing_to = task.state().writing_to.clone();
        if let Some(partial) = writing_to.filter(|path| *path != task.path) {
            self.restore.target.rename(&partial, &task.path)?;
            self.partials().remove(&partial);
        }
        self.completed(task);
        Ok(())
    }

    /// A file that is taken for the same gets its metadata. It is not made anew if it is gone meanwhile: nothing of its
    /// content was fetched.
    fn complete_same(&self, task: &FileTask) -> Result<(), TargetError> {
        let target = self.restore.target;
        let finished = match target.read_file(&task.path) {
            Ok(file) if file.len_bytes()? == task.entry.size_bytes => file.finish(&task.entry),
            Ok(_) => return Err(changed_meanwhile(&task.path)),
            Err(error) if error.cause.kind() == io::ErrorKind::PermissionDenied => {
                target.finish(&task.path, &task.entry)
            }
            Err(error) => return Err(error),
        };
        self.finish_problems(&task.path, finished);
        self.completed(task);
        Ok(())
    }

    fn completed(&self, task: &FileTask) {
        self.done.entries.fetch_add(1, Ordering::Relaxed);
        self.done
            .bytes
            .fetch_add(task.entry.size_bytes, Ordering::Relaxed);
        self.restore
            .counters
            .files_done
            .fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a file is not what the snapshot has there: nothing is to be linked to it or compared with it.
    pub(super) fn lose(&self, path: &EntryPath) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.insert(path.clone());
    }

    /// Whether a file could not be restored.
    pub(super) fn is_lost(&self, path: &EntryPath) -> bool {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.contains(path)
    }

    /// Names a file that can't be restored, once.
    pub(super) fn damaged(&self, task: &FileTask, error: &dyn std::error::Error) {
        if task.damage() {
            self.lose(&task.path);
            self.restore
                .problem(Problem::from_error(&task.path.display(), LOST, error));
        }
    }

    /// A failure of the target: a full disk ends the restore, anything else concerns one entry.
    pub(super) fn target_problem(
        &self,
        path: &EntryPath,
        error: TargetError,
    ) -> Result<(), ProtectError> {
        if error.is_full() {
            return Err(error.into());
        }
        self.restore
            .problem(Problem::from_error(&path.display(), "restore", &error));
        Ok(())
    }

    /// What could not be set of an entry's metadata.
    pub(super) fn finish_problems(&self, path: &EntryPath, result: Result<(), Vec<TargetError>>) {
        for error in result.err().unwrap_or_default() {
            self.restore
                .problem(Problem::from_error(&path.display(), METADATA, &error));
        }
    }
}

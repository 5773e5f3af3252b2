//! The end of a restore: hard links, what is to be deleted, the metadata of directories, the disk's promise.
//! It must never delete before everything else succeeded.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::atomic::Ordering;

use lifeboat_flow::{EntryPath, Event, Problem};
use lifeboat_repo::each_number;

use super::{Leftovers, MadeDir, Run, Selected};
use crate::backup::ProtectError;

impl Run<'_> {
    /// Does what must wait for all content.
    pub(super) fn finish(&self, left: Leftovers) -> Result<(), ProtectError> {
        let options = &self.restore.options;
        for (path, original) in &left.links {
            self.check()?;
            if self.is_lost(original) {
                self.restore.problem(Problem {
                    path: path.display(),
                    doing: "restore hard link".into(),
                    why: format!(
                        "{}, which it is the same file as, could not be restored",
                        original.display()
                    ),
                });
                continue;
            }
            if !options.dry_run
                && let Err(error) = self.restore.target.make_link(original, path)
            {
                self.target_problem(path, error)?;
                continue;
            }
            self.done.entries.fetch_add(1, Ordering::Relaxed);
        }
        self.delete(&left)?;
        if !options.dry_run {
            self.finish_dirs(&left.dirs)?;
        }
        let finished = left.dirs.len() as u64;
        self.done.entries.fetch_add(finished, Ordering::Relaxed);
        if options.dry_run {
            return Ok(());
        }
        self.restore.target.sync()?;
        if options.verify {
            self.verify(&left.files)
        } else {
            Ok(())
        }
    }

    /// The deepest first: what is inside a directory changes its times, and is out of reach when its mode says so.
    fn finish_dirs(&self, dirs: &[MadeDir]) -> Result<(), ProtectError> {
        let options = &self.restore.options;
        let depth = |dir: &&MadeDir| dir.path.0.iter().filter(|byte| **byte == b'/').count();
        let mut deepest_first: Vec<&MadeDir> = dirs.iter().collect();
        deepest_first.sort_by_cached_key(|dir| Reverse(depth(dir)));
        for level in deepest_first.chunk_by(|one, other| depth(one) == depth(other)) {
            let finish_one = |(): &mut (), number: usize| {
                self.check()?;
                if let Some(dir) = level.get(number) {
                    let finished = self.restore.target.finish(&dir.path, &dir.entry);
                    self.finish_problems(&dir.path, finished);
                }
                Ok::<(), ProtectError>(())
            };
            each_number(options.workers, level.len(), || (), finish_one)?;
        }
        Ok(())
    }

    fn delete(&self, left: &Leftovers) -> Result<(), ProtectError> {
        if left.existing.is_empty() {
            return Ok(());
        }
        if self.restore.counters.problems.load(Ordering::Relaxed) > 0 {
            self.restore.events.event(Event::Note(
                "nothing is deleted, because not everything could be restored".into(),
            ));
            return Ok(());
        }
        for (dir, names) in &left.existing {
            let wanted: HashSet<&Vec<u8>> = names.iter().collect();
            let found = match self.restore.target.names(dir) {
                Ok(found) => found,
                // A dry run looks at directories that are not there.
                Err(_) if self.restore.options.dry_run => continue,
                Err(error) => {
                    self.target_problem(dir, error)?;
                    continue;
                }
            };
            for name in found.iter().filter(|name| !wanted.contains(name)) {
                self.delete_one(&dir.join(name))?;
            }
        }
        Ok(())
    }

    fn delete_one(&self, path: &EntryPath) -> Result<(), ProtectError> {
        self.check()?;
        let selected = self.restore.options.select.map_or(
            Selected {
                restore: true,
                descend: true,
            },
            |select| select(path, false),
        );
        if !selected.restore {
            return Ok(());
        }
        self.restore.item("deleted", path, 0);
        self.done.deleted.fetch_add(1, Ordering::Relaxed);
        if self.restore.options.dry_run {
            return Ok(());
        }
        match self.restore.target.remove(path) {
            Ok(()) => Ok(()),
            Err(error) => self.target_problem(path, error),
        }
    }
}

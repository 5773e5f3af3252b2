//! Counts what a source holds while it is backed up, so that the time left can be estimated.
//! It must never matter to the backup: what it can't read, it leaves to others to report.

use std::sync::atomic::Ordering;

use lifeboat_flow::{EntryKind, EntryPath};

use super::Backup;
use super::queue::Queue;

/// Counts files and bytes until all are counted or the backup ends.
pub(super) fn count(backup: &Backup<'_>, queue: &Queue) {
    let mut dirs = vec![EntryPath::top()];
    while let Some(dir) = dirs.pop() {
        if queue.is_stopped() || backup.cancel.is_cancelled() {
            return;
        }
        let Ok(listing) = backup.source.list(&dir) else {
            continue;
        };
        for entry in listing.entries {
            match entry.kind {
                EntryKind::Dir => dirs.push(dir.join(&entry.name)),
                EntryKind::File => {
                    backup.counters.files_total.fetch_add(1, Ordering::Relaxed);
                    backup
                        .counters
                        .bytes_total
                        .fetch_add(entry.size_bytes, Ordering::Relaxed);
                }
                _ => {}
            }
        }
    }
}

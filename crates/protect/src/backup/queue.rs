//! The jobs of a backup: chunks before files before directories, so that little is open at a time.
//! It must never make a worker wait for a job that only itself could finish.

use std::cmp::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lifeboat_flow::Cancel;

use super::file::BlobJob;
use super::frame::Frame;

/// How often a waiting worker looks whether somebody wishes to stop.
const CANCEL_POLL: Duration = Duration::from_millis(100);

/// One thing to do.
pub(super) enum Job {
    /// Hash, compress and encrypt a chunk.
    Blob(BlobJob),
    /// Read the file in this slot of a directory; the last says that the parent does not have it.
    File(Arc<Frame>, usize, bool),
    /// List a directory.
    Dir(Arc<Frame>),
}

/// What waits: files and directories in the order of the tree, the next one last. Workers that list several directories
/// at once must not mix their files: what lies together belongs into the same packs.
#[derive(Default)]
struct Jobs {
    blobs: Vec<BlobJob>,
    files: Vec<(Arc<Frame>, usize, bool)>,
    dirs: Vec<Arc<Frame>>,
    reading: usize,
    stopped: bool,
}

impl Jobs {
    /// Whether the next directory comes before all files: then they are those of a later one.
    fn is_dir_first(&self) -> bool {
        let (dir, file) = (self.dirs.last(), self.files.last());
        dir.zip(file)
            .is_some_and(|(dir, (of, ..))| order(dir, of).is_lt())
    }
}

/// Which directory comes first in the tree: names are compared one by one, so that what lies below a directory comes
/// before its next neighbour, whatever their names begin with.
fn order(one: &Frame, other: &Frame) -> Ordering {
    // No name holds a zero byte.
    let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    let (one, other) = (one.path.0.iter().map(key), other.path.0.iter().map(key));
    one.cmp(other)
}

/// The jobs.
pub(super) struct Queue {
    jobs: Mutex<Jobs>,
    changed: Condvar,
    readers: usize,
}

impl Queue {
    /// A queue that hands out at most so many files at a time.
    pub(super) fn new(readers: usize) -> Self {
        Self {
            jobs: Mutex::default(),
            changed: Condvar::new(),
            readers,
        }
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job; `None` when all is done, or nothing more should be.
    pub(super) fn next(&self, cancel: &Cancel) -> Option<Job> {
        let mut jobs = self.jobs();
        loop {
            if jobs.stopped || cancel.is_cancelled() {
                return None;
            }
            if let Some(blob) = jobs.blobs.pop() {
                return Some(Job::Blob(blob));
            }
            if jobs.reading < self.readers
                && !jobs.is_dir_first()
                && let Some((frame, slot, is_new)) = jobs.files.pop()
            {
                jobs.reading += 1;
                return Some(Job::File(frame, slot, is_new));
            }
            if let Some(frame) = jobs.dirs.pop() {
                return Some(Job::Dir(frame));
            }
            jobs = self
                .changed
                .wait_timeout(jobs, CANCEL_POLL)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Adds a directory.
    pub(super) fn push_dir(&self, frame: Arc<Frame>) {
        self.jobs().dirs.push(frame);
        self.changed.notify_one();
    }

    /// Adds the files and subdirectories of a directory; they come out in the order given.
    pub(super) fn push_all(
        &self,
        frame: &Arc<Frame>,
        dirs: Vec<Arc<Frame>>,
        files: Vec<(usize, bool)>,
    ) {
        if dirs.is_empty() && files.is_empty() {
            return;
        }
        let mut jobs = self.jobs();
        let at = jobs.dirs.partition_point(|dir| order(dir, frame).is_gt());
        jobs.dirs.splice(at..at, dirs.into_iter().rev());
        let at = jobs
            .files
            .partition_point(|(of, ..)| order(of, frame).is_gt());
        let files = files.into_iter().rev();
        jobs.files.splice(
            at..at,
            files.map(|(slot, is_new)| (frame.clone(), slot, is_new)),
        );
        drop(jobs);
        self.changed.notify_all();
    }

    /// Offers a chunk to other workers; it comes back if there are already enough waiting.
    pub(super) fn offer_blob(&self, job: BlobJob, waiting_max: usize) -> Option<BlobJob> {
        let mut jobs = self.jobs();
        if jobs.blobs.len() >= waiting_max {
            return Some(job);
        }
        jobs.blobs.push(job);
        drop(jobs);
        self.changed.notify_one();
        None
    }

    /// Whether a chunk would be taken.
    pub(super) fn wants_blob(&self, waiting_max: usize) -> bool {
        waiting_max > 0 && self.jobs().blobs.len() < waiting_max
    }

    /// A file that was handed out is read.
    pub(super) fn file_done(&self) {
        self.jobs().reading -= 1;
        self.changed.notify_one();
    }

    /// Ends the work.
    pub(super) fn stop(&self) {
        self.jobs().stopped = true;
        self.changed.notify_all();
    }

    /// Whether the work has ended.
    pub(super) fn is_stopped(&self) -> bool {
        self.jobs().stopped
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_format::Tree;

    use super::*;

    /// A directory that holds directories with these names.
    fn holding(frame: &Arc<Frame>, names: &[&str]) -> Vec<Arc<Frame>> {
        let nodes: Vec<String> = names
            .iter()
            .map(|name| format!(r#"{{"name":"{name}","type":"dir"}}"#))
            .collect();
        let json = format!(r#"{{"nodes":[{}]}}"#, nodes.join(","));
        let tree = Tree::from_json(json.as_bytes()).unwrap();
        frame.fill(tree.nodes.into_iter().map(Some).collect(), names.len());
        let slots = 0..names.len();
        slots.map(|slot| Frame::below(frame, slot, None)).collect()
    }

    #[test]
    fn files_come_in_the_order_of_the_tree_whoever_lists_first() {
        let (queue, cancel) = (Queue::new(100), Cancel::new());
        let root = Arc::new(Frame::root(None));
        // A dash comes before the slash.
        let dirs = holding(&root, &["a", "a-b", "c"]);
        queue.push_all(&root, dirs, vec![]);
        let next = || match queue.next(&cancel).unwrap() {
            Job::Dir(frame) => (frame, None),
            Job::File(frame, slot, _) => (frame, Some(slot)),
            Job::Blob(_) => panic!("nobody offered a chunk"),
        };
        let (first, second) = (next().0, next().0);
        assert_eq!((&*first.path.0, &*second.path.0), (&b"a"[..], &b"a-b"[..]));
        // The second worker is the faster one.
        queue.push_all(&second, vec![], vec![(0, true), (1, true)]);
        let below = holding(&first, &["x"]);
        queue.push_all(&first, below, vec![(1, true)]);
        let mut order = Vec::new();
        for _ in 0..5 {
            let (frame, slot) = next();
            let path = String::from_utf8(frame.path.0.clone()).unwrap();
            order.push((path, slot));
        }
        let expected = [
            ("a", Some(1)),
            ("a/x", None),
            ("a-b", Some(0)),
            ("a-b", Some(1)),
            ("c", None),
        ];
        let expected = expected.map(|(path, slot)| (path.to_owned(), slot));
        assert_eq!(order, expected);
    }
}

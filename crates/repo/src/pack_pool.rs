//! The packs that are being filled, sent or ready to be filled anew: so many at a time as memory allows.
//! It must never hand one pack to two threads, and never make a thread wait for packs that nobody would bring back.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use lifeboat_format::chunker::CHUNK_MAX_BYTES;

use crate::open_pack::OpenPack;

/// What is set aside for a pack's header and the encryption of a blob, in bytes; memory that is not touched costs nothing.
const HEADER_ROOM_BYTES: usize = 1024 * 1024;

/// What a pack of this size usually takes when it is full, in bytes: half a chunk more.
pub(crate) fn usual_bytes(pack_size_bytes: usize) -> usize {
    pack_size_bytes + CHUNK_MAX_BYTES / 8
}

#[derive(Default)]
struct Packs {
    /// Begun packs that no thread holds.
    idle: Vec<OpenPack>,
    /// Memory of packs that were sent: a fresh allocation costs a page fault for each 4 KiB.
    spare: Vec<Vec<u8>>,
    /// Packs that exist, spare memory left out.
    count: usize,
    /// Nobody should wait any more.
    is_over: bool,
}

/// The packs.
pub(crate) struct PackPool {
    packs: Mutex<Packs>,
    changed: Condvar,
    packs_max: usize,
    room_bytes: usize,
}

impl PackPool {
    /// So many packs at most, at least one, of this size.
    pub(crate) fn new(packs_max: usize, pack_size_bytes: usize) -> Self {
        Self {
            packs: Mutex::default(),
            changed: Condvar::new(),
            packs_max: packs_max.max(1),
            // The blob that overfills it is the largest there is.
            room_bytes: pack_size_bytes + CHUNK_MAX_BYTES + HEADER_ROOM_BYTES,
        }
    }

    fn packs(&self) -> MutexGuard<'_, Packs> {
        self.packs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pack to go on with, if there is one.
    pub(crate) fn try_take(&self) -> Option<OpenPack> {
        self.one(&mut self.packs())
    }

    /// A pack to go on with, as soon as there is one; `None` when the pool is closed.
    pub(crate) fn take(&self) -> Option<OpenPack> {
        let mut packs = self.packs();
        loop {
            if packs.is_over {
                return None;
            }
            if let Some(pack) = self.one(&mut packs) {
                return Some(pack);
            }
            let woken = self.changed.wait(packs);
            packs = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn one(&self, packs: &mut Packs) -> Option<OpenPack> {
        if let Some(pack) = packs.idle.pop() {
            return Some(pack);
        }
        if packs.count >= self.packs_max {
            return None;
        }
        packs.count += 1;
        let memory = packs.spare.pop();
        // Growing would double it, and copy it.
        let memory = memory.unwrap_or_else(|| Vec::with_capacity(self.room_bytes));
        Some(OpenPack::within(memory))
    }

    /// Brings back a pack that is not full.
    pub(crate) fn put(&self, pack: OpenPack) {
        self.packs().idle.push(pack);
        self.changed.notify_one();
    }

    /// A pack is no more; its memory may be used again.
    pub(crate) fn release(&self, memory: Option<Vec<u8>>) {
        let mut packs = self.packs();
        packs.count = packs.count.saturating_sub(1);
        packs.spare.extend(memory);
        drop(packs);
        self.changed.notify_one();
    }

    /// All packs that were begun, when no thread holds any.
    pub(crate) fn take_all(&self) -> Vec<OpenPack> {
        std::mem::take(&mut self.packs().idle)
    }

    /// Lets nobody wait any more.
    pub(crate) fn close(&self) {
        self.packs().is_over = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_than_allowed() {
        let pool = PackPool::new(2, 1);
        let (one, two) = (pool.try_take().unwrap(), pool.try_take().unwrap());
        assert!(pool.try_take().is_none());
        pool.put(one);
        assert!(pool.try_take().is_some());
        assert!(pool.try_take().is_none());
        drop(two);
        pool.release(Some(Vec::with_capacity(7)));
        assert!(pool.try_take().is_some(), "the place of one that is gone");
    }

    #[test]
    fn nobody_waits_for_a_closed_pool() {
        let pool = PackPool::new(1, 1);
        let held = pool.take();
        assert!(held.is_some());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| pool.take().is_none());
            pool.close();
            assert!(waiting.join().unwrap());
        });
    }
}

//! Reads any range of a file through a bounded cache of blobs.
//! It must never hold more plaintext than its budget, however many files are read at once.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use lifeboat_format::{BlobKind, Id};
use lifeboat_repo::{Index, Opener, RepoError, Repository, read_blob};

/// Plaintext that is kept, in bytes.
const CACHE_BYTES: usize = 128 * 1024 * 1024;

/// A file's blobs and where each begins.
pub(super) struct Content {
    blobs: Vec<Id>,
    /// Where each ends, in bytes from the beginning.
    ends: Vec<u64>,
}

impl Content {
    /// From a file's blobs; a blob that no index names has no length, and is an error.
    pub(super) fn new(index: &Index, blobs: &[Id]) -> Result<Self, RepoError> {
        let mut end = 0u64;
        let mut ends = Vec::with_capacity(blobs.len());
        for id in blobs {
            let kind = BlobKind::Data;
            let size = index.plain_bytes(kind, id);
            end += size.ok_or(RepoError::BlobUnknown { kind, id: *id })?;
            ends.push(end);
        }
        Ok(Self {
            blobs: blobs.to_vec(),
            ends,
        })
    }

    /// Up to `size` bytes from an offset; fewer at the end.
    pub(super) fn read(
        &self,
        blobs: &Blobs,
        (repository, index): (&Repository, &Index),
        offset: u64,
        size: usize,
    ) -> Result<Vec<u8>, RepoError> {
        let mut out = Vec::new();
        let mut at = offset;
        let first = self.ends.partition_point(|end| *end <= offset);
        for (id, end) in self.blobs.iter().zip(&self.ends).skip(first) {
            let left = size.saturating_sub(out.len());
            if left == 0 {
                break;
            }
            let plain = blobs.get(repository, index, *id)?;
            let begin = end.saturating_sub(plain.len() as u64);
            let from = usize::try_from(at.saturating_sub(begin)).unwrap_or(usize::MAX);
            let part = plain.get(from..).unwrap_or_default();
            let part = part.get(..left.min(part.len())).unwrap_or_default();
            out.extend_from_slice(part);
            at = *end;
        }
        Ok(out)
    }
}

/// Blobs that were read a moment ago, or are being read.
#[derive(Default)]
pub(super) struct Blobs {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    slots: HashMap<Id, Slot>,
    held_bytes: usize,
    clock: u64,
    openers: Vec<Opener>,
}

enum Slot {
    /// A thread is fetching it.
    Coming,
    Here {
        plain: Arc<Vec<u8>>,
        used: u64,
    },
}

impl Blobs {
    /// The plaintext of a data blob. Several readers of one blob cause one fetch.
    pub(super) fn get(
        &self,
        repository: &Repository,
        index: &Index,
        id: Id,
    ) -> Result<Arc<Vec<u8>>, RepoError> {
        let mut state = self.lock();
        let mut opener = loop {
            state.clock += 1;
            let now = state.clock;
            match state.slots.get_mut(&id) {
                Some(Slot::Here { plain, used }) => {
                    *used = now;
                    return Ok(Arc::clone(plain));
                }
                Some(Slot::Coming) => {
                    state = self
                        .arrived
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                None => {
                    state.slots.insert(id, Slot::Coming);
                    break state.openers.pop().unwrap_or_default();
                }
            }
        };
        drop(state);
        let mut plain = Vec::new();
        let read = read_blob(
            repository,
            index,
            BlobKind::Data,
            id,
            &mut opener,
            &mut plain,
        );
        let mut state = self.lock();
        state.openers.push(opener);
        let result = match read {
            Ok(()) => {
                let plain = Arc::new(plain);
                state.put(id, Arc::clone(&plain));
                Ok(plain)
            }
            Err(error) => {
                // Whoever waited tries it anew and gets the error first-hand.
                state.slots.remove(&id);
                Err(error)
            }
        };
        drop(state);
        self.arrived.notify_all();
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, id: Id, plain: Arc<Vec<u8>>) {
        self.held_bytes += plain.len();
        let used = self.clock;
        self.slots.insert(id, Slot::Here { plain, used });
        while self.held_bytes > CACHE_BYTES {
            let oldest = self.slots.iter().filter_map(|(other, slot)| match slot {
                Slot::Here { used, .. } if *other != id => Some((*used, *other)),
                _ => None,
            });
            let Some((_, oldest)) = oldest.min() else {
                break;
            };
            if let Some(Slot::Here { plain, .. }) = self.slots.remove(&oldest) {
                self.held_bytes -= plain.len();
            }
        }
    }
}

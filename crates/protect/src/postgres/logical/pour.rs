//! Pours the content of a file out as a stream: blobs are fetched ahead by several threads and written in their order.
//! It must never write what is not whole and in its place, nor hold more than its share of memory.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use lifeboat_flow::Cancel;
use lifeboat_format::{BlobKind, BlobRef, Id};
use lifeboat_repo::backend::{FileKind, FileName};
use lifeboat_repo::{BlobReader, Fetched, Opener, RepoError, open_blobs};
use lifeboat_state::postgres::dump::Fed;

use crate::ProtectError;

/// Content that is fetched by one request, in bytes of plaintext.
const RUN_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Threads that fetch.
const FETCHERS_MAX: usize = 8;
/// Between two looks at whether somebody wishes to stop.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(200);

/// Blobs that lie one behind the other in a pack.
struct Run {
    blobs: Vec<(Id, Option<BlobRef>)>,
    plain_bytes: u64,
}

/// What the threads share.
#[derive(Default)]
struct Pool {
    /// The next run that nobody fetches yet.
    next: usize,
    /// The run that is written next.
    wanted: usize,
    ready: BTreeMap<usize, Result<Vec<u8>, ProtectError>>,
    is_over: bool,
}

/// Writes the content of a file.
pub(super) fn pour(
    reader: &BlobReader<'_>,
    content: &[Id],
    memory_bytes: usize,
    cancel: &Cancel,
    out: &mut dyn Write,
    wrote: &dyn Fn(u64),
) -> Result<(), Fed<ProtectError>> {
    let runs = runs(reader, content);
    // A blob may be longer than a run should be.
    let longest = runs.iter().map(|run| run.plain_bytes).max().unwrap_or(1);
    let ahead = memory_bytes / usize::try_from(longest.max(1)).unwrap_or(usize::MAX);
    let ahead = ahead.clamp(1, 2 * FETCHERS_MAX);
    let (pool, changed) = (Mutex::new(Pool::default()), Condvar::new());
    let lock = || pool.lock().unwrap_or_else(PoisonError::into_inner);
    let wait = |guard: MutexGuard<'_, Pool>| {
        let waited = changed.wait_timeout(guard, LOOK_EVERY);
        drop(waited.map_or_else(|error| error.into_inner().0, |(guard, _)| guard));
    };
    let fetch = || {
        let mut opener = Opener::default();
        loop {
            let mut pool = lock();
            if pool.is_over || pool.next >= runs.len() {
                return;
            }
            if pool.next >= pool.wanted + ahead {
                wait(pool);
                continue;
            }
            let number = pool.next;
            pool.next += 1;
            drop(pool);
            let Some(run) = runs.get(number) else {
                return;
            };
            let fetched = read(reader, run, &mut opener);
            lock().ready.insert(number, fetched);
            changed.notify_all();
        }
    };
    let mut write = || {
        for number in 0..runs.len() {
            let plain = loop {
                cancel.check().map_err(|stop| Fed::Lost(stop.into()))?;
                let mut pool = lock();
                if let Some(fetched) = pool.ready.remove(&number) {
                    pool.wanted = number + 1;
                    changed.notify_all();
                    break fetched.map_err(Fed::Lost)?;
                }
                wait(pool);
            };
            out.write_all(&plain).map_err(|_| Fed::Refused)?;
            wrote(plain.len() as u64);
        }
        out.flush().map_err(|_| Fed::Refused)
    };
    std::thread::scope(|scope| {
        for _ in 0..ahead.min(FETCHERS_MAX) {
            scope.spawn(fetch);
        }
        let written = write();
        lock().is_over = true;
        changed.notify_all();
        written
    })
}

/// Divides a content into runs.
fn runs(reader: &BlobReader<'_>, content: &[Id]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for id in content {
        let place = reader.index().find(BlobKind::Data, id);
        let plain_bytes = place.map_or(0, |place| place.plain_bytes());
        let follows = |run: &&mut Run| {
            let last = run.blobs.last().and_then(|(_, place)| *place);
            let (Some(last), Some(place)) = (last, place) else {
                return false;
            };
            last.pack == place.pack
                && last.offset_bytes.checked_add(last.length_bytes) == Some(place.offset_bytes)
                && run.plain_bytes + plain_bytes <= RUN_MAX_BYTES
        };
        match runs.last_mut().filter(follows) {
            Some(run) => {
                run.blobs.push((*id, place));
                run.plain_bytes += plain_bytes;
            }
            None => runs.push(Run {
                blobs: vec![(*id, place)],
                plain_bytes,
            }),
        }
    }
    runs
}

/// The plaintext of a run. What can't be had where it should lie is looked for elsewhere, blob by blob.
fn read(reader: &BlobReader<'_>, run: &Run, opener: &mut Opener) -> Result<Vec<u8>, ProtectError> {
    let mut found = HashMap::new();
    if run.blobs.len() > 1 {
        fetch(reader, run, opener, &mut found);
    }
    let (mut plain, mut blob) = (Vec::new(), Vec::new());
    for (number, (id, _)) in run.blobs.iter().enumerate() {
        match found.get(&number) {
            Some(content) => plain.extend_from_slice(content),
            None => {
                reader.read(BlobKind::Data, *id, &mut blob)?;
                plain.extend_from_slice(&blob);
            }
        }
    }
    Ok(plain)
}

/// Fetches all of a run at once; `found` has what was good.
fn fetch(
    reader: &BlobReader<'_>,
    run: &Run,
    opener: &mut Opener,
    found: &mut HashMap<usize, Vec<u8>>,
) {
    let places: Vec<(Id, BlobRef)> = run
        .blobs
        .iter()
        .filter_map(|(id, place)| Some((*id, (*place)?)))
        .collect();
    let Some((_, first)) = places.first() else {
        return;
    };
    let length: usize = places
        .iter()
        .map(|(_, place)| place.length_bytes as usize)
        .sum();
    let mut sealed = vec![0; length];
    let name = FileName::new(FileKind::Pack, first.pack);
    let offset = u64::from(first.offset_bytes);
    let backend = reader.repository().backend();
    if backend.load_at(name, offset, &mut sealed).is_err() {
        return;
    }
    let (mut rest, mut blobs) = (sealed.as_mut_slice(), Vec::new());
    for (id, place) in places {
        let Some((sealed, behind)) = rest.split_at_mut_checked(place.length_bytes as usize) else {
            return;
        };
        rest = behind;
        blobs.push(Fetched { id, place, sealed });
    }
    let each = |number: usize, plain: Result<&[u8], _>| {
        if let Ok(plain) = plain {
            found.insert(number, plain.to_vec());
        }
        Ok::<(), RepoError>(())
    };
    let _ = open_blobs(reader.repository(), blobs, opener, each);
}

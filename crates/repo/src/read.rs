//! Reads blobs: finds them in the index, fetches them from their packs, decrypts, decompresses and compares their hash.
//! It must never give content whose hash is not its ID; a blob that lies in several packs is read from any that holds it.

use std::sync::{Mutex, PoisonError};

use lifeboat_format::{BlobKind, BlobRef, Decompressor, FormatError, Id, Tree};

use crate::backend::{FileKind, FileName};
use crate::{Index, RepoError, Repository};

/// Largest blob that is read, in bytes: a tree of a directory with millions of entries.
const BLOB_MAX_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Plaintext of blobs that are hashed together, in bytes, if it is more than one.
const TOGETHER_MAX_BYTES: u64 = 8 * 1024 * 1024;

/// What a thread that reads blobs keeps between them.
#[derive(Default)]
pub struct Opener {
    decompressor: Decompressor,
    sealed: Vec<u8>,
    /// What was decompressed of blobs that are hashed together.
    plains: Vec<Vec<u8>>,
}

/// A blob that was fetched and is still encrypted.
pub struct Fetched<'a> {
    /// Which blob it should be.
    pub id: Id,
    /// Where it lay.
    pub place: BlobRef,
    /// Its bytes there.
    pub sealed: &'a mut [u8],
}

/// Reads blobs of a repository through its index.
pub struct BlobReader<'r> {
    repository: &'r Repository,
    index: &'r Index,
    openers: Mutex<Vec<Opener>>,
}

impl<'r> BlobReader<'r> {
    /// A reader.
    #[must_use]
    pub fn new(repository: &'r Repository, index: &'r Index) -> Self {
        Self {
            repository,
            index,
            openers: Mutex::default(),
        }
    }

    /// The repository.
    #[must_use]
    pub fn repository(&self) -> &'r Repository {
        self.repository
    }

    /// The index.
    #[must_use]
    pub fn index(&self) -> &'r Index {
        self.index
    }

    /// The plaintext of a blob, into `out`.
    ///
    /// # Errors
    /// When it is not in the index, or damaged wherever it lies.
    pub fn read(&self, kind: BlobKind, id: Id, out: &mut Vec<u8>) -> Result<(), RepoError> {
        let mut opener = self
            .openers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .unwrap_or_default();
        let result = read_blob(self.repository, self.index, kind, id, &mut opener, out);
        self.openers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(opener);
        result
    }

    /// A tree.
    ///
    /// # Errors
    /// When its blob can't be read or is no tree.
    pub fn tree(&self, id: Id) -> Result<Tree, RepoError> {
        let mut json = Vec::new();
        self.read(BlobKind::Tree, id, &mut json)?;
        Ok(Tree::from_json(&json)?)
    }
}

/// The plaintext of a blob from any pack that holds it.
///
/// # Errors
/// When it is not in the index, or damaged wherever it lies.
pub fn read_blob(
    repository: &Repository,
    index: &Index,
    kind: BlobKind,
    id: Id,
    opener: &mut Opener,
    out: &mut Vec<u8>,
) -> Result<(), RepoError> {
    // The first place is nearly always good; the others are only looked up when it is not.
    let Some(first) = index.find(kind, &id) else {
        return Err(RepoError::BlobUnknown { kind, id });
    };
    match read_place(repository, kind, id, first, opener, out) {
        Err(error) if !error.ends_all() => {
            let mut others = index.find_all(kind, &id);
            others.retain(|place| *place != first);
            read_places(repository, &others, kind, id, opener, out)
                .map_err(|other| error.or_out_of_reach(other))
        }
        done => done,
    }
}

/// As [`read_blob`], from places that were looked up before: so no index is held while a backend is waited for.
///
/// # Errors
/// When there are no places, or it is damaged wherever it lies.
pub fn read_places(
    repository: &Repository,
    places: &[BlobRef],
    kind: BlobKind,
    id: Id,
    opener: &mut Opener,
    out: &mut Vec<u8>,
) -> Result<(), RepoError> {
    let mut failure = RepoError::BlobUnknown { kind, id };
    for place in places {
        match read_place(repository, kind, id, *place, opener, out) {
            Err(error) if !error.ends_all() => failure = error.or_out_of_reach(failure),
            done => return done,
        }
    }
    Err(failure)
}

/// The plaintext of a blob from one place.
pub(crate) fn read_place(
    repository: &Repository,
    kind: BlobKind,
    id: Id,
    place: BlobRef,
    opener: &mut Opener,
    out: &mut Vec<u8>,
) -> Result<(), RepoError> {
    let mut sealed = std::mem::take(&mut opener.sealed);
    // Not cleared before: every byte is read over, or an error.
    sealed.resize(place.length_bytes as usize, 0);
    let name = FileName::new(FileKind::Pack, place.pack);
    let backend = repository.backend();
    let offset_bytes = u64::from(place.offset_bytes);
    let fetched = match kind {
        BlobKind::Data => backend.load_at(name, offset_bytes, &mut sealed),
        BlobKind::Tree => backend.load_tree_at(name, offset_bytes, &mut sealed),
    }
    .map_err(RepoError::from);
    let result = fetched.and_then(|()| {
        let mut plain = std::mem::take(out);
        let opened = open_blob(repository, id, place, &mut sealed, opener, &mut plain);
        let in_place = opened.map(|found| (place.raw_length_bytes == 0).then(|| found.to_vec()));
        match in_place {
            Ok(Some(copy)) => *out = copy,
            Ok(None) => *out = plain,
            Err(error) => return Err(RepoError::from(error)),
        }
        Ok(())
    });
    opener.sealed = sealed;
    result.map_err(|cause| match cause {
        cancelled @ RepoError::Cancelled(_) => cancelled,
        cause => RepoError::BlobDamaged {
            kind,
            id,
            pack: place.pack,
            cause: Box::new(cause),
        },
    })
}

/// Decrypts, decompresses and compares a blob that was fetched; gives the plaintext, which lies in `sealed` or in `out`.
///
/// # Errors
/// When its tag or hash does not fit.
pub fn open_blob<'a>(
    repository: &Repository,
    id: Id,
    place: BlobRef,
    sealed: &'a mut [u8],
    opener: &mut Opener,
    out: &'a mut Vec<u8>,
) -> Result<&'a [u8], FormatError> {
    open_stored(repository, id, place, sealed, opener, out).map(|opened| opened.plain)
}

/// As [`open_blob`] for several blobs in turn, which together costs less: `each` gets them with their numbers, every one
/// compared with its ID, or what is wrong with it.
///
/// # Errors
/// The first one of `each`, which ends it.
pub fn open_blobs<E>(
    repository: &Repository,
    mut blobs: Vec<Fetched<'_>>,
    opener: &mut Opener,
    mut each: impl FnMut(usize, Result<&[u8], FormatError>) -> Result<(), E>,
) -> Result<(), E> {
    let mut rest = blobs.as_mut_slice();
    let mut number = 0;
    while !rest.is_empty() {
        let (together, others) = rest.split_at_mut(together(rest));
        rest = others;
        let plains = std::mem::take(&mut opener.plains);
        let mut plains = plains.into_iter();
        let mut opened = Vec::with_capacity(together.len());
        for blob in together {
            let mut out = plains.next().unwrap_or_default();
            let stored = stored(repository, blob.place, blob.sealed, opener, &mut out);
            opened.push((blob.id, blob.place.raw_length_bytes, stored, out));
        }
        let views = opened.iter().map(|(_, raw, stored, out)| match stored {
            Ok(stored) => choose(*raw, stored, out),
            Err(_) => &[],
        });
        let ids = Id::of_each(&views.collect::<Vec<_>>());
        for ((expected, raw, stored, out), got) in opened.into_iter().zip(ids) {
            let result = match stored {
                Err(error) => Err(error),
                Ok(_) if got != expected => Err(FormatError::Hash { expected, got }),
                Ok(stored) => Ok(choose(raw, stored, &out)),
            };
            each(number, result)?;
            number += 1;
            // Memory that one large blob needed is not kept for small ones.
            let kept: usize = opener.plains.iter().map(Vec::capacity).sum();
            if ((kept + out.capacity()) as u64) <= TOGETHER_MAX_BYTES {
                opener.plains.push(out);
            }
        }
    }
    Ok(())
}

/// How many of these blobs are hashed together, at least one.
fn together(blobs: &[Fetched<'_>]) -> usize {
    let mut bytes = 0;
    let fits = blobs.iter().take(Id::at_once()).take_while(|blob| {
        bytes += blob.place.plain_bytes();
        bytes <= TOGETHER_MAX_BYTES
    });
    fits.count().max(1)
}

/// The plaintext: what was encrypted, if it is not compressed.
fn choose<'a>(raw_length_bytes: u32, stored: &'a [u8], out: &'a [u8]) -> &'a [u8] {
    match raw_length_bytes {
        0 => stored,
        _ => out,
    }
}

/// Decrypts a blob, and decompresses it into `out` if it is compressed. What comes is not compared with any hash.
fn stored<'a>(
    repository: &Repository,
    place: BlobRef,
    sealed: &'a mut [u8],
    opener: &mut Opener,
    out: &mut Vec<u8>,
) -> Result<&'a [u8], FormatError> {
    let stored: &'a [u8] = repository.master().open(sealed)?;
    if place.raw_length_bytes != 0 {
        if u64::from(place.raw_length_bytes) > BLOB_MAX_BYTES {
            return Err(FormatError::Limit {
                what: "length of a blob",
                got: u64::from(place.raw_length_bytes),
                limit: BLOB_MAX_BYTES,
            });
        }
        opener
            .decompressor
            .exactly(stored, place.raw_length_bytes as usize, out)?;
    }
    Ok(stored)
}

/// A blob that was decrypted and compared with its ID.
pub(crate) struct Opened<'a> {
    /// What was encrypted: a compressed frame, or the plaintext itself.
    pub(crate) stored: &'a [u8],
    /// The plaintext.
    pub(crate) plain: &'a [u8],
}

/// As [`open_blob`], and gives also what was encrypted.
pub(crate) fn open_stored<'a>(
    repository: &Repository,
    id: Id,
    place: BlobRef,
    sealed: &'a mut [u8],
    opener: &mut Opener,
    out: &'a mut Vec<u8>,
) -> Result<Opened<'a>, FormatError> {
    open_hashed(repository, id, place, sealed, opener, out, Id::of)
}

/// As [`open_stored`], with the hash by `hash`.
pub(crate) fn open_hashed<'a>(
    repository: &Repository,
    id: Id,
    place: BlobRef,
    sealed: &'a mut [u8],
    opener: &mut Opener,
    out: &'a mut Vec<u8>,
    hash: impl FnOnce(&[u8]) -> Id,
) -> Result<Opened<'a>, FormatError> {
    let stored = stored(repository, place, sealed, opener, out)?;
    let plain = choose(place.raw_length_bytes, stored, out);
    let got = hash(plain);
    if got == id {
        Ok(Opened { stored, plain })
    } else {
        Err(FormatError::Hash { expected: id, got })
    }
}

//! The rows of many index files in one piece, sorted by blob: in memory, or mapped from a file of the cache.
//! It must never be believed before its tag was compared, if it comes from a file.
//!
//! A header is followed by the IDs of the index files, the packs (first those without a mark), then for each section
//! where the rows begin that share the first bits of their IDs, and the rows themselves.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use hmac::{Hmac, KeyInit as _, Mac as _};
use lifeboat_format::{BlobKind, Id, MasterKey};
use lifeboat_kernels::Mapping;
use sha2::Sha256;

use super::builder::processors;
use super::row::{PACK_ROW_BYTES, PackRow, ROW_BYTES, Rest, Row, RowBytes};
use crate::at_once::each_number;

/// What the file begins with; the last byte is the version of all that follows.
const MAGIC: [u8; 16] = *b"lifeboat-index\0\x01";
/// Length of the header in bytes.
const HEADER_BYTES: u64 = 256;
/// Where the tag lies in the header.
const TAG_AT: usize = 224;
/// Length of the tag in bytes.
const TAG_BYTES: usize = 32;
/// Length of a number of a row, in bytes.
const START_BYTES: u64 = 4;
/// So many rows at least share a start: 6 KiB, in which a search touches two pages.
const ROWS_OF_A_START: u32 = 128;
/// Bits at most by which starts are told apart.
const START_BITS_MAX: u32 = 24;
/// What is hashed at once when a file is verified, in bytes.
const SEGMENT_BYTES: u64 = 1024 * 1024;
/// What the key is for.
const KEY_PURPOSE: &[u8] = b"lifeboat: the image of an index in a cache, version 1";
/// Memory of a mapped image that was looked at, in bytes: beyond it all of it is given back. What is looked up in no order
/// comes back at once, so that less would cost more time than the memory is worth, which the system can take anyway.
const MAPPED_MAX_BYTES: usize = 512 * 1024 * 1024;
/// The same where rows are looked at in their order.
const MAPPED_IN_ORDER_MAX_BYTES: usize = 32 * 1024 * 1024;
/// What the system fetches with each page that is looked at, in bytes (`fault_around_bytes` of Linux).
const REGION_BYTES: usize = 64 * 1024;

/// Sections: blobs of a kind in packs with or without a mark.
pub(crate) const SECTIONS: usize = 4;

/// Whether a pack is marked for deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is not.
    Stays,
    /// It is.
    Marked,
}

impl Standing {
    pub(crate) const ALL: [Self; 2] = [Self::Stays, Self::Marked];

    pub(crate) fn number(self) -> usize {
        usize::from(self == Self::Marked)
    }
}

/// The number of a section.
pub(crate) fn section(standing: Standing, kind: BlobKind) -> usize {
    2 * standing.number() + usize::from(kind == BlobKind::Tree)
}

/// How many there are of everything, which says where everything is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) files: u32,
    pub(crate) packs: [u32; 2],
    pub(crate) rows: [u32; SECTIONS],
}

impl Layout {
    /// By how many of its first bits an ID leads to a start.
    pub(crate) fn bits(&self, section: usize) -> u32 {
        let rows = self.rows.get(section).copied().unwrap_or(0);
        let starts = rows / ROWS_OF_A_START;
        starts.checked_ilog2().unwrap_or(0).min(START_BITS_MAX)
    }

    pub(crate) fn starts(&self, section: usize) -> usize {
        (1 << self.bits(section)) + 1
    }

    pub(crate) fn files_at(&self) -> u64 {
        HEADER_BYTES
    }

    pub(crate) fn packs_at(&self, standing: Standing) -> u64 {
        let before = self.packs.iter().take(standing.number());
        let before: u64 = before.map(|packs| u64::from(*packs)).sum();
        self.files_at() + u64::from(self.files) * Id::BYTES as u64 + before * PACK_ROW_BYTES as u64
    }

    fn packs_end(&self) -> u64 {
        let [_, marked] = self.packs;
        self.packs_at(Standing::Marked) + u64::from(marked) * PACK_ROW_BYTES as u64
    }

    pub(crate) fn starts_at(&self, section: usize) -> u64 {
        let before: u64 = (0..section).map(|before| self.starts(before) as u64).sum();
        self.packs_end() + before * START_BYTES
    }

    pub(crate) fn rows_at(&self, section: usize) -> u64 {
        let before = self.rows.iter().take(section);
        let before: u64 = before.map(|rows| u64::from(*rows)).sum();
        self.starts_at(SECTIONS) + before * ROW_BYTES as u64
    }

    pub(crate) fn whole_bytes(&self) -> u64 {
        self.rows_at(SECTIONS)
    }

    /// The header without its tag.
    fn header(&self, repository: &Id) -> [u8; TAG_AT] {
        let mut header = [0; TAG_AT];
        let counts = [self.files].into_iter().chain(self.packs).chain(self.rows);
        let counts = counts.flat_map(u32::to_be_bytes);
        let fields = MAGIC.into_iter().chain(repository.0).chain(counts);
        for (slot, byte) in header.iter_mut().zip(fields) {
            *slot = byte;
        }
        header
    }

    fn of_header(header: &[u8]) -> Self {
        let mut rest = Rest(header);
        let _: [u8; MAGIC.len() + Id::BYTES] = rest.bytes();
        Self {
            files: rest.u32(),
            packs: [0; 2].map(|_: u32| rest.u32()),
            rows: [0; SECTIONS].map(|_: u32| rest.u32()),
        }
    }
}

/// The number that an ID's first bits make.
pub(crate) fn first_bits(id: &[u8], bits: u32) -> usize {
    let head = id.first_chunk().copied().map_or(0, u32::from_be_bytes);
    (u64::from(head) << bits >> u32::BITS) as usize
}

/// What the images of a repository are told from others by.
pub(crate) struct Seal {
    repository: Id,
    mac: Hmac<Sha256>,
}

impl Seal {
    /// Of the repository with this ID and these keys.
    pub(crate) fn new(repository_id: &str, master: &MasterKey) -> Option<Self> {
        let keys = zeroize::Zeroizing::new(master.to_json());
        let mut mac = Hmac::new_from_slice(&keys).ok()?;
        mac.update(KEY_PURPOSE);
        Some(Self {
            repository: Id::of(repository_id.as_bytes()),
            mac,
        })
    }

    /// The tag over a header and all that follows it in the file.
    fn over(
        &self,
        header: &[u8; TAG_AT],
        file: &File,
        whole_bytes: u64,
    ) -> io::Result<Hmac<Sha256>> {
        let mut mac = self.mac.clone();
        mac.update(header);
        for hash in segments(file, whole_bytes)? {
            mac.update(&hash.0);
        }
        Ok(mac)
    }

    /// Completes a file whose rows are written.
    pub(crate) fn finish(&self, file: &File, layout: &Layout) -> io::Result<()> {
        let header = layout.header(&self.repository);
        let tag = self.over(&header, file, layout.whole_bytes())?;
        file.write_all_at(&header, 0)?;
        file.write_all_at(&tag.finalize().into_bytes(), TAG_AT as u64)
    }

    /// Whether a file is an image of this repository, whole and as it was written.
    pub(crate) fn verify(&self, file: &File) -> io::Result<Option<Layout>> {
        let mut head = [0; TAG_AT + TAG_BYTES];
        let whole_bytes = file.metadata()?.len();
        if whole_bytes < HEADER_BYTES {
            return Ok(None);
        }
        file.read_exact_at(&mut head, 0)?;
        let Some((header, tag)) = head.split_first_chunk() else {
            return Ok(None);
        };
        let layout = Layout::of_header(header);
        if *header != layout.header(&self.repository) || layout.whole_bytes() != whole_bytes {
            return Ok(None);
        }
        let found = self.over(header, file, whole_bytes)?;
        Ok(found.verify_slice(tag).is_ok().then_some(layout))
    }
}

/// The hashes of all that follows the header, piece by piece, by as many threads as there are processors.
fn segments(file: &File, whole_bytes: u64) -> io::Result<Vec<Id>> {
    let count = whole_bytes
        .saturating_sub(HEADER_BYTES)
        .div_ceil(SEGMENT_BYTES);
    let count = usize::try_from(count).map_err(io::Error::other)?;
    let hashes: Vec<Mutex<Id>> = (0..count).map(|_| Mutex::default()).collect();
    let hash_one = |buffer: &mut Vec<u8>, number: usize| {
        let from = HEADER_BYTES + number as u64 * SEGMENT_BYTES;
        let bytes = SEGMENT_BYTES.min(whole_bytes - from);
        buffer.resize(usize::try_from(bytes).map_err(io::Error::other)?, 0);
        file.read_exact_at(buffer, from)?;
        if let Some(slot) = hashes.get(number) {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Id::of(buffer);
        }
        Ok::<(), io::Error>(())
    };
    each_number(processors(), count, Vec::new, hash_one)?;
    let hashes = hashes.into_iter();
    Ok(hashes
        .map(|hash| hash.into_inner().unwrap_or_else(PoisonError::into_inner))
        .collect())
}

enum Bytes {
    /// All that comes before the rows, and the rows of each section.
    Memory {
        head: Vec<u8>,
        rows: [Vec<RowBytes>; SECTIONS],
    },
    Mapped {
        mapping: Mapping,
        touched: Touched,
    },
}

/// An image.
pub(crate) struct Image {
    bytes: Bytes,
    layout: Layout,
}

impl Image {
    /// Of what was made in this process: all that comes before the rows, and the rows of each section.
    pub(crate) fn in_memory(
        head: Vec<u8>,
        rows: [Vec<RowBytes>; SECTIONS],
        layout: Layout,
    ) -> Self {
        Self {
            bytes: Bytes::Memory { head, rows },
            layout,
        }
    }

    /// Of a file that was verified.
    pub(crate) fn mapped(file: &File, layout: Layout) -> io::Result<Self> {
        let mapping = Mapping::of(file)?;
        let touched = Touched::of(mapping.bytes().len());
        Ok(Self {
            bytes: Bytes::Mapped { mapping, touched },
            layout,
        })
    }

    /// The IDs of the index files, by their numbers.
    pub(crate) fn files(&self) -> impl Iterator<Item = Id> + '_ {
        let at = self.layout.files_at();
        (0..u64::from(self.layout.files)).map_while(move |number| {
            let bytes = self.get(at + number * Id::BYTES as u64, Id::BYTES)?;
            Some(Id(*bytes.first_chunk()?))
        })
    }

    /// The packs of a standing, by their numbers.
    pub(crate) fn packs(&self, standing: Standing) -> impl Iterator<Item = PackRow> + '_ {
        let at = self.layout.packs_at(standing);
        let [stays, marked] = self.layout.packs;
        let count = if standing == Standing::Stays {
            stays
        } else {
            marked
        };
        (0..u64::from(count)).map_while(move |number| {
            let bytes = self.get(at + number * PACK_ROW_BYTES as u64, PACK_ROW_BYTES)?;
            Some(PackRow::of(bytes.first_chunk()?))
        })
    }

    /// How many rows a section has.
    pub(crate) fn rows(&self, section: usize) -> u32 {
        self.layout.rows.get(section).copied().unwrap_or(0)
    }

    /// A row of a section by its number.
    pub(crate) fn row(&self, section: usize, number: u32) -> Option<Row> {
        Some(Row::of(self.rows_from(section, number, 1)?.first()?))
    }

    /// So many rows of a section, from a number on; none if there are not so many.
    fn rows_from(&self, section: usize, first: u32, count: u32) -> Option<&[RowBytes]> {
        let end = first.checked_add(count)?;
        (end <= self.rows(section)).then_some(())?;
        if let Bytes::Memory { rows, .. } = &self.bytes {
            return rows.get(section)?.get(first as usize..end as usize);
        }
        let at = self.layout.rows_at(section) + u64::from(first) * ROW_BYTES as u64;
        Some(self.get(at, count as usize * ROW_BYTES)?.as_chunks().0)
    }

    /// The numbers of the rows of a blob in a section.
    pub(crate) fn find(&self, section: usize, id: &Id) -> Range<u32> {
        self.search(section, id).unwrap_or(0..0)
    }

    fn search(&self, section: usize, id: &Id) -> Option<Range<u32>> {
        let first = first_bits(&id.0, self.layout.bits(section)) as u64;
        let at = self.layout.starts_at(section) + first * START_BYTES;
        let mut ends = Rest(self.get(at, 2 * START_BYTES as usize)?);
        let (from, to) = (ends.u32(), ends.u32());
        let rows = self.rows_from(section, from, to.checked_sub(from)?)?;
        let begin = rows.partition_point(|row| row[..Id::BYTES] < id.0[..]);
        let same = rows.get(begin..)?.iter();
        let same = same.take_while(|row| row[..Id::BYTES] == id.0).count();
        let begin = from + u32::try_from(begin).ok()?;
        Some(begin..begin + u32::try_from(same).ok()?)
    }

    /// Says that rows are looked at in their order from now on, so that few need to be in memory.
    pub(crate) fn expect_order(&self) {
        if let Bytes::Mapped { touched, .. } = &self.bytes {
            let regions = MAPPED_IN_ORDER_MAX_BYTES / REGION_BYTES;
            touched.max_regions.store(regions, Ordering::Relaxed);
        }
    }

    /// Memory that it takes, in bytes; what is mapped belongs to the system.
    pub(crate) fn memory_bytes(&self) -> usize {
        match &self.bytes {
            Bytes::Memory { head, rows } => {
                let rows = rows.iter().map(Vec::capacity).sum::<usize>();
                head.capacity() + rows * ROW_BYTES
            }
            Bytes::Mapped { .. } => 0,
        }
    }

    /// Bytes of what comes before the rows or, if it is mapped, of all.
    fn get(&self, at: u64, bytes: usize) -> Option<&[u8]> {
        let from = usize::try_from(at).ok()?;
        let range = from..from.checked_add(bytes)?;
        match &self.bytes {
            Bytes::Memory { head, .. } => head.get(range),
            Bytes::Mapped { mapping, touched } => {
                touched.touch(from, mapping);
                mapping.bytes().get(range)
            }
        }
    }
}

/// What was looked at of a mapping, as far as its memory was not given back.
struct Touched {
    regions: Vec<AtomicU64>,
    count: AtomicUsize,
    /// How many may be, before they are given back.
    max_regions: AtomicUsize,
}

impl Touched {
    fn of(bytes: usize) -> Self {
        let words = bytes.div_ceil(REGION_BYTES).div_ceil(64);
        Self {
            regions: (0..words).map(|_| AtomicU64::new(0)).collect(),
            count: AtomicUsize::new(0),
            max_regions: AtomicUsize::new(MAPPED_MAX_BYTES / REGION_BYTES),
        }
    }

    /// Notes that the region of an offset is looked at, and gives the memory of all regions back if they are too many.
    fn touch(&self, at: usize, mapping: &Mapping) {
        let region = at / REGION_BYTES;
        let bit = 1 << (region % 64);
        let Some(word) = self.regions.get(region / 64) else {
            return;
        };
        if word.load(Ordering::Relaxed) & bit != 0
            || word.fetch_or(bit, Ordering::Relaxed) & bit != 0
        {
            return;
        }
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        if count >= self.max_regions.load(Ordering::Relaxed) {
            self.count.store(0, Ordering::Relaxed);
            for word in &self.regions {
                word.store(0, Ordering::Relaxed);
            }
            mapping.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_back_comes_again() {
        let file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..20 * REGION_BYTES).map(|at| (at / 777) as u8).collect();
        file.write_all_at(&content, 0).unwrap();
        let image = Image::mapped(&file, Layout::default()).unwrap();
        let Bytes::Mapped { touched, .. } = &image.bytes else {
            panic!("it is mapped");
        };
        touched.max_regions.store(2, Ordering::Relaxed);
        std::thread::scope(|scope| {
            for step in [1000, 70_001, 131_072] {
                let (image, content) = (&image, &content);
                scope.spawn(move || {
                    for at in (0..content.len() - 48).step_by(step) {
                        assert_eq!(image.get(at as u64, 48).unwrap(), &content[at..at + 48]);
                    }
                });
            }
        });
        assert!(touched.count.load(Ordering::Relaxed) <= 6);
        assert!(image.get(content.len() as u64 - 47, 48).is_none());
    }
}

//! Makes an image of an index out of index files in any order, in bounded memory if it goes into a file.
//! It must never leave a row out silently: what can't be counted or written is an error.
//!
//! Rows are sorted into buckets by the first byte of their IDs, which are hashes. When too many are held, all buckets are
//! spilled to a file without a name; in the end each bucket is gathered, sorted and written to its place by itself.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, Ordering};

use lifeboat_format::{BlobKind, Id, IndexBlob, IndexFile};

use super::image::{Image, Layout, SECTIONS, Seal, Standing, first_bits, section};
use super::row::{PackRow, ROW_BYTES, Row, RowBytes};
use crate::at_once::each_number;

/// Rows that are held before they are spilled, in bytes.
const HELD_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Fewer rows are sorted by one thread.
const SORTED_ALONE_MAX_ROWS: usize = 10_000;
/// Buckets of a section: one for each first byte.
const BUCKETS: usize = 256;

/// Where rows are until they are sorted.
enum Rows {
    /// All of a section in one piece, where they will stay.
    Memory([Vec<RowBytes>; SECTIONS]),
    /// In buckets, most of them in a file.
    Spilled(Box<Buckets>),
}

struct Buckets {
    held: Vec<Vec<RowBytes>>,
    held_bytes: usize,
    /// What is held before it is spilled, in bytes.
    held_max_bytes: usize,
    counts: Vec<u32>,
    file: File,
    end_bytes: u64,
    /// For each bucket where its pieces begin in the file, and how many rows they have.
    pieces: Vec<Vec<(u64, usize)>>,
}

impl Buckets {
    fn spilling_to(file: File) -> Self {
        let buckets = SECTIONS * BUCKETS;
        Self {
            held: vec![Vec::new(); buckets],
            held_bytes: 0,
            held_max_bytes: HELD_MAX_BYTES,
            counts: vec![0; buckets],
            file,
            end_bytes: 0,
            pieces: vec![Vec::new(); buckets],
        }
    }

    fn push(&mut self, section: usize, row: &Row) -> io::Result<()> {
        let bucket = section * BUCKETS + usize::from(row.id.0[0]);
        let (Some(rows), Some(count)) = (self.held.get_mut(bucket), self.counts.get_mut(bucket))
        else {
            return Err(too_many());
        };
        *count = count.checked_add(1).ok_or_else(too_many)?;
        rows.push(row.to_bytes());
        self.held_bytes += ROW_BYTES;
        if self.held_bytes >= self.held_max_bytes {
            self.spill()?;
        }
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        self.held_bytes = 0;
        for (rows, pieces) in self.held.iter_mut().zip(&mut self.pieces) {
            if rows.is_empty() {
                continue;
            }
            let bytes = rows.as_flattened();
            self.file.write_all_at(bytes, self.end_bytes)?;
            pieces.push((self.end_bytes, rows.len()));
            self.end_bytes += bytes.len() as u64;
            rows.clear();
        }
        Ok(())
    }

    /// All rows of a bucket, sorted.
    fn gather(&self, bucket: usize, rows: &mut Vec<RowBytes>) -> io::Result<()> {
        rows.clear();
        rows.extend_from_slice(self.held.get(bucket).map_or(&[], Vec::as_slice));
        for (at, count) in self.pieces.get(bucket).into_iter().flatten() {
            let begin = rows.len();
            rows.resize(begin + count, [0; ROW_BYTES]);
            if let Some(piece) = rows.get_mut(begin..) {
                self.file.read_exact_at(piece.as_flattened_mut(), *at)?;
            }
        }
        sort(rows);
        Ok(())
    }
}

/// An image in the making.
pub(crate) struct ImageBuilder {
    files: Vec<Id>,
    packs: [Vec<PackRow>; 2],
    rows: Rows,
}

fn too_many() -> io::Error {
    io::Error::other("the index names more than can be numbered")
}

impl ImageBuilder {
    /// Without a file to spill to, all rows stay in memory.
    pub(crate) fn new(spill: Option<File>) -> Self {
        Self {
            files: Vec::new(),
            packs: Default::default(),
            rows: match spill {
                Some(file) => Rows::Spilled(Box::new(Buckets::spilling_to(file))),
                None => Rows::Memory(Default::default()),
            },
        }
    }

    /// Takes an index file.
    pub(crate) fn add(&mut self, id: Id, file: IndexFile) -> io::Result<()> {
        let number = self.add_file(id)?;
        for pack in file.packs {
            let row = PackRow::of_pack(&pack, number);
            self.add_pack(Standing::Stays, row, &pack.blobs)?;
        }
        for marked in file.packs_to_delete {
            let (row, pack) = PackRow::of_mark(marked, number);
            self.add_pack(Standing::Marked, row, &pack.blobs)?;
        }
        Ok(())
    }

    /// Takes an image, but for the index files that `keeps` refuses.
    pub(crate) fn add_image(
        &mut self,
        image: &Image,
        keeps: impl Fn(&Id) -> bool,
    ) -> io::Result<()> {
        let mut files = Vec::new();
        for id in image.files() {
            files.push(if keeps(&id) {
                Some(self.add_file(id)?)
            } else {
                None
            });
        }
        for standing in Standing::ALL {
            let mut packs = Vec::new();
            for pack in image.packs(standing) {
                let file = files.get(pack.file as usize).copied().flatten();
                packs.push(match file {
                    Some(file) => Some(self.number_pack(standing, PackRow { file, ..pack })?),
                    None => None,
                });
            }
            for kind in [BlobKind::Data, BlobKind::Tree] {
                let section = section(standing, kind);
                for number in 0..image.rows(section) {
                    let row = image.row(section, number).ok_or_else(too_many)?;
                    if let Some(pack) = packs.get(row.pack as usize).copied().flatten() {
                        self.push(section, Row { pack, ..row })?;
                    }
                }
            }
        }
        Ok(())
    }

    fn add_file(&mut self, id: Id) -> io::Result<u32> {
        let number = u32::try_from(self.files.len()).map_err(|_| too_many())?;
        self.files.push(id);
        Ok(number)
    }

    fn number_pack(&mut self, standing: Standing, pack: PackRow) -> io::Result<u32> {
        let [stays, marked] = &mut self.packs;
        let packs = match standing {
            Standing::Stays => stays,
            Standing::Marked => marked,
        };
        let number = u32::try_from(packs.len()).map_err(|_| too_many())?;
        packs.push(pack);
        Ok(number)
    }

    fn add_pack(
        &mut self,
        standing: Standing,
        pack: PackRow,
        blobs: &[IndexBlob],
    ) -> io::Result<()> {
        let pack = self.number_pack(standing, pack)?;
        blobs.iter().try_for_each(|blob| {
            let row = Row {
                id: blob.id,
                pack,
                offset_bytes: blob.offset_bytes,
                length_bytes: blob.length_bytes,
                raw_length_bytes: blob.raw_length_bytes,
            };
            self.push(section(standing, blob.kind), row)
        })
    }

    fn push(&mut self, section: usize, row: Row) -> io::Result<()> {
        match &mut self.rows {
            Rows::Memory(sections) => {
                let rows = sections.get_mut(section).ok_or_else(too_many)?;
                rows.push(row.to_bytes());
                Ok(())
            }
            Rows::Spilled(buckets) => buckets.push(section, &row),
        }
    }

    fn layout(&self) -> io::Result<Layout> {
        let [stays, marked] = &self.packs;
        let count = |length: usize| u32::try_from(length).map_err(|_| too_many());
        let sum = |counts: &[u32]| counts.iter().map(|count| *count as usize).sum();
        let rows: Vec<usize> = match &self.rows {
            Rows::Memory(sections) => sections.iter().map(Vec::len).collect(),
            Rows::Spilled(buckets) => buckets.counts.chunks(BUCKETS).map(sum).collect(),
        };
        let mut layout = Layout {
            files: count(self.files.len())?,
            packs: [count(stays.len())?, count(marked.len())?],
            rows: [0; SECTIONS],
        };
        for (slot, rows) in layout.rows.iter_mut().zip(rows) {
            *slot = count(rows)?;
        }
        Ok(layout)
    }

    /// The image, in the file if there was one to spill to, else in memory.
    pub(crate) fn finish(mut self, into: Option<(&File, &Seal)>) -> io::Result<Image> {
        let layout = self.layout()?;
        let starts = Starts::new(&layout);
        match (&mut self.rows, into) {
            (Rows::Spilled(buckets), Some((file, seal))) => {
                write_rows(buckets, &layout, &starts, file)?;
                file.write_all_at(&self.head(&layout, &starts), 0)?;
                seal.finish(file, &layout)?;
                // What a disk refuses to take must show now, not when a page comes back as something else.
                file.sync_data()?;
                Image::mapped(file, layout)
            }
            (Rows::Memory(sections), None) => {
                let mut sections = std::mem::take(sections);
                for (section, rows) in sections.iter_mut().enumerate() {
                    sort_at_once(rows, processors());
                    starts.count(section, rows);
                    rows.shrink_to_fit();
                }
                Ok(Image::in_memory(
                    self.head(&layout, &starts),
                    sections,
                    layout,
                ))
            }
            _ => Err(io::Error::other("rows are elsewhere than their image")),
        }
    }

    /// All that comes before the rows; the header is left empty.
    fn head(&self, layout: &Layout, starts: &Starts) -> Vec<u8> {
        let mut head = Vec::with_capacity(usize::try_from(layout.rows_at(0)).unwrap_or(0));
        head.resize(usize::try_from(layout.files_at()).unwrap_or(0), 0);
        for id in &self.files {
            head.extend_from_slice(&id.0);
        }
        for pack in self.packs.iter().flatten() {
            head.extend_from_slice(&pack.to_bytes());
        }
        starts.write(&mut head);
        head
    }
}

/// Sorts one bucket after the other and writes each to its place.
fn write_rows(buckets: &Buckets, layout: &Layout, starts: &Starts, file: &File) -> io::Result<()> {
    let mut at = layout.rows_at(0);
    let places: Vec<u64> = buckets
        .counts
        .iter()
        .map(|count| {
            let place = at;
            at += u64::from(*count) * ROW_BYTES as u64;
            place
        })
        .collect();
    let write_one = |rows: &mut Vec<RowBytes>, bucket: usize| {
        let Some(place) = places.get(bucket) else {
            return Ok(());
        };
        buckets.gather(bucket, rows)?;
        starts.count(bucket / BUCKETS, rows);
        file.write_all_at(rows.as_flattened(), *place)
    };
    each_number(processors(), places.len(), Vec::new, write_one)
}

pub(super) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Sorts rows as their bytes are.
fn sort(rows: &mut [RowBytes]) {
    // Nearly always the first bytes decide, which are compared as a number many times faster.
    let head = |row: &RowBytes| row.first_chunk().copied().map_or(0, u64::from_be_bytes);
    rows.sort_unstable_by(|one, other| head(one).cmp(&head(other)).then_with(|| one.cmp(other)));
}

/// The same with so many threads.
fn sort_at_once(rows: &mut [RowBytes], threads: usize) {
    if threads < 2 || rows.len() < SORTED_ALONE_MAX_ROWS {
        return sort(rows);
    }
    let middle = rows.len() / 2;
    rows.select_nth_unstable(middle);
    let (low, high) = rows.split_at_mut(middle);
    std::thread::scope(|scope| {
        scope.spawn(|| sort_at_once(low, threads / 2));
        sort_at_once(high, threads - threads / 2);
    });
}

/// How many rows begin with each of the bits that lead to a start, until they are summed up.
struct Starts {
    bits: [u32; SECTIONS],
    counts: [Vec<AtomicU32>; SECTIONS],
}

impl Starts {
    fn new(layout: &Layout) -> Self {
        let sections = [0, 1, 2, 3];
        Self {
            bits: sections.map(|section| layout.bits(section)),
            counts: sections.map(|section| {
                (1..layout.starts(section))
                    .map(|_| AtomicU32::new(0))
                    .collect()
            }),
        }
    }

    fn count(&self, section: usize, rows: &[RowBytes]) {
        let (Some(bits), Some(counts)) = (self.bits.get(section), self.counts.get(section)) else {
            return;
        };
        for row in rows {
            if let Some(count) = counts.get(first_bits(row, *bits)) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        for counts in &self.counts {
            let mut start = 0u32;
            for count in counts {
                out.extend_from_slice(&start.to_be_bytes());
                start = start.saturating_add(count.load(Ordering::Relaxed));
            }
            out.extend_from_slice(&start.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_format::{IndexPack, MasterKey};

    use super::*;

    fn file(number: u32) -> (Id, IndexFile) {
        let blob = |at: u32| IndexBlob {
            id: Id::of(&(number * 7 + at).to_le_bytes()),
            kind: if at.is_multiple_of(5) {
                BlobKind::Tree
            } else {
                BlobKind::Data
            },
            offset_bytes: at * 100,
            length_bytes: 100,
            raw_length_bytes: 0,
        };
        let packs = vec![IndexPack {
            id: Id::of(&number.to_be_bytes()),
            blobs: (0..10).map(blob).collect(),
        }];
        let packs_to_delete = Vec::new();
        let file = IndexFile {
            packs,
            packs_to_delete,
        };
        (Id::of(format!("file {number}").as_bytes()), file)
    }

    fn all(image: &Image) -> Vec<Vec<Row>> {
        let rows = |section| (0..image.rows(section)).map(move |number| image.row(section, number));
        (0..SECTIONS)
            .map(|section| rows(section).map(Option::unwrap).collect())
            .collect()
    }

    #[test]
    fn what_was_spilled_many_times_is_the_same_as_what_was_held() {
        let seal = Seal::new("repository", &MasterKey::from_bytes(&[7; 64])).unwrap();
        let mut spilling = ImageBuilder::new(Some(tempfile::tempfile().unwrap()));
        if let Rows::Spilled(buckets) = &mut spilling.rows {
            buckets.held_max_bytes = 40 * ROW_BYTES;
        }
        let mut holding = ImageBuilder::new(None);
        for number in 0..300 {
            for builder in [&mut spilling, &mut holding] {
                let (id, file) = file(number);
                builder.add(id, file).unwrap();
            }
        }
        let target = tempfile::tempfile().unwrap();
        let mapped = spilling.finish(Some((&target, &seal))).unwrap();
        let held = holding.finish(None).unwrap();
        assert_eq!(all(&mapped), all(&held));
        assert!(mapped.files().eq(held.files()));
        assert_eq!(
            seal.verify(&target).unwrap().map(|layout| layout.files),
            Some(300)
        );
        for section in 0..SECTIONS {
            let rows = &all(&held)[section];
            assert!(rows.is_sorted_by_key(|row| (row.id, row.pack)));
            for image in [&mapped, &held] {
                for row in rows {
                    let found = image.find(section, &row.id);
                    let found: Vec<Row> = found
                        .filter_map(|number| image.row(section, number))
                        .collect();
                    assert!(found.contains(row) && found.iter().all(|other| other.id == row.id));
                }
                assert!(image.find(section, &Id::of(b"nobody")).is_empty());
            }
        }
        // Nothing is left of what is not kept, and the rest stays.
        let mut some = ImageBuilder::new(None);
        let kept = file(8).0;
        some.add_image(&mapped, |id| *id == kept).unwrap();
        let some = some.finish(None).unwrap();
        assert_eq!(some.files().collect::<Vec<Id>>(), [kept]);
        assert_eq!(all(&some).concat().len(), 10);
        assert!(some.packs(Standing::Stays).all(|pack| pack.file == 0));
    }

    #[test]
    fn many_threads_sort_as_one() {
        let mut rows: Vec<RowBytes> = Vec::new();
        for number in 0..30_000u32 {
            let (_, file) = file(number % 9_000);
            let blob = file.packs[0].blobs[number as usize % 10];
            let row = Row {
                id: blob.id,
                pack: number,
                offset_bytes: 0,
                length_bytes: 0,
                raw_length_bytes: 0,
            };
            rows.push(row.to_bytes());
        }
        let mut plain = rows.clone();
        plain.sort();
        sort_at_once(&mut rows, 5);
        assert!(rows == plain);
    }
}

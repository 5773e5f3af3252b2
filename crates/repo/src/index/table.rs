//! The places of all blobs of a kind: rows of images, which are sorted, and after them what came later, found by hashing.
//! It must never give a row a number that another one has, nor change it.

use std::sync::Arc;

use hashbrown::HashTable;
use lifeboat_format::Id;

use super::image::Image;
use super::row::Row;

/// Rows of one allocation: growing never copies or doubles the whole table.
const SLAB_ROWS: usize = 256;

/// A section of an image.
struct Sorted {
    image: Arc<Image>,
    section: usize,
    /// The number of its first row in the table.
    first: u32,
    /// The number of the image's first pack in the index.
    first_pack: u32,
}

impl Sorted {
    fn row(&self, number: u32) -> Option<Row> {
        let row = self
            .image
            .row(self.section, number.checked_sub(self.first)?)?;
        let pack = row.pack.checked_add(self.first_pack)?;
        Some(Row { pack, ..row })
    }

    fn numbers(&self, id: &Id) -> impl Iterator<Item = u32> + use<> {
        let first = self.first;
        self.image
            .find(self.section, id)
            .map(move |number| first + number)
    }
}

/// The places of all blobs of a kind.
#[derive(Default)]
pub(super) struct Table {
    sorted: Vec<Sorted>,
    /// Rows of the images.
    sorted_len: usize,
    slabs: Vec<Vec<Row>>,
    /// Rows in the slabs.
    len: usize,
    numbers: HashTable<u32>,
}

/// IDs are hashes already: their first bytes spread as well as any function of them.
fn spread(id: &Id) -> u64 {
    id.0.first_chunk().copied().map_or(0, u64::from_le_bytes)
}

fn in_slabs(slabs: &[Vec<Row>], number: u32) -> Option<&Row> {
    let number = number as usize;
    slabs.get(number / SLAB_ROWS)?.get(number % SLAB_ROWS)
}

impl Table {
    /// Takes a section of an image, before any row is pushed.
    pub(super) fn take_image(&mut self, image: &Arc<Image>, section: usize, first_pack: u32) {
        let rows = image.rows(section) as usize;
        let Ok(first) = u32::try_from(self.sorted_len) else {
            return;
        };
        // What can't be numbered is not known, which stores it once more.
        if rows == 0 || u32::try_from(self.sorted_len + rows).is_err() {
            return;
        }
        self.sorted.push(Sorted {
            image: Arc::clone(image),
            section,
            first,
            first_pack,
        });
        self.sorted_len += rows;
    }

    /// Rows of all images and what came later.
    pub(super) fn len(&self) -> usize {
        self.sorted_len + self.len
    }

    /// A row by its number.
    pub(super) fn row(&self, number: u32) -> Option<Row> {
        match (number as usize).checked_sub(self.sorted_len) {
            Some(number) => in_slabs(&self.slabs, u32::try_from(number).ok()?).copied(),
            None => self
                .sorted
                .iter()
                .rfind(|sorted| sorted.first <= number)?
                .row(number),
        }
    }

    /// All rows in the order of their numbers.
    pub(super) fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        (0..u32::try_from(self.len()).unwrap_or(u32::MAX)).filter_map(|number| self.row(number))
    }

    pub(super) fn push(&mut self, row: Row) {
        if u32::try_from(self.len()).is_err() {
            return;
        }
        let Ok(number) = u32::try_from(self.len) else {
            return;
        };
        if self.slabs.last().is_none_or(|slab| slab.len() == SLAB_ROWS) {
            // The first slab grows by itself, so that a small repository stays small.
            self.slabs.push(if self.slabs.is_empty() {
                Vec::new()
            } else {
                Vec::with_capacity(SLAB_ROWS)
            });
        }
        if let Some(slab) = self.slabs.last_mut() {
            slab.push(row);
        }
        self.len += 1;
        let slabs = &self.slabs;
        let rehash = |number: &u32| in_slabs(slabs, *number).map_or(0, |row| spread(&row.id));
        self.numbers.insert_unique(spread(&row.id), number, rehash);
    }

    /// The rows of a blob.
    pub(super) fn all<'a>(&'a self, id: &'a Id) -> impl Iterator<Item = Row> + 'a {
        self.all_numbers(id).filter_map(|number| self.row(number))
    }

    /// The numbers of a blob's rows.
    pub(super) fn all_numbers<'a>(&'a self, id: &'a Id) -> impl Iterator<Item = u32> + 'a {
        let sorted = self.sorted.iter().flat_map(|sorted| sorted.numbers(id));
        let later = self
            .numbers
            .iter_hash(spread(id))
            .copied()
            .filter(move |number| in_slabs(&self.slabs, *number).is_some_and(|row| row.id == *id))
            .filter_map(|number| u32::try_from(self.sorted_len + number as usize).ok());
        sorted.chain(later)
    }

    /// Memory that it takes, in bytes. An image is counted where it is shared too.
    pub(super) fn memory_bytes(&self) -> usize {
        let slabs = self.slabs.iter();
        slabs
            .map(|slab| slab.capacity() * size_of::<Row>())
            .sum::<usize>()
            + self.numbers.allocation_size()
    }
}

//! Finds or makes an image of the index: the one that the cache keeps, if it still stands for what is there.
//! It must never give one that stands for an index file which is gone: what that named may have been removed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use lifeboat_flow::Cancel;
use lifeboat_format::Id;

use crate::index::builder::ImageBuilder;
use crate::index::image::Image;
use crate::index::store::ImageStore;
use crate::{RepoError, Repository};

/// Index files that are worth an image, in bytes: some 350 000 blobs, which take a quarter of a second to read.
pub(crate) const IMAGE_MIN_BYTES: u64 = 16 * 1024 * 1024;
/// New index files are read beside an image until they are this part of all; then it is made anew.
const NEW_PART_MAX: u64 = 16;

/// What an image that is kept is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It stands for index files that were read when it was made.
    Taken,
    /// It is made anew, so that every index file is read now: for who removes what they do not name.
    MadeAnew,
}

/// Index files that can't be read.
type Damaged = Vec<(Id, RepoError)>;

impl Repository {
    /// An image of most of these index files, given with their sizes in bytes, if they are large enough for one; and those
    /// that can't be read. It stands for no other file; what it does not stand for is to be read beside it.
    ///
    /// # Errors
    /// When somebody wishes to stop, or nothing can be read any more. A cache that can't be used is no error.
    pub(crate) fn index_image(
        &self,
        files: &BTreeMap<Id, u64>,
        kept: Kept,
        cancel: &Cancel,
    ) -> Result<(Option<Arc<Image>>, Damaged), RepoError> {
        let all_bytes = sum(files);
        if all_bytes < self.image_min_bytes() {
            return Ok((None, Damaged::new()));
        }
        let kept = match kept {
            Kept::Taken => self.image_store().and_then(ImageStore::open),
            Kept::MadeAnew => None,
        };
        let mut new = files.clone();
        let mut is_any_gone = false;
        for id in kept.iter().flat_map(Image::files) {
            is_any_gone |= new.remove(&id).is_none();
        }
        if !is_any_gone
            && sum(&new) <= all_bytes / NEW_PART_MAX
            && let Some(kept) = kept
        {
            return Ok((Some(Arc::new(kept)), Damaged::new()));
        }
        let new: Vec<Id> = new.into_keys().collect();
        let kept = kept.map(|image| (image, files));
        let built = self.build_image(self.image_store(), kept, &new, cancel)?;
        if built.0.is_some() || self.image_store().is_none() {
            return Ok(built);
        }
        // The disk of the cache fails: all is read once more, and stays in memory.
        let all: Vec<Id> = files.keys().copied().collect();
        self.build_image(None, None, &all, cancel)
    }

    /// Makes an image of these files and of those that another stands for, if they are listed. None if that fails on the
    /// disk, or they name more than can be numbered.
    fn build_image(
        &self,
        store: Option<&ImageStore>,
        kept: Option<(Image, &BTreeMap<Id, u64>)>,
        new: &[Id],
        cancel: &Cancel,
    ) -> Result<(Option<Arc<Image>>, Damaged), RepoError> {
        let spill = match store.map(ImageStore::spill) {
            None => None,
            Some(Ok(file)) => Some(file),
            Some(Err(_)) => return Ok((None, Damaged::new())),
        };
        let mut builder = ImageBuilder::new(spill);
        let taken = kept.map_or(Ok(()), |(image, listed)| {
            builder.add_image(&image, |id| listed.contains_key(id))
        });
        let shared = Mutex::new((builder, taken));
        let damaged = self.each_index_file(new, cancel, |id, file| {
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let (builder, taken) = &mut *shared;
            if taken.is_ok() {
                *taken = builder.add(id, file);
            }
            Ok(())
        })?;
        let (builder, taken) = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        if taken.is_err() {
            return Ok((None, Damaged::new()));
        }
        let image = match store {
            Some(store) => store.keep(builder),
            None => builder.finish(None),
        };
        let image = image.ok();
        Ok((image.map(Arc::new), damaged))
    }
}

fn sum(files: &BTreeMap<Id, u64>) -> u64 {
    files
        .values()
        .fold(0, |sum, bytes| sum.saturating_add(*bytes))
}

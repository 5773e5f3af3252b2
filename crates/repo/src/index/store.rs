//! The image of an index in the cache folder of its repository, beside what restic keeps there.
//! It must never give an image that is not whole, of this repository and as it was written; and it is no loss.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use lifeboat_format::{Id, MasterKey};

use super::builder::ImageBuilder;
use super::image::{Image, Seal};
use crate::backend::CacheFolder;

/// Its name: not one of restic's, which clears only folders of its own and whole caches.
const NAME: &str = "lifeboat-index";
/// How a file begins that is being written.
const UNFINISHED_PREFIX: &str = "lifeboat-index-tmp-";
/// Nobody writes an image for so long: what is older was left by a kill.
const UNFINISHED_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Nobody else needs to know which blobs a repository has.
const FILE_PERMISSIONS: u32 = 0o600;

/// Where the image of a repository's index is kept.
pub(crate) struct ImageStore {
    base: PathBuf,
    repository_id: Id,
    seal: Seal,
    /// Whether the image stays for whoever comes next.
    is_kept: bool,
}

impl ImageStore {
    /// Below the folder of caches; nothing is made yet.
    pub(crate) fn new(
        base: &Path,
        repository_id: &str,
        master: &MasterKey,
        is_kept: bool,
    ) -> Option<Self> {
        Some(Self {
            base: base.to_owned(),
            // It comes from the repository and becomes a path.
            repository_id: repository_id.parse().ok()?,
            seal: Seal::new(repository_id, master)?,
            is_kept,
        })
    }

    /// The image that is kept, if there is one. One that is damaged, of another repository or of another version is
    /// removed.
    pub(crate) fn open(&self) -> Option<Image> {
        if !self.is_kept {
            return None;
        }
        let folder = self.base.join(self.repository_id.to_string());
        let path = folder.join(NAME);
        let file = File::open(&path).ok()?;
        // Notes that the cache is in use.
        CacheFolder::open(&self.base, &self.repository_id.to_string()).ok()?;
        match self.seal.verify(&file) {
            Ok(Some(layout)) => Image::mapped(&file, layout).ok(),
            Ok(None) => {
                let _ = fs::remove_file(path);
                None
            }
            Err(_) => None,
        }
    }

    /// A file without a name, for what does not fit into memory.
    pub(crate) fn spill(&self) -> io::Result<File> {
        let folder = self.folder()?;
        remove_unfinished(&folder);
        let (file, path) = create(&folder)?;
        fs::remove_file(path)?;
        Ok(file)
    }

    /// Writes an image, in the place of the one before if it is to be kept, and maps it. What a loss of power spoils does
    /// not have its tag any more.
    pub(crate) fn keep(&self, builder: ImageBuilder) -> io::Result<Image> {
        let folder = self.folder()?;
        let (file, path) = create(&folder)?;
        let kept = builder.finish(Some((&file, &self.seal))).and_then(|image| {
            match self.is_kept {
                true => fs::rename(&path, folder.join(NAME))?,
                false => fs::remove_file(&path)?,
            }
            Ok(image)
        });
        if kept.is_err() {
            // Where this fails too, nothing better can be done.
            let _ = fs::remove_file(path);
        }
        kept
    }

    fn folder(&self) -> io::Result<PathBuf> {
        let folder = CacheFolder::open(&self.base, &self.repository_id.to_string())?;
        Ok(folder.path().to_owned())
    }
}

fn create(folder: &Path) -> io::Result<(File, PathBuf)> {
    let unique = getrandom::u64().map_err(io::Error::other)?;
    let path = folder.join(format!("{UNFINISHED_PREFIX}{unique:016x}"));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(FILE_PERMISSIONS)
        .open(&path)?;
    Ok((file, path))
}

/// Removes what was left by kills long ago.
fn remove_unfinished(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_unfinished = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(UNFINISHED_PREFIX));
        let modified = entry.metadata().and_then(|found| found.modified());
        let is_old = modified.is_ok_and(|modified| {
            let age = SystemTime::now().duration_since(modified);
            age.is_ok_and(|age| age > UNFINISHED_MAX_AGE)
        });
        if is_unfinished && is_old {
            let _ = fs::remove_file(entry.path());
        }
    }
}

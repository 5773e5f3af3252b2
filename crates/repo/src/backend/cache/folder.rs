//! The folder of one repository in a cache, laid out as restic does: `<base>/<repository ID>/{data,index,snapshots}/ab/`.
//! It must never show a file that is not whole, and never touch what is not a cache's.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use lifeboat_format::Id;

use crate::backend::{FileKind, FileName};

/// What says that a folder need not be backed up (<https://bford.info/cachedir>); the bytes are restic's.
const TAG: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55\n";
/// The version of the layout.
const VERSION: u64 = 1;
/// Longest version file, in bytes.
const VERSION_MAX_BYTES: u64 = 20;
/// Permissions of folders.
const FOLDER_PERMISSIONS: u32 = 0o700;
/// Permissions of files that tell nothing about the repository.
const PLAIN_PERMISSIONS: u32 = 0o644;
/// Permissions of files of the repository.
const FILE_PERMISSIONS: u32 = 0o600;

/// The folder of one repository in a cache.
pub(crate) struct CacheFolder {
    path: PathBuf,
}

impl CacheFolder {
    /// Opens or makes the folder of a repository below `base`, and notes that it is used now.
    pub(crate) fn open(base: &Path, repository_id: &str) -> io::Result<Self> {
        // It comes from the repository and becomes a path.
        let id: Id = repository_id
            .parse()
            .map_err(|_| io::Error::new(ErrorKind::InvalidData, "the repository's ID is no ID"))?;
        let path = base.join(id.to_string());
        make_folders(base)?;
        let tag = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(PLAIN_PERMISSIONS)
            .open(base.join("CACHEDIR.TAG"));
        match tag {
            Ok(mut file) => file.write_all(TAG)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        make_folders(&path)?;
        let version = path.join("version");
        match limited(&version, VERSION_MAX_BYTES) {
            Ok(text) => {
                let text = String::from_utf8_lossy(&text);
                if text
                    .trim()
                    .parse::<u64>()
                    .map_or(true, |found| found > VERSION)
                {
                    let why = format!("{} says {text:?}, which is newer", version.display());
                    return Err(io::Error::new(ErrorKind::InvalidData, why));
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::write(&version, VERSION.to_string())?;
            }
            Err(error) => return Err(error),
        }
        for kind in [FileKind::Pack, FileKind::Index, FileKind::Snapshot] {
            make_folders(&path.join(kind.folder()))?;
        }
        // The folder's time is what says whether anybody still uses it.
        File::open(&path)?.set_modified(SystemTime::now())?;
        Ok(Self { path })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn folder_of(&self, kind: FileKind, hex: &str) -> PathBuf {
        let first = hex.get(..2).unwrap_or_default();
        self.path.join(kind.folder()).join(first)
    }

    fn file(&self, name: FileName) -> PathBuf {
        let hex = name.id.to_string();
        self.folder_of(name.kind, &hex).join(hex)
    }

    /// Keeps a file; whoever looks finds the whole one or none. Nothing is synced: what a loss of power spoils no longer
    /// has its hash.
    pub(super) fn put(&self, name: FileName, data: &[&[u8]]) -> io::Result<()> {
        let hex = name.id.to_string();
        let folder = self.folder_of(name.kind, &hex);
        make_folders(&folder)?;
        let unique = getrandom::u64().map_err(io::Error::other)?;
        let temporary = folder.join(format!("tmp-{unique:016x}"));
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_PERMISSIONS)
            .open(&temporary)
            .and_then(|mut file| data.iter().try_for_each(|piece| file.write_all(piece)))
            .and_then(|()| fs::rename(&temporary, folder.join(hex)));
        if written.is_err() {
            // Where this fails too, nothing better can be done.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// The content of a file.
    pub(super) fn get(&self, name: FileName, limit_bytes: u64) -> io::Result<Vec<u8>> {
        limited(&self.file(name), limit_bytes)
    }

    /// Exactly `buf.len()` bytes of a file from an offset on.
    pub(super) fn get_at(
        &self,
        name: FileName,
        offset_bytes: u64,
        buf: &mut [u8],
    ) -> io::Result<()> {
        File::open(self.file(name))?.read_exact_at(buf, offset_bytes)
    }

    /// Removes a file, if it is there and can be removed: what stays is compared with its name before it is used.
    pub(super) fn remove(&self, name: FileName) {
        if matches!(
            name.kind,
            FileKind::Pack | FileKind::Index | FileKind::Snapshot
        ) {
            let _ = fs::remove_file(self.file(name));
        }
    }

    /// The IDs of all files of a kind, as far as they can be listed.
    pub(super) fn ids(&self, kind: FileKind) -> impl Iterator<Item = Id> {
        let folders = fs::read_dir(self.path.join(kind.folder()));
        let folders = folders.into_iter().flatten().flatten();
        let files = folders.flat_map(|folder| fs::read_dir(folder.path()));
        files
            .flatten()
            .flatten()
            .filter_map(|file| file.file_name().to_str()?.parse().ok())
    }
}

fn make_folders(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_PERMISSIONS)
        .create(path)
}

fn limited(path: &Path, limit_bytes: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let size_bytes = file.metadata()?.len();
    if size_bytes > limit_bytes {
        return Err(ErrorKind::FileTooLarge.into());
    }
    let mut content = Vec::with_capacity(usize::try_from(size_bytes).unwrap_or(0));
    file.take(limit_bytes).read_to_end(&mut content)?;
    Ok(content)
}

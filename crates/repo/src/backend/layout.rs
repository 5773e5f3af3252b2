//! The default layout of a repository in a directory: which file has which path and which permissions.
//! It must never touch the disk, and never take a name for an ID that it would write differently itself.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use lifeboat_format::Id;

use super::{FileKind, FileName, LOG_FOLDER, LogName};

/// What stands between the name of a file and the random tail while it is written. restic uses the same, and takes no
/// file for an ID that has it (restic, `internal/backend/local`).
const TEMPORARY_MARK: &str = "-tmp-";
/// What restic has in this place when it writes over SFTP (restic, `internal/backend/sftp`).
const SFTP_TEMPORARY_MARK: &str = "-restic-temp-";

/// Paths of a repository's files (restic design document, "Local Layout"; restic makes all 256 folders of `data` at
/// once and makes a missing one when it saves).
#[derive(Clone, Debug)]
pub(super) struct Layout {
    root: PathBuf,
}

/// Digits of the tail that sets temporary names apart.
const UNIQUE_DIGITS: usize = 16;

impl Layout {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder that lists a kind: `keys`, `data`; for the config the repository itself.
    pub(super) fn top_folder(&self, kind: FileKind) -> PathBuf {
        match kind {
            FileKind::Config => self.root.clone(),
            kind => self.root.join(kind.folder()),
        }
    }

    /// One of the 256 folders under `data`.
    pub(super) fn pack_folder(&self, first_byte: u8) -> PathBuf {
        self.top_folder(FileKind::Pack)
            .join(format!("{first_byte:02x}"))
    }

    /// The folder that a file is directly in.
    pub(super) fn folder(&self, name: FileName) -> PathBuf {
        match name.kind {
            FileKind::Pack => self.pack_folder(name.id.0[0]),
            kind => self.top_folder(kind),
        }
    }

    /// The path of a file.
    pub(super) fn path(&self, name: FileName) -> PathBuf {
        self.folder(name).join(file_name(name))
    }

    /// Where a file is written before it gets its name: in the same folder, because a rename does not leave a disk.
    pub(super) fn temporary_path(&self, name: FileName, unique: u64) -> PathBuf {
        self.folder(name)
            .join(format!("{}{TEMPORARY_MARK}{unique:016x}", file_name(name)))
    }

    /// The folder of the log.
    pub(super) fn log_folder(&self) -> PathBuf {
        self.root.join(LOG_FOLDER)
    }

    /// The path of an object of the log.
    pub(super) fn object_path(&self, name: &LogName) -> PathBuf {
        self.log_folder().join(name.as_str())
    }

    /// The folders around an object of the log, from that of the log on.
    pub(super) fn object_folders(&self, name: &LogName) -> Vec<PathBuf> {
        let mut folders = vec![self.log_folder()];
        let mut parts = name.parts().peekable();
        while let Some(part) = parts.next() {
            if let Some(above) = folders.last().filter(|_| parts.peek().is_some()) {
                folders.push(above.join(part));
            }
        }
        folders
    }

    /// Where an object of the log is written before it gets its name. No name of an object begins with a dot.
    pub(super) fn object_temporary_path(&self, name: &LogName, unique: u64) -> PathBuf {
        let last = name.parts().last().unwrap_or_default();
        let path = self.object_path(name);
        path.with_file_name(format!(".{last}{TEMPORARY_MARK}{unique:016x}"))
    }

    /// All folders that hold files, parents before children.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        let named = FileKind::NAMED
            .into_iter()
            .map(|kind| self.top_folder(kind));
        named
            .chain((0..=u8::MAX).map(|byte| self.pack_folder(byte)))
            .collect()
    }
}

fn file_name(name: FileName) -> String {
    match name.kind {
        FileKind::Config => FileKind::Config.folder().to_owned(),
        _ => name.id.to_string(),
    }
}

/// The ID that a file's name is. Digits in upper case make none: the file could be listed, but not opened.
pub(super) fn parse_id(name: &OsStr) -> Option<Id> {
    let name = name.to_str()?;
    let id: Id = name.parse().ok()?;
    (id.to_string() == name).then_some(id)
}

/// The byte that a folder under `data` is for.
pub(super) fn parse_pack_folder(name: &OsStr) -> Option<u8> {
    let name = name.to_str()?;
    let byte = u8::from_str_radix(name, 16).ok()?;
    (format!("{byte:02x}") == name).then_some(byte)
}

/// Whether a file was being written when its writer stopped, be it ours or restic's.
pub(super) fn is_temporary(name: &OsStr) -> bool {
    let parts = name.to_str().and_then(|name| {
        name.split_once(TEMPORARY_MARK)
            .or_else(|| name.split_once(SFTP_TEMPORARY_MARK))
    });
    let Some((stem, tail)) = parts else {
        return false;
    };
    let known = stem == FileKind::Config.folder() || parse_id(OsStr::new(stem)).is_some();
    known && !tail.is_empty() && tail.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The same among the objects of the log, whose names may look like anything but this.
pub(super) fn is_object_temporary(name: &OsStr) -> bool {
    let parts = name
        .to_str()
        .and_then(|name| name.strip_prefix('.')?.rsplit_once(TEMPORARY_MARK));
    parts.is_some_and(|(stem, tail)| {
        let is_unique =
            tail.len() == UNIQUE_DIGITS && tail.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_unique && stem.parse::<LogName>().is_ok()
    })
}

/// Permissions of what is made: as restic, for the owner alone, or for the group too where it may read the config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Modes {
    /// Of folders.
    pub(super) folder: u32,
    /// Of files, which nobody writes again.
    pub(super) file: u32,
}

impl Modes {
    /// Those that go with the permissions of the config, if there is one.
    pub(super) fn beside(config_permissions: Option<u32>) -> Self {
        const GROUP_READS: u32 = 0o040;
        match config_permissions {
            Some(permissions) if permissions & GROUP_READS != 0 => Self {
                folder: 0o770,
                file: 0o440,
            },
            _ => Self {
                folder: 0o700,
                file: 0o400,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_lies_in_the_folder_of_its_first_byte() {
        let layout = Layout::new(PathBuf::from("/srv/restic"));
        let id = Id([0xab; 32]);
        let path = layout.path(FileName::new(FileKind::Pack, id));
        assert_eq!(path, PathBuf::from(format!("/srv/restic/data/ab/{id}")));
        assert_eq!(
            layout.path(FileName::CONFIG),
            PathBuf::from("/srv/restic/config")
        );
        assert_eq!(layout.folders().len(), 5 + 256);
    }

    #[test]
    fn temporary_names_are_known_and_are_no_ids() {
        let layout = Layout::new(PathBuf::new());
        for name in [FileName::CONFIG, FileName::new(FileKind::Lock, Id([7; 32]))] {
            let path = layout.temporary_path(name, 1 << 40);
            let name = path.file_name().unwrap();
            assert!(is_temporary(name) && parse_id(name).is_none(), "{name:?}");
        }
        let restics = format!("{}-tmp-2948123", Id([7; 32]));
        assert!(is_temporary(OsStr::new(&restics)));
        let over_sftp = format!("{}-restic-temp-00ff", Id([7; 32]));
        assert!(is_temporary(OsStr::new(&over_sftp)));
        for foreign in ["config", "notes-tmp-1", "config-tmp-", "config-tmp-x.txt"] {
            assert!(!is_temporary(OsStr::new(foreign)), "{foreign}");
        }
    }

    #[test]
    fn no_object_of_the_log_is_taken_for_what_a_writer_left() {
        let layout = Layout::new(PathBuf::new());
        for name in ["wal/1/a", "wal/a-tmp-00", "config-tmp-0123456789abcdef"] {
            let name: LogName = name.parse().unwrap();
            let path = layout.object_temporary_path(&name, 1 << 40);
            let temporary = path.file_name().unwrap();
            assert!(
                is_object_temporary(temporary) && !is_temporary(temporary),
                "{name}"
            );
            let own = layout.object_path(&name);
            assert!(!is_object_temporary(own.file_name().unwrap()), "{name}");
        }
        for foreign in [
            ".notes-tmp-00ff",
            ".-tmp-0123456789abcdef",
            "a-tmp-0123456789abcdef",
        ] {
            assert!(!is_object_temporary(OsStr::new(foreign)), "{foreign}");
        }
    }

    #[test]
    fn only_names_that_we_would_write_are_ids() {
        let id = Id([0xcd; 32]).to_string();
        assert!(parse_id(OsStr::new(&id)).is_some());
        assert!(parse_id(OsStr::new(&id.to_uppercase())).is_none());
        assert_eq!(parse_pack_folder(OsStr::new("0f")), Some(15));
        for foreign in ["0F", "f", "+f", "00f", "lost+found"] {
            assert_eq!(parse_pack_folder(OsStr::new(foreign)), None, "{foreign}");
        }
    }

    #[test]
    fn the_group_may_use_what_is_beside_a_config_that_it_may_read() {
        assert_eq!(
            Modes::beside(None),
            Modes {
                folder: 0o700,
                file: 0o400
            }
        );
        assert_eq!(
            Modes::beside(Some(0o400)),
            Modes {
                folder: 0o700,
                file: 0o400
            }
        );
        assert_eq!(
            Modes::beside(Some(0o440)),
            Modes {
                folder: 0o770,
                file: 0o440
            }
        );
    }
}

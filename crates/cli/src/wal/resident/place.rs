//! Where the sockets of resident processes are: a directory that is ours, and that nobody else gets into.
//! It must never use a directory that belongs to somebody else, is open to others, or is a link to one.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::process::geteuid;

use super::key::SALT_BYTES;

/// The directory in the one that the system keeps for such things.
const FOLDER: &str = "lifeboat";
/// The file with what goes into every key.
const SALT_FILE: &str = "salt";
/// Longest path of a socket, in bytes, without the zero at its end (`unix(7)`).
const SOCKET_PATH_MAX_BYTES: usize = 107;
/// Times that a lock file is made anew, when the one who had it removes it at that moment.
const LOCK_TRIES_MAX: usize = 10;

/// The directory of sockets.
#[derive(Clone, Debug)]
pub struct Place(PathBuf);

/// A directory can't be used.
#[derive(Debug)]
pub struct Refused(pub String);

impl Place {
    /// The directory of this user, which is made if it is not there.
    pub fn find() -> Result<Self, Refused> {
        let set = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let mut wanted = Vec::new();
        wanted.extend(
            set.filter(|dir| dir.is_absolute())
                .map(|dir| dir.join(FOLDER)),
        );
        let user = geteuid();
        wanted.push(match user.is_root() {
            true => Path::new("/run").join(FOLDER),
            false => std::env::temp_dir().join(format!("{FOLDER}-{}", user.as_raw())),
        });
        let mut why = Refused("no directory for it".into());
        for dir in wanted {
            match Self::at(dir.clone()) {
                Ok(Some(place)) => return Ok(place),
                Ok(None) => why = Refused(format!("{} can't be made", dir.display())),
                Err(refused) => return Err(refused),
            }
        }
        Err(why)
    }

    /// This directory; `None` if it is not there and can't be made.
    fn at(dir: PathBuf) -> Result<Option<Self>, Refused> {
        let made = fs::DirBuilder::new().mode(0o700).create(&dir);
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Ok(None),
            _ => {}
        }
        let refused = |why: &str| Refused(format!("{}: {why}", dir.display()));
        let look = |path: &Path| fs::symlink_metadata(path).map_err(|e| refused(&e.to_string()));
        let above = fs::metadata(dir.parent().unwrap_or(Path::new("/")));
        let above = above.map_err(|error| refused(&error.to_string()))?;
        let user = geteuid().as_raw();
        match judge(&look(&dir)?, &above, user) {
            None => Ok(Some(Self(dir))),
            Some(why) => Err(refused(why)),
        }
    }

    /// What goes into every key, so that nobody who does not have it can try what gives the name of a socket.
    pub fn salt(&self) -> io::Result<[u8; SALT_BYTES]> {
        let path = self.0.join(SALT_FILE);
        let read = || -> io::Result<[u8; SALT_BYTES]> {
            let mut salt = [0; SALT_BYTES];
            let file = fs::OpenOptions::new()
                .read(true)
                .custom_flags(no_follow())
                .open(&path)?;
            (&file).read_exact(&mut salt)?;
            Ok(salt)
        };
        match read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
        let mut salt = [0; SALT_BYTES];
        File::open("/dev/urandom")?.read_exact(&mut salt)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.0)?;
        file.write_all(&salt)?;
        // Another one may have been faster, and is right then.
        match file.persist_noclobber(&path) {
            Ok(_) => Ok(salt),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => read(),
            Err(error) => Err(error.error),
        }
    }

    /// The socket of a key.
    pub fn socket(&self, key: &str) -> Result<PathBuf, Refused> {
        let path = self.0.join(key);
        match path.as_os_str().len() <= SOCKET_PATH_MAX_BYTES {
            true => Ok(path),
            false => Err(Refused(format!(
                "{}: longer than the {SOCKET_PATH_MAX_BYTES} bytes that the path of a socket may have",
                path.display()
            ))),
        }
    }

    /// Becomes the one process of a key, and listens; `None` if there is one.
    pub fn claim(&self, key: &str) -> io::Result<Option<Claim>> {
        let path = self.0.join(format!("{key}.lock"));
        for _ in 0..LOCK_TRIES_MAX {
            let lock = fs::OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(no_follow())
                .open(&path)?;
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                done => done?,
            }
            // Who had it may have removed the file between the two.
            if fs::symlink_metadata(&path).is_ok_and(|found| is_same(&found, &lock)) {
                return Ok(Some(Claim {
                    lock_path: path,
                    _lock: lock,
                    socket: None,
                }));
            }
        }
        Ok(None)
    }
}

/// The right to be the one process of a key. What it made is removed when it is dropped.
pub struct Claim {
    lock_path: PathBuf,
    _lock: File,
    socket: Option<(PathBuf, u64, u64)>,
}

impl Claim {
    /// Listens.
    pub fn listen(&mut self, path: PathBuf) -> io::Result<UnixListener> {
        // That of one who was killed.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        let found = fs::symlink_metadata(&path)?;
        self.socket = Some((path, found.dev(), found.ino()));
        Ok(listener)
    }

    /// Whether whoever comes still comes to us.
    pub fn is_reached(&self) -> bool {
        self.socket.as_ref().is_some_and(|(path, device, inode)| {
            fs::symlink_metadata(path)
                .is_ok_and(|found| (found.dev(), found.ino()) == (*device, *inode))
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The socket first: while we have the lock nobody else makes one.
        if self.is_reached()
            && let Some((path, ..)) = &self.socket
        {
            let _ = fs::remove_file(path);
        }
        let _ = fs::remove_file(&self.lock_path);
    }
}

/// Removes the socket of a process that does not answer: it ends by itself when it finds that out, and nobody waits for it.
pub fn abandon(socket: &Path) {
    let _ = fs::remove_file(socket);
}

/// What is wrong with a directory for sockets of this user, by what it is and what the one above it is.
fn judge(found: &Metadata, above: &Metadata, user: u32) -> Option<&'static str> {
    const OTHERS: u32 = 0o077;
    const OTHERS_WRITE: u32 = 0o022;
    const STICKY: u32 = 0o1000;
    if !found.is_dir() {
        return Some("it is no directory");
    }
    if found.uid() != user {
        return Some("it belongs to another user");
    }
    if found.mode() & OTHERS != 0 {
        return Some("others get into it; its mode should be 0700");
    }
    let is_safe_above = [0, user].contains(&above.uid())
        && (above.mode() & OTHERS_WRITE == 0 || above.mode() & STICKY != 0);
    (!is_safe_above).then_some("others may replace it")
}

fn is_same(found: &Metadata, file: &File) -> bool {
    file.metadata()
        .is_ok_and(|open| (open.dev(), open.ino()) == (found.dev(), found.ino()))
}

fn no_follow() -> i32 {
    OFlags::NOFOLLOW.bits().cast_signed()
}

/// Files that are made from now on are for this user alone.
pub fn keep_others_out() {
    rustix::process::umask(Mode::from_raw_mode(0o077));
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn refused(dir: &Path) -> String {
        Place::at(dir.to_owned()).expect_err("refused").0
    }

    #[test]
    fn only_a_directory_of_ours_that_is_closed_is_taken() {
        let above = tempfile::tempdir().unwrap();
        let dir = above.path().join("lifeboat");
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        assert!(Place::at(dir.clone()).unwrap().is_some(), "it is made");
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
        assert!(Place::at(dir.clone()).unwrap().is_some());
        mode(&dir, 0o750);
        assert!(refused(&dir).contains("others get into it"));
        mode(&dir, 0o700);
        mode(above.path(), 0o777);
        assert!(refused(&dir).contains("others may replace it"));
        mode(above.path(), 0o1777);
        assert!(Place::at(dir.clone()).unwrap().is_some());
        let link = above.path().join("link");
        symlink(&dir, &link).unwrap();
        assert!(refused(&link).contains("no directory"));
        let nowhere = above.path().join("not/there");
        assert!(Place::at(nowhere).unwrap().is_none());
        let (found, above) = (fs::metadata(&dir).unwrap(), fs::metadata("/").unwrap());
        let other = found.uid() + 1;
        assert_eq!(
            judge(&found, &above, other),
            Some("it belongs to another user")
        );
    }

    #[test]
    fn one_at_a_time_has_a_key_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place(dir.path().to_owned());
        let salt = place.salt().unwrap();
        assert_eq!(place.salt().unwrap(), salt);
        let mut claim = place.claim("key").unwrap().unwrap();
        assert!(place.claim("key").unwrap().is_none());
        assert!(place.claim("other").unwrap().is_some());
        let socket = place.socket("key").unwrap();
        fs::write(&socket, "left by one that was killed").unwrap();
        let _listener = claim.listen(socket.clone()).unwrap();
        assert!(claim.is_reached());
        abandon(&socket);
        assert!(!claim.is_reached());
        fs::write(&socket, "somebody else's").unwrap();
        drop(claim);
        assert!(socket.exists());
        fs::remove_file(&socket).unwrap();
        assert!(place.claim("key").unwrap().is_some());
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "the salt: {left:?}");
        assert!(place.socket(&"x".repeat(108)).is_err());
    }
}

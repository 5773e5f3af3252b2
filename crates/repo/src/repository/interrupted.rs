//! What an init left that ended too early: a key, and on servers that write in place a part of a config.
//! It must never remove a config that is whole, of another key, or of a repository that holds anything.

use lifeboat_format::{Id, MasterKey};

use super::{KEYS_TRIED_MAX, ids, open_config, unlock};
use crate::RepoError;
use crate::backend::{Backend, FileKind, FileName};

/// The key that an init left which ended before its config was whole, with the keys of the repository in it. What it left
/// of the config, if that is so many bytes, is removed: servers that write in place replace nothing.
/// A repository with a key and no config is only that if it holds nothing else.
pub(super) fn interrupted_init(
    backend: &dyn Backend,
    password: &[u8],
    broken_off_bytes: Option<u64>,
) -> Result<Option<(Id, MasterKey)>, RepoError> {
    let location = backend.location();
    let config = match broken_off_bytes {
        None => "no config".to_owned(),
        Some(bytes) => format!("a config that ends after {bytes} bytes"),
    };
    for kind in [FileKind::Snapshot, FileKind::Index, FileKind::Pack] {
        if !ids(backend, kind)?.is_empty() {
            return Err(RepoError::Refused(format!(
                "{location} holds files in the folder {} but {config}: a damaged repository, which a new one would lock out; restore its config or choose another place",
                kind.folder()
            )));
        }
    }
    let keys = ids(backend, FileKind::Key)?;
    if keys.is_empty() && broken_off_bytes.is_none() {
        return Ok(None);
    }
    for id in keys.into_iter().take(KEYS_TRIED_MAX) {
        match unlock(backend, id, password) {
            Ok(master) => {
                if let Some(size_bytes) = broken_off_bytes {
                    remove_config(backend, &master, size_bytes)?;
                }
                return Ok(Some((id, master)));
            }
            // That nothing can be read now says nothing about whose key it is.
            Err(error) if error.ends_all() => return Err(error),
            Err(_) => {}
        }
    }
    Err(RepoError::Refused(match broken_off_bytes {
        None => format!(
            "{location} holds a key of another password but {config}, as an interrupted init leaves it; give that password, or remove the folder keys if nobody needs it"
        ),
        Some(_) => format!(
            "{location} holds {config}, as an interrupted init leaves it, and no key of this password; give the password of that init, or remove the file config and the folder keys if nobody needs them"
        ),
    }))
}

/// Removes a config that broke off. One that can be opened is whole, however short it is.
fn remove_config(
    backend: &dyn Backend,
    master: &MasterKey,
    size_bytes: u64,
) -> Result<(), RepoError> {
    let location = backend.location();
    let config = FileName::CONFIG;
    let sealed = backend.load(config, size_bytes)?;
    match open_config(backend, master, sealed) {
        Ok(_) => return Err(RepoError::Exists { location }),
        Err(error) if error.is_damage() => {}
        Err(error) => return Err(error),
    }
    backend
        .remove(config)
        .map_err(|cause| RepoError::ConfigInTheWay {
            location,
            size_bytes,
            cause: Box::new(cause.into()),
        })
}

//! What the folders of a repository hold: its files, and what writers left unfinished.
//! It must never call a folder empty that could not be read to its end.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use lifeboat_format::Id;

use super::SftpBackend;
use super::failure::SftpError;
use super::handle::{Handle, attributes};
use super::listing;
use super::packet::{Name, Type};
use super::session::Session;
use crate::backend::layout::{is_object_temporary, is_temporary, parse_id, parse_pack_folder};
use crate::backend::{BackendError, FileKind, FileName, Trouble};

impl SftpBackend {
    pub(super) fn list_kind(
        &self,
        session: &Session,
        kind: FileKind,
        each: &mut dyn FnMut(Id, u64),
    ) -> Result<(), BackendError> {
        let top = [self.layout.top_folder(kind)];
        if kind == FileKind::Pack {
            let mut bytes = BTreeSet::new();
            let found = listing::list(session, &top, &mut |_, names| {
                bytes.extend(
                    names
                        .iter()
                        .filter(|name| may_be_folder(name))
                        .filter_map(|name| parse_pack_folder(OsStr::from_bytes(&name.name))),
                );
                Ok(())
            });
            found.map_err(|(_, error)| self.folder_error(session, kind, &top[0], error))?;
            let bytes: Vec<u8> = bytes.into_iter().collect();
            let folders: Vec<_> = bytes
                .iter()
                .map(|byte| self.layout.pack_folder(*byte))
                .collect();
            return listing::list(session, &folders, &mut |number, names| {
                let byte = bytes.get(number).copied();
                let folder = folders.get(number).map_or(Path::new(""), PathBuf::as_path);
                show(session, folder, names, &|id| Some(id.0[0]) == byte, each)
            })
            .map_err(|(number, error)| {
                let folder = folders.get(number).map_or(Path::new(""), PathBuf::as_path);
                // A folder that is named but not there is a link to a disk that is not mounted.
                self.remote("list", &self.inner(folder), &error)
            });
        }
        let found = listing::list(session, &top, &mut |_, names| {
            show(session, &top[0], names, &|_| true, each)
        });
        match found {
            // Tools that copy objects drop empty folders, and only `locks` is empty in a sound repository at rest.
            Err((_, error))
                if kind == FileKind::Lock
                    && error.is_missing()
                    && self
                        .has_config(session)
                        .map_err(|error| self.remote("list", &kind.folder(), &error))? =>
            {
                Ok(())
            }
            done => done.map_err(|(_, error)| self.folder_error(session, kind, &top[0], error)),
        }
    }

    /// All temporaries of writers with the moments at which they were last written, by the server's clock.
    pub(super) fn temporaries(
        &self,
        session: &Session,
    ) -> Result<Vec<(PathBuf, u32)>, BackendError> {
        let mut found = Vec::new();
        type IsTemporary = fn(&OsStr) -> bool;
        let mut folders = vec![self.layout.root().to_path_buf()];
        folders.extend(self.layout.folders());
        let folders = folders
            .into_iter()
            .map(|folder| (folder, is_temporary as IsTemporary));
        let objects = self.object_folders(session)?.into_iter();
        let objects = objects.map(|folder| (folder, is_object_temporary as IsTemporary));
        for (folder, is_temporary) in folders.chain(objects) {
            let listed = listing::list(session, std::slice::from_ref(&folder), &mut |_, names| {
                found.extend(names.into_iter().filter_map(|name| {
                    let own = OsStr::from_bytes(&name.name);
                    let is_file = matches!(name.attributes.kind(), Type::File | Type::Unknown);
                    (is_file && is_temporary(own))
                        .then_some((folder.join(own), name.attributes.modified_seconds?))
                }));
                Ok(())
            });
            match listed {
                Err((_, error)) if error.is_missing() => {}
                done => {
                    done.map_err(|(_, error)| self.remote("list", &self.inner(&folder), &error))?;
                }
            }
        }
        Ok(found)
    }

    /// What the server's clock says, in seconds since 1970: it is the time of a file that is made and removed.
    pub(super) fn server_now(&self, session: &Session) -> Result<u32, BackendError> {
        let name = FileName::CONFIG;
        let failed = |error: SftpError| {
            self.remote("make a file to see the server's clock in", &".", &error)
        };
        let unique = getrandom::u64()
            .map_err(|cause| self.refused("write", &name, Trouble::Other, cause.to_string()))?;
        let probe = self.layout.temporary_path(name, unique);
        let handle = Handle::of(session.create_new(&probe)).map_err(failed)?;
        let found = attributes(handle.stat());
        drop(handle);
        session.remove(&probe).done().map_err(failed)?;
        let found = found.map_err(failed)?.modified_seconds;
        found.ok_or_else(|| failed(SftpError::odd("no time of a file")))
    }
}

/// Shows the files among the entries of a folder.
fn show(
    session: &Session,
    folder: &Path,
    names: Vec<Name>,
    belongs: &dyn Fn(Id) -> bool,
    each: &mut dyn FnMut(Id, u64),
) -> Result<(), SftpError> {
    let mut looking = Vec::new();
    for Name { name, attributes } in names {
        let name = OsStr::from_bytes(&name);
        let Some(id) = parse_id(name).filter(|id| belongs(*id)) else {
            continue;
        };
        match (attributes.kind(), attributes.size_bytes) {
            (Type::File, Some(size_bytes)) => each(id, size_bytes),
            // A directory with the name of an ID is nobody's file.
            (Type::Folder | Type::Other, _) => {}
            // What is behind a link, or what the server did not tell.
            _ => looking.push((id, session.stat(&folder.join(name)))),
        }
    }
    for (id, ticket) in looking {
        match attributes(ticket) {
            Ok(found) if matches!(found.kind(), Type::File | Type::Unknown) => {
                let odd = || SftpError::odd("no size of a file");
                each(id, found.size_bytes.ok_or_else(odd)?);
            }
            Ok(_) => {}
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn may_be_folder(name: &Name) -> bool {
    matches!(
        name.attributes.kind(),
        Type::Folder | Type::Link | Type::Unknown
    )
}

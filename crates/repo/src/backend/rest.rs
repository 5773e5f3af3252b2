//! A repository on a server that speaks restic's REST protocol, over any transport of HTTP.
//! It must never take a refused upload for a saved file without comparing, nor an empty answer for an empty repository.

mod answer;
mod listing;
mod log;
mod server;
mod settings;

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_format::{Id, NONCE_BYTES};

use super::http::{TcpTransport, Transport};
use super::{
    Backend, BackendError, BackendOptions, Creation, FileKind, FileName, Location, LogName,
    OptionError, Trouble,
};
use listing::{Listed, Listing};
use log::RestLog;
use server::{Server, VERSION_1, VERSION_2, drain};
use settings::Settings;

pub(super) use settings::{CONNECTIONS_MAX, OPTIONS};

/// How often a listing is asked for that fails while its folder is there: rest-server answers 404 when a file goes
/// away, or gets its final name, between its two looks.
const LISTING_ATTEMPTS: u32 = 5;

/// A repository on a REST server. That what was removed stays removed after a loss of power is up to the server.
pub(super) struct RestBackend {
    server: Server,
    connections: usize,
    /// This value made the folders, so that a config is not to be expected yet.
    is_created: AtomicBool,
    /// Something was found there: servers make a missing repository in passing, and remove nothing with success.
    is_seen: AtomicBool,
    log: RestLog,
}

/// The backend of a `rest:` location.
pub(super) fn open(
    location: &Location,
    options: &BackendOptions,
) -> Result<RestBackend, OptionError> {
    let settings = Settings::read(location, options)?;
    let transport = TcpTransport::new(&settings.url, options, settings.connections)?;
    let server = Server::new(
        Arc::new(transport),
        settings.url,
        location.to_string(),
        settings.authorization,
        false,
    );
    Ok(RestBackend::of(server, settings.connections))
}

impl RestBackend {
    /// A repository that rclone serves through a transport of its own.
    pub(super) fn of_rclone(
        transport: Arc<dyn Transport>,
        url: String,
        location: String,
        connections: usize,
    ) -> Self {
        let server = Server::new(transport, url, location, None, true);
        Self::of(server, connections)
    }

    fn of(server: Server, connections: usize) -> Self {
        Self {
            server,
            connections,
            is_created: AtomicBool::new(false),
            is_seen: AtomicBool::new(false),
            log: RestLog::default(),
        }
    }

    /// Fails unless a repository is there: it has a config, or keys because somebody is making it, or we made it.
    fn require_repository(&self) -> Result<(), BackendError> {
        let is_there = self.server.find(FileName::CONFIG)?.is_some()
            || self.is_created.load(Ordering::Relaxed)
            || self
                .server
                .names(FileKind::Key, VERSION_2)?
                .is_some_and(|keys| !keys.is_empty);
        if !is_there {
            return Err(self.no_repository("the config".into()));
        }
        self.saw();
        Ok(())
    }

    fn require_repository_once(&self) -> Result<(), BackendError> {
        match self.is_seen.load(Ordering::Relaxed) {
            true => Ok(()),
            false => self.require_repository(),
        }
    }

    fn saw(&self) {
        self.is_seen.store(true, Ordering::Relaxed);
    }

    fn no_repository(&self, what: String) -> BackendError {
        BackendError::NoRepository {
            location: self.location(),
            what,
        }
    }

    /// What it means that the server has no such file.
    fn missing(&self, name: FileName) -> BackendError {
        if let Err(error) = self.require_repository() {
            return error;
        }
        // rclone answers 404 to whatever went wrong with a file; when it failed, so will a listing.
        if self.server.is_rclone() && name.kind != FileKind::Config {
            match self.server.names(name.kind, VERSION_2) {
                Err(error) => return error,
                Ok(Some(found)) if found.has(name.id) => {
                    let why = "rclone lists it, and says that it is not there".into();
                    let what = name.to_string();
                    return self.server.trouble("read", &what, Trouble::Transient, why);
                }
                Ok(_) => {}
            }
        }
        BackendError::Missing {
            name,
            location: self.location(),
        }
    }

    /// That a file ends too early; or, if it does not, that the answer was wrong.
    fn short(&self, name: FileName, wanted_bytes: u64) -> BackendError {
        match self.size(name) {
            Ok(size_bytes) if size_bytes < wanted_bytes => BackendError::Short {
                name,
                location: self.location(),
                size_bytes,
                wanted_bytes,
            },
            Ok(_) => {
                let why = "the server sends less than was asked for, and has more".into();
                let what = name.to_string();
                self.server.trouble("read", &what, Trouble::Transient, why)
            }
            Err(error) => error,
        }
    }

    fn too_long(&self, name: FileName, size_bytes: u64, limit_bytes: u64) -> BackendError {
        BackendError::TooLong {
            name,
            location: self.location(),
            size_bytes,
            limit_bytes,
        }
    }

    fn read_range(
        &self,
        name: FileName,
        offset_bytes: u64,
        buf: &mut [u8],
        end_bytes: u64,
    ) -> Result<(), BackendError> {
        let what = name.to_string();
        let last = end_bytes.saturating_sub(1);
        let range = [("Range", format!("bytes={offset_bytes}-{last}"))];
        let mut response = self.server.get(name, &range)?;
        let ends_before = |bytes: u64| response.length_bytes.is_some_and(|told| told < bytes);
        let read = match response.status {
            206 if !answer::starts_at(&response, offset_bytes) => {
                let why = "the server sends another part than was asked for".into();
                return Err(self.server.trouble("read", &what, Trouble::Protocol, why));
            }
            206 if ends_before(buf.len() as u64) => return Err(self.short(name, end_bytes)),
            206 => response.read_exact(buf),
            // rest-server sends the config whole, and others may never send parts.
            200 if ends_before(end_bytes) => return Err(self.short(name, end_bytes)),
            200 => answer::skip(&mut response, offset_bytes).and_then(|()| {
                let read = response.body.read_exact(buf);
                read.map_err(|cause| answer::broken(&cause))
            }),
            404 => return Err(self.missing(name)),
            416 => return Err(self.short(name, end_bytes)),
            _ => return Err(self.server.refused("read", &what, response)),
        };
        read.map_err(|error| self.server.failed("read", &what, error))?;
        self.saw();
        Ok(())
    }

    /// Shows what was listed. Emptiness is believed only where a repository is: rclone lists what is not there as empty.
    fn show(
        &self,
        kind: FileKind,
        found: Listing,
        each: &mut dyn FnMut(Id, u64),
    ) -> Result<(), BackendError> {
        if found.is_empty {
            return self.require_repository();
        }
        self.saw();
        for Listed { id, size_bytes } in found.files {
            let size_bytes = match size_bytes {
                Some(size_bytes) => Some(size_bytes),
                // By version 1 of the protocol, and the file may have gone since.
                None => self.server.find(FileName::new(kind, id))?,
            };
            if let Some(size_bytes) = size_bytes {
                each(id, size_bytes);
            }
        }
        Ok(())
    }

    /// What a refusal to save a file means. rest-server replaces nothing, so that an upload is refused that is sent
    /// again because the answer to it was lost.
    fn refused_to_save(
        &self,
        name: FileName,
        data: &[&[u8]],
        refusal: BackendError,
    ) -> Result<(), BackendError> {
        match self.server.find(name)? {
            None => Err(refusal),
            Some(_) if self.server.holds(name, data)? => Ok(()),
            // rest-server keeps what came of a config whose upload broke off. Nobody else's begins with our nonce.
            Some(size_bytes)
                if name == FileName::CONFIG
                    && size_bytes >= NONCE_BYTES as u64
                    && self.server.begins(name, size_bytes, data)? =>
            {
                self.remove(name)?;
                let why = "the server kept a part of an upload that broke off".to_owned();
                Err(self
                    .server
                    .trouble("write", &name.to_string(), Trouble::Transient, why))
            }
            Some(size_bytes) => {
                let why = format!(
                    "other content is kept under this name ({size_bytes} bytes), and the server replaces none"
                );
                let what = name.to_string();
                Err(self.server.trouble("write", &what, Trouble::Denied, why))
            }
        }
    }
}

impl Backend for RestBackend {
    fn location(&self) -> String {
        self.server.location.clone()
    }

    fn connections(&self) -> usize {
        self.connections
    }

    fn create(&self) -> Result<(), BackendError> {
        const WHAT: &str = "the repository's folders";
        let server = &self.server;
        let response = server
            .send("POST", "?create=true", &[], &[])
            .map_err(|error| server.failed("make", WHAT, error))?;
        match response.status {
            200..=299 => {
                drain(response);
                self.is_created.store(true, Ordering::Relaxed);
                self.saw();
                Ok(())
            }
            404 => {
                let why = "the server has no such path; rest-server allows two folders at most";
                Err(server.trouble("make", WHAT, Trouble::NoPlace, why.into()))
            }
            405 | 501 => {
                let status = answer::status(response.status);
                let why = format!(
                    "the server answered {status}: is it one that speaks restic's REST protocol?"
                );
                Err(server.trouble("make", WHAT, Trouble::Protocol, why))
            }
            _ => Err(server.refused("make", WHAT, response)),
        }
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64)) -> Result<(), BackendError> {
        if kind == FileKind::Config {
            return match self.server.find(FileName::CONFIG)? {
                Some(size_bytes) => {
                    each(FileName::CONFIG.id, size_bytes);
                    Ok(())
                }
                None => self.require_repository(),
            };
        }
        for _ in 0..LISTING_ATTEMPTS {
            if let Some(found) = self.server.names(kind, VERSION_2)? {
                return self.show(kind, found, each);
            }
            if self.server.names(kind, VERSION_1)?.is_none() {
                self.require_repository()?;
                return match kind {
                    // Tools that copy repositories leave empty folders out.
                    FileKind::Lock => Ok(()),
                    kind => Err(self.no_repository(format!("the folder {}", kind.folder()))),
                };
            }
        }
        let why = "files came and went too fast for the server to list them".into();
        let folder = kind.folder();
        Err(self.server.trouble("list", folder, Trouble::Transient, why))
    }

    fn size(&self, name: FileName) -> Result<u64, BackendError> {
        let found = self.server.find(name)?;
        let size_bytes = found.ok_or_else(|| self.missing(name))?;
        self.saw();
        Ok(size_bytes)
    }

    fn load(&self, name: FileName, limit_bytes: u64) -> Result<Vec<u8>, BackendError> {
        let mut response = self.server.get(name, &[])?;
        match (response.status, response.length_bytes) {
            (200, Some(size_bytes)) if size_bytes > limit_bytes => {
                return Err(self.too_long(name, size_bytes, limit_bytes));
            }
            (200, _) => {}
            (404, _) => return Err(self.missing(name)),
            _ => return Err(self.server.refused("read", &name.to_string(), response)),
        }
        let content = match response.read(limit_bytes) {
            // Of unknown length, and longer than the limit.
            Err(error) if error.trouble == Trouble::Protocol => {
                return Err(self.too_long(name, self.size(name)?, limit_bytes));
            }
            read => read.map_err(|error| self.server.failed("read", &name.to_string(), error))?,
        };
        self.saw();
        Ok(content)
    }

    fn load_at(
        &self,
        name: FileName,
        offset_bytes: u64,
        buf: &mut [u8],
    ) -> Result<(), BackendError> {
        let end = offset_bytes.checked_add(buf.len() as u64);
        match end {
            // An empty range can't be asked for, and servers count in 63 bits.
            Some(end) if !buf.is_empty() && i64::try_from(end).is_ok() => {
                self.read_range(name, offset_bytes, buf, end)
            }
            _ => {
                let wanted_bytes = end.unwrap_or(u64::MAX);
                let size_bytes = self.size(name)?;
                if buf.is_empty() && size_bytes >= wanted_bytes {
                    return Ok(());
                }
                Err(BackendError::Short {
                    name,
                    location: self.location(),
                    size_bytes,
                    wanted_bytes,
                })
            }
        }
    }

    fn save(&self, name: FileName, data: &[&[u8]]) -> Result<(), BackendError> {
        self.require_repository_once()?;
        let what = name.to_string();
        let kind = [("Content-Type", "application/octet-stream".to_owned())];
        let response = match self.server.change("POST", name, &kind, data) {
            Ok(response) => response,
            // The answer was lost, or a refusal not heard because it came before all was sent.
            Err(error) => {
                let is_kept = error.trouble == Trouble::Transient
                    && self.server.holds(name, data).is_ok_and(|is_kept| is_kept);
                return match is_kept {
                    true => Ok(()),
                    false => Err(self.server.failed("write", &what, error)),
                };
            }
        };
        match response.status {
            200..=299 => {
                drain(response);
                Ok(())
            }
            403 | 409 => {
                let refusal = self.server.refused("write", &what, response);
                self.refused_to_save(name, data, refusal)
            }
            // rest-server's word for content that is not whole, or does not have the hash that it is named by.
            400 => {
                let why = "the server says that something else arrived than was sent".into();
                Err(self.server.trouble("write", &what, Trouble::Transient, why))
            }
            _ => Err(self.server.refused("write", &what, response)),
        }
    }

    fn remove(&self, name: FileName) -> Result<(), BackendError> {
        self.require_repository_once()?;
        let what = name.to_string();
        let response = self
            .server
            .change("DELETE", name, &[], &[])
            .map_err(|error| self.server.failed("remove", &what, error))?;
        match response.status {
            200..=299 => {
                drain(response);
                Ok(())
            }
            404 => match self.missing(name) {
                missing if missing.is_missing() => Ok(()),
                error => Err(error),
            },
            403 if self.server.find(name)?.is_none() => Ok(()),
            403 => {
                let why = "the server answered 403 Forbidden: likely it is append-only, as rest-server is with --append-only, and removes nothing but locks";
                let denied = Trouble::Denied;
                Err(self.server.trouble("remove", &what, denied, why.into()))
            }
            _ => Err(self.server.refused("remove", &what, response)),
        }
    }

    fn log_create(&self, name: &LogName, data: &[&[u8]]) -> Result<Creation, BackendError> {
        self.create_object(name, data)
    }

    fn log_load(&self, name: &LogName, limit_bytes: u64) -> Result<Vec<u8>, BackendError> {
        self.load_object(name, limit_bytes)
    }

    fn log_list(
        &self,
        below: Option<&LogName>,
        each: &mut dyn FnMut(LogName, u64),
    ) -> Result<(), BackendError> {
        self.list_objects(below, each)
    }

    fn log_remove(&self, name: &LogName) -> Result<(), BackendError> {
        self.remove_object(name)
    }
}

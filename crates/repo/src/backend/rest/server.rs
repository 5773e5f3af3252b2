//! A REST server as one repository sees it: requests below its URL, and what their failures are called.
//! It must never put its credentials anywhere but into a header.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::answer;
use super::listing::{self, Listing};
use crate::backend::http::{Request, Response, Transport, TransportError};
use crate::backend::{BackendError, FileKind, FileName, LOG_FOLDER, Secret, Trouble};

/// What asks for listings with sizes (restic's REST protocol, version 2).
pub(super) const VERSION_2: &str = "application/vnd.x.restic.rest.v2";
/// What asks for listings of names alone.
pub(super) const VERSION_1: &str = "application/vnd.x.restic.rest.v1";
/// How much of an answer that nobody needs is read, so that its connection can be used again, in bytes.
const DRAIN_MAX_BYTES: u64 = 64 * 1024;

/// The way to a repository on a REST server.
pub(in crate::backend) struct Server {
    /// What carries requests.
    transport: Arc<dyn Transport>,
    /// The repository's URL, which ends with a slash and holds no credentials.
    url: String,
    /// For people.
    pub(in crate::backend) location: String,
    /// The header `Authorization`.
    pub(super) authorization: Option<Secret>,
    /// The server said that it is rclone, which means less by 404 than others.
    is_rclone: AtomicBool,
    /// Who lists a folder of rclone and who changes it take turns: rclone remembers what a listing shows, and answers
    /// from that long after a change that came to pass while it listed.
    turns: [RwLock<()>; FileKind::NAMED.len()],
}

/// Where another repository lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In a folder of this one.
    Below,
    /// In the folder that this one lies in.
    Beside,
}

impl Server {
    /// The way to a server that needs these.
    pub(in crate::backend) fn new(
        transport: Arc<dyn Transport>,
        url: String,
        location: String,
        authorization: Option<Secret>,
        is_rclone: bool,
    ) -> Self {
        Self {
            transport,
            url,
            location,
            authorization,
            is_rclone: AtomicBool::new(is_rclone),
            turns: Default::default(),
        }
    }

    /// The way to another repository on the same server: below this one, or beside it if its own path can go no deeper.
    pub(super) fn other(&self, place: Place) -> Option<Self> {
        let folder = |base: &str| match place {
            Place::Below => Some(format!("{}/{LOG_FOLDER}/", base.strip_suffix('/')?)),
            Place::Beside => {
                let base = base.strip_suffix('/')?;
                // A server's own root has nothing beside it.
                let (_, path) = base.split_once("://").unwrap_or(("", base));
                path.contains('/').then(|| format!("{base}-{LOG_FOLDER}/"))
            }
        };
        let url = folder(&self.url)?;
        let location = match self.location.ends_with('/') {
            true => folder(&self.location)?,
            false => format!("{}/{LOG_FOLDER}", self.location),
        };
        Some(Self::new(
            Arc::clone(&self.transport),
            url,
            location,
            self.authorization.clone(),
            self.is_rclone(),
        ))
    }

    /// Sends a request that changes a file.
    pub(super) fn change(
        &self,
        method: &'static str,
        name: FileName,
        more: &[(&str, String)],
        body: &[&[u8]],
    ) -> Result<Response, TransportError> {
        let turn = self.turn(name.kind);
        let _turn = turn.map(|turn| turn.read().unwrap_or_else(PoisonError::into_inner));
        self.send(method, &path(name), more, body)
    }

    /// Whose turn it is in a folder, where that matters.
    fn turn(&self, kind: FileKind) -> Option<&RwLock<()>> {
        let at = FileKind::NAMED.iter().position(|named| *named == kind)?;
        self.turns.get(at).filter(|_| self.is_rclone())
    }

    /// Sends a request for something below the repository's URL.
    pub(super) fn send(
        &self,
        method: &'static str,
        path: &str,
        more: &[(&str, String)],
        body: &[&[u8]],
    ) -> Result<Response, TransportError> {
        let mut response = self.exchange(method, path, more, body)?;
        answer::refuse_web_page(&mut response, false)?;
        Ok(response)
    }

    fn exchange(
        &self,
        method: &'static str,
        path: &str,
        more: &[(&str, String)],
        body: &[&[u8]],
    ) -> Result<Response, TransportError> {
        let mut headers = Vec::from(more);
        if !headers.iter().any(|(name, _)| *name == "Accept") {
            headers.push(("Accept", VERSION_2.to_owned()));
        }
        if let Some(authorization) = &self.authorization {
            headers.push(("Authorization", authorization.reveal().to_owned()));
        }
        let response = self.transport.send(&Request {
            method,
            url: &format!("{}{path}", self.url),
            headers: &headers,
            body,
        })?;
        if answer::is_of_rclone(&response) {
            self.is_rclone.store(true, Ordering::Relaxed);
        }
        Ok(response)
    }

    pub(super) fn is_rclone(&self) -> bool {
        self.is_rclone.load(Ordering::Relaxed)
    }

    pub(super) fn get(
        &self,
        name: FileName,
        headers: &[(&str, String)],
    ) -> Result<Response, BackendError> {
        let got = self.exchange("GET", &path(name), headers, &[]);
        got.and_then(|mut response| {
            answer::refuse_web_page(&mut response, true)?;
            Ok(response)
        })
        .map_err(|error| self.failed("read", &name.to_string(), error))
    }

    /// The size of a file; nothing if the server says that there is none, whatever it means by that.
    pub(super) fn find(&self, name: FileName) -> Result<Option<u64>, BackendError> {
        let what = name.to_string();
        let response = self
            .send("HEAD", &path(name), &[], &[])
            .map_err(|error| self.failed("look at", &what, error))?;
        match response.status {
            200 => {
                let size_bytes = response.length_bytes.ok_or_else(|| {
                    let why = "the server does not tell its size".into();
                    self.trouble("look at", &what, Trouble::Protocol, why)
                })?;
                drain(response);
                Ok(Some(size_bytes))
            }
            404 => {
                drain(response);
                Ok(None)
            }
            _ => Err(self.refused("look at", &what, response)),
        }
    }

    /// What a folder lists; nothing if the server says that there is no such folder. By version 1 rest-server looks at
    /// no file for it, so that no file can make it fail.
    pub(super) fn names(
        &self,
        kind: FileKind,
        version: &str,
    ) -> Result<Option<Listing>, BackendError> {
        let accept = [("Accept", version.to_owned())];
        let folder = kind.folder();
        let turn = self.turn(kind);
        let _turn = turn.map(|turn| turn.write().unwrap_or_else(PoisonError::into_inner));
        let mut response = self
            .send("GET", &format!("{folder}/"), &accept, &[])
            .map_err(|error| self.failed("list", folder, error))?;
        match response.status {
            200 => listing::read(&mut response)
                .map(Some)
                .map_err(|error| self.failed("list", folder, error)),
            // rclone lists a missing folder as an empty one, and answers 404 when it failed itself (restic,
            // `internal/backend/rest`).
            404 if self.is_rclone() => {
                let why = "rclone could not list it, and says no more than 404".into();
                Err(self.trouble("list", folder, Trouble::Transient, why))
            }
            404 => {
                drain(response);
                Ok(None)
            }
            _ => Err(self.refused("list", folder, response)),
        }
    }

    /// Whether exactly this content is kept under a name.
    pub(super) fn holds(&self, name: FileName, data: &[&[u8]]) -> Result<bool, BackendError> {
        let length_bytes: u64 = data.iter().map(|piece| piece.len() as u64).sum();
        if self.find(name)? != Some(length_bytes) {
            return Ok(false);
        }
        let mut response = self.get(name, &[])?;
        if response.status != 200 {
            return Err(self.refused("read", &name.to_string(), response));
        }
        answer::is_same(&mut response, data)
            .map_err(|error| self.failed("read", &name.to_string(), error))
    }

    /// Whether the so many bytes that are kept under a name are the beginning of this content, and not all of it.
    pub(super) fn begins(
        &self,
        name: FileName,
        size_bytes: u64,
        data: &[&[u8]],
    ) -> Result<bool, BackendError> {
        let whole = data.concat();
        let part = usize::try_from(size_bytes)
            .ok()
            .and_then(|size| whole.get(..size));
        match part {
            Some(part) if part.len() < whole.len() => self.holds(name, &[part]),
            _ => Ok(false),
        }
    }

    pub(super) fn failed(
        &self,
        doing: &'static str,
        what: &str,
        error: TransportError,
    ) -> BackendError {
        self.trouble(doing, what, error.trouble, error.why)
    }

    pub(super) fn trouble(
        &self,
        doing: &'static str,
        what: &str,
        trouble: Trouble,
        why: String,
    ) -> BackendError {
        BackendError::Remote {
            doing,
            what: what.to_owned(),
            location: self.location.clone(),
            trouble,
            why,
            retry_after: None,
        }
    }

    /// What an answer means that is none of those that the request expects.
    pub(super) fn refused(
        &self,
        doing: &'static str,
        what: &str,
        mut response: Response,
    ) -> BackendError {
        BackendError::Remote {
            doing,
            what: what.to_owned(),
            location: self.location.clone(),
            trouble: answer::trouble(response.status),
            retry_after: response.retry_after(),
            why: answer::why(&mut response, self.authorization.is_some()),
        }
    }
}

/// Where a file lies below the repository's URL.
pub(super) fn path(name: FileName) -> String {
    match name.kind {
        FileKind::Config => FileKind::Config.folder().to_owned(),
        kind => format!("{}/{}", kind.folder(), name.id),
    }
}

/// Reads what is left of an answer, so that its connection can be used again.
pub(super) fn drain(response: Response) {
    let mut rest = response.body.take(DRAIN_MAX_BYTES);
    // If it breaks, another connection will be made.
    let _ = std::io::copy(&mut rest, &mut std::io::sink());
}

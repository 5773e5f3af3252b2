//! The log in a bucket: each object is created on the condition that there is none of its name.
//! It must never trust a server to keep that condition that was not seen to.

use std::sync::atomic::Ordering;

use super::client::Ask;
use super::failure::Failure;
use super::{S3Backend, Whole, listing, upload};
use crate::backend::log_name::taken;
use crate::backend::{BackendError, Creation, LOG_FOLDER, LogName};

/// The answer where nothing is.
const NOT_FOUND: u16 = 404;
/// The answer where the condition does not hold.
const PRECONDITION_FAILED: u16 = 412;
/// The answer of a server that does not know what it was asked.
const NOT_IMPLEMENTED: u16 = 501;

impl S3Backend {
    pub(super) fn object_key(&self, name: &LogName) -> String {
        format!("{}{}", self.prefix, name.path())
    }

    /// A server that keeps the condition creates an object once, whoever else asks at the same time. Garage 2.5 and
    /// others do not know it and replace: where it was not seen that the condition is kept, a look goes before and
    /// another comes after. Of two processes that create one name at the same moment on such a server both may then be
    /// told that they did, if both look before either writes and one looks again before the other has written.
    pub(super) fn create_object(
        &self,
        name: &LogName,
        data: &[&[u8]],
    ) -> Result<Creation, BackendError> {
        let _turn = self.turns.turn(name);
        let key = self.object_key(name);
        let failed = |failure| self.error("write", name.path(), failure);
        let is_kept = self.keeps_condition.load(Ordering::Relaxed);
        if !is_kept && self.tag(&key).map_err(failed)?.is_some() {
            return taken(self, name, data);
        }
        let tag = match self.put_new(&key, data) {
            Ok(tag) => tag,
            Err(failure) if failure.status == PRECONDITION_FAILED => {
                self.keeps_condition.store(true, Ordering::Relaxed);
                return taken(self, name, data);
            }
            Err(failure) => return Err(failed(failure)),
        };
        if is_kept {
            return Ok(Creation::Created);
        }
        match self.tag(&key).map_err(failed)? {
            Some(found) if !found.is_empty() && Some(found.as_str()) == tag.as_deref() => {
                Ok(Creation::Created)
            }
            // Somebody replaced it, or the server gives no tags to compare.
            _ => taken(self, name, data),
        }
    }

    fn put_new(&self, key: &str, data: &[&[u8]]) -> Result<Option<String>, Failure> {
        let is_conditional = !self.refuses_condition.load(Ordering::Relaxed);
        let put = |is_conditional| {
            upload::create(&self.client, &self.settings, key, data, is_conditional)
        };
        match put(is_conditional) {
            Err(failure)
                if is_conditional
                    && (failure.status == NOT_IMPLEMENTED || failure.code == "NotImplemented") =>
            {
                self.refuses_condition.store(true, Ordering::Relaxed);
                put(false)
            }
            done => done,
        }
    }

    /// The tag of an object, empty if the server does not tell it; nothing if there is no such object.
    fn tag(&self, key: &str) -> Result<Option<String>, Failure> {
        let head = match self.client.send(&Ask::new("HEAD", key)) {
            Ok(found) => found,
            // Whether it is the bucket that is missing, what follows will tell.
            Err(failed) if failed.status == NOT_FOUND => return Ok(None),
            // Without any answer, asking again would only wait as long again.
            Err(failed) if failed.status == 0 => return Err(failed),
            // A failed `HEAD` has no body to tell why it failed, so a `GET` asks again.
            Err(_) => match self.get(key, Some("bytes=0-0".into())) {
                Ok(found) => found,
                Err(failed) if failed.code == "NoSuchKey" => return Ok(None),
                // There is one, and it is empty.
                Err(failed) if failed.status == 416 => return Ok(Some(String::new())),
                Err(failed) => return Err(failed),
            },
        };
        Ok(Some(head.header("etag").unwrap_or_default().to_owned()))
    }

    pub(super) fn load_object(
        &self,
        name: &LogName,
        limit_bytes: u64,
    ) -> Result<Vec<u8>, BackendError> {
        match self.whole(&self.object_key(name), limit_bytes) {
            Ok(Whole::Content(content)) => Ok(content),
            Ok(Whole::TooLong(size_bytes)) => Err(BackendError::ObjectTooLong {
                name: name.clone(),
                location: self.location.clone(),
                size_bytes,
                limit_bytes,
            }),
            Err(failure) if failure.code == "NoSuchKey" => Err(BackendError::NoObject {
                name: name.clone(),
                location: self.location.clone(),
            }),
            Err(failure) => Err(self.error("read", name.path(), failure)),
        }
    }

    pub(super) fn list_objects(
        &self,
        below: Option<&LogName>,
        each: &mut dyn FnMut(LogName, u64),
    ) -> Result<(), BackendError> {
        let log = format!("{}{LOG_FOLDER}/", self.prefix);
        let top = match below {
            Some(below) => format!("{}/", self.object_key(below)),
            None => log.clone(),
        };
        let mut show = |key: &str, size_bytes| {
            let name = key.strip_prefix(&log).and_then(|name| name.parse().ok());
            if let Some(name) = name {
                each(name, size_bytes);
            }
        };
        listing::all(&self.client, &self.settings, &top, &mut show).map_err(|failure| {
            let what = top.strip_prefix(&self.prefix).unwrap_or(&top);
            self.error("list", what.trim_end_matches('/').to_owned(), failure)
        })
    }
}

//! A repository in a bucket of an S3 server, laid out as restic lays it out, so that both share it.
//! It must never take a page of a listing for the whole, nor a missing bucket for an empty repository.

mod answer;
mod client;
mod credentials;
mod failure;
mod listing;
mod log;
mod settings;
mod signature;
mod upload;
mod versions;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use lifeboat_format::Id;

use super::http::{Response, TcpTransport};
use super::turns::Turns;
use super::{
    Backend, BackendError, BackendOptions, Creation, Destroyed, FileKind, FileName, ListingDelay,
    LogName, OptionError, Trouble,
};
use client::{Ask, Client};
use failure::Failure;
use settings::Settings;

pub(super) use settings::OPTIONS;

/// A bucket, or a path in one.
pub(super) struct S3Backend {
    client: Client,
    settings: Settings,
    location: String,
    bucket: String,
    /// With a slash at its end, or empty.
    prefix: String,
    /// The server refused to replace an object on condition, so that it surely does.
    keeps_condition: AtomicBool,
    /// The server wants no conditions.
    refuses_condition: AtomicBool,
    turns: Turns,
}

/// What came of asking for a whole object.
enum Whole {
    Content(Vec<u8>),
    /// It has so many bytes, more than it may.
    TooLong(u64),
}

impl S3Backend {
    /// The repository below `prefix` in a bucket.
    ///
    /// # Errors
    /// When an option or the credentials can't be used.
    pub(super) fn new(
        endpoint: &str,
        bucket: &str,
        prefix: &str,
        location: String,
        options: &BackendOptions,
    ) -> Result<Self, OptionError> {
        let settings = Settings::read(options)?;
        let transport = TcpTransport::new(endpoint, options, settings.connections)?;
        let client = Client::new(Box::new(transport), endpoint, bucket, &settings, options)?;
        let slash = if prefix.is_empty() { "" } else { "/" };
        Ok(Self {
            client,
            settings,
            location,
            bucket: bucket.to_owned(),
            prefix: format!("{prefix}{slash}"),
            keeps_condition: AtomicBool::new(false),
            refuses_condition: AtomicBool::new(false),
            turns: Turns::default(),
        })
    }

    /// restic's default layout (`internal/backend/layout/layout_default.go`).
    fn key(&self, name: FileName) -> String {
        let prefix = &self.prefix;
        match name.kind {
            FileKind::Config => format!("{prefix}config"),
            FileKind::Pack => format!("{prefix}data/{:02x}/{}", name.id.0[0], name.id),
            kind => format!("{prefix}{}/{}", kind.folder(), name.id),
        }
    }

    /// What all keys of a kind begin with.
    fn folder(&self, kind: FileKind) -> String {
        format!("{}{}/", self.prefix, kind.folder())
    }

    fn get(&self, key: &str, range: Option<String>) -> Result<Response, Failure> {
        let headers: Vec<_> = range.map(|range| ("range", range)).into_iter().collect();
        self.client.send(&Ask {
            headers: &headers,
            ..Ask::new("GET", key)
        })
    }

    /// The size of an object. A failed `HEAD` has no body to tell why it failed, so a `GET` asks again.
    fn object_size(&self, key: &str) -> Result<u64, Failure> {
        match self.client.send(&Ask::new("HEAD", key)) {
            Ok(found) => {
                if let Some(size_bytes) = found.length_bytes {
                    return Ok(size_bytes);
                }
            }
            // Without any answer, asking again would only wait as long again.
            Err(failed) if failed.status == 0 => return Err(failed),
            Err(_) => {}
        }
        match self.get(key, Some("bytes=0-0".into())) {
            Ok(found) => {
                let range = failure::content_range(&found);
                let size_bytes = range.map(|range| range.size_bytes).or(found.length_bytes);
                size_bytes.ok_or_else(|| Failure::protocol("the answer does not tell the size"))
            }
            Err(failed) => match failed.size_bytes {
                Some(size_bytes) if failed.status == 416 => Ok(size_bytes),
                _ => Err(failed),
            },
        }
    }

    /// A whole object, if it is no longer than that.
    fn whole(&self, key: &str, limit_bytes: u64) -> Result<Whole, Failure> {
        let mut found = self.get(key, None)?;
        if found.status != 200 {
            return Err(Failure::protocol(format!(
                "the whole was asked for, the answer is {}",
                found.status
            )));
        }
        match found.length_bytes {
            Some(size_bytes) if size_bytes > limit_bytes => Ok(Whole::TooLong(size_bytes)),
            Some(_) => Ok(Whole::Content(found.read(limit_bytes)?)),
            // Without a length, an answer that broke off would look like a whole one.
            None => Err(Failure::protocol("the answer does not tell its length")),
        }
    }

    fn short(&self, name: FileName, size_bytes: u64, wanted_bytes: u64) -> BackendError {
        BackendError::Short {
            name,
            location: self.location.clone(),
            size_bytes,
            wanted_bytes,
        }
    }

    /// A failure that concerns no single file.
    fn error(&self, doing: &'static str, what: String, failure: Failure) -> BackendError {
        let location = self.location.clone();
        if failure.code == "NoSuchBucket" {
            let what = format!("the bucket {}", self.bucket);
            return BackendError::NoRepository { location, what };
        }
        BackendError::Remote {
            doing,
            what,
            location,
            trouble: failure.trouble,
            why: failure.why,
            retry_after: failure.retry_after,
        }
    }

    /// A failure that concerns a file.
    fn file_error(&self, doing: &'static str, name: FileName, failure: Failure) -> BackendError {
        if failure.code == "NoSuchKey" {
            let location = self.location.clone();
            return BackendError::Missing { name, location };
        }
        self.error(doing, name.to_string(), failure)
    }

    fn delete(&self, key: &str, version: Option<&str>) -> Result<Response, Failure> {
        let query: Vec<_> = version
            .map(|version| ("versionId", version.to_owned()))
            .into_iter()
            .collect();
        self.client.send(&Ask {
            query: &query,
            ..Ask::new("DELETE", key)
        })
    }

    fn make_bucket(&self) -> Result<(), Failure> {
        let region = self.client.region();
        // Amazon's first region is the one that must not be named.
        let body = match region.as_str() {
            "us-east-1" => String::new(),
            region => format!(
                "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <LocationConstraint>{}</LocationConstraint></CreateBucketConfiguration>",
                quick_xml::escape::escape(region)
            ),
        };
        let made = self.client.send(&Ask {
            body: &[body.as_bytes()],
            ..Ask::of_bucket("PUT")
        });
        match made {
            Err(failure) if failure.code == "BucketAlreadyOwnedByYou" => Ok(()),
            Err(failure) if failure.trouble == Trouble::Denied => Err(Failure {
                why: format!(
                    "the bucket {} does not exist, and these credentials may not make it: {}",
                    self.bucket, failure.why
                ),
                ..failure
            }),
            other => other.map(|_| ()),
        }
    }
}

impl Backend for S3Backend {
    fn location(&self) -> String {
        self.location.clone()
    }

    /// Amazon S3 User Guide, "Amazon S3 data consistency model": listings show what was written before.
    fn listing_delay(&self) -> ListingDelay {
        ListingDelay::NoneByContract
    }

    fn connections(&self) -> usize {
        self.settings.connections
    }

    fn create(&self) -> Result<(), BackendError> {
        match listing::first(&self.client, &self.settings, &self.prefix) {
            Ok(()) => Ok(()),
            Err(failure) if failure.code == "NoSuchBucket" => {
                self.make_bucket().map_err(|failure| {
                    self.error("make", format!("the bucket {}", self.bucket), failure)
                })
            }
            // Who may not list may still write; what follows will tell.
            Err(failure) if failure.trouble == Trouble::Denied => Ok(()),
            Err(failure) => Err(self.error("find", format!("the bucket {}", self.bucket), failure)),
        }
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64)) -> Result<(), BackendError> {
        if kind == FileKind::Config {
            return match self.size(FileName::CONFIG) {
                Ok(size_bytes) => {
                    each(FileName::CONFIG.id, size_bytes);
                    Ok(())
                }
                Err(error) if error.is_missing() => Ok(()),
                Err(error) => Err(error),
            };
        }
        let folder = self.folder(kind);
        let mut show = |key: &str, size_bytes| {
            let id = key
                .strip_prefix(&folder)
                .and_then(|rest| of_kind(kind, rest));
            if let Some(id) = id {
                each(id, size_bytes);
            }
        };
        listing::all(&self.client, &self.settings, &folder, &mut show)
            .map_err(|failure| self.error("list", kind.folder().to_owned(), failure))
    }

    fn size(&self, name: FileName) -> Result<u64, BackendError> {
        self.object_size(&self.key(name))
            .map_err(|failure| self.file_error("look for", name, failure))
    }

    fn load(&self, name: FileName, limit_bytes: u64) -> Result<Vec<u8>, BackendError> {
        match self.whole(&self.key(name), limit_bytes) {
            Ok(Whole::Content(content)) => Ok(content),
            Ok(Whole::TooLong(size_bytes)) => Err(BackendError::TooLong {
                name,
                location: self.location.clone(),
                size_bytes,
                limit_bytes,
            }),
            Err(failure) => Err(self.file_error("read", name, failure)),
        }
    }

    fn load_at(
        &self,
        name: FileName,
        offset_bytes: u64,
        buf: &mut [u8],
    ) -> Result<(), BackendError> {
        let wanted_bytes = offset_bytes.saturating_add(buf.len() as u64);
        // No range is empty, and servers count with signed numbers.
        if buf.is_empty() || wanted_bytes > i64::MAX as u64 {
            let size_bytes = self.size(name)?;
            return match wanted_bytes <= size_bytes {
                true => Ok(()),
                false => Err(self.short(name, size_bytes, wanted_bytes)),
            };
        }
        let key = self.key(name);
        let failed = |failure| self.file_error("read", name, failure);
        let range = format!("bytes={offset_bytes}-{}", wanted_bytes - 1);
        let mut found = match self.get(&key, Some(range)) {
            Ok(found) => found,
            Err(failure) if failure.status == 416 => {
                let size_bytes = match failure.size_bytes {
                    Some(size_bytes) => size_bytes,
                    None => self.object_size(&key).map_err(failed)?,
                };
                return Err(self.short(name, size_bytes, wanted_bytes));
            }
            Err(failure) => return Err(failed(failure)),
        };
        let range = failure::content_range(&found).filter(|_| found.status == 206);
        let Some(range) = range else {
            return Err(failed(Failure::protocol(
                "a range was asked for, and the answer is none",
            )));
        };
        if range.size_bytes < wanted_bytes {
            return Err(self.short(name, range.size_bytes, wanted_bytes));
        }
        if range.first != offset_bytes || range.last.checked_add(1) != Some(wanted_bytes) {
            return Err(failed(Failure::protocol(format!(
                "bytes {offset_bytes} to {} were asked for, the answer has {} to {}",
                wanted_bytes - 1,
                range.first,
                range.last
            ))));
        }
        found.read_exact(buf).map_err(|error| failed(error.into()))
    }

    fn save(&self, name: FileName, data: &[&[u8]]) -> Result<(), BackendError> {
        upload::save(
            &self.client,
            &self.settings,
            name.kind,
            &self.key(name),
            data,
        )
        .map_err(|failure| self.error("write", name.to_string(), failure))
    }

    fn remove(&self, name: FileName) -> Result<(), BackendError> {
        match self.delete(&self.key(name), None) {
            Err(failure) if failure.code != "NoSuchKey" => {
                Err(self.error("remove", name.to_string(), failure))
            }
            _ => Ok(()),
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
        let _turn = self.turns.turn(name);
        match self.delete(&self.object_key(name), None) {
            Err(failure) if failure.code != "NoSuchKey" => {
                Err(self.error("remove", name.path(), failure))
            }
            _ => Ok(()),
        }
    }

    fn remove_unfinished(&self, older_than: Duration) -> Result<u64, BackendError> {
        upload::remove_unfinished(&self.client, &self.prefix, older_than)
            .map_err(|failure| self.error("remove", "unfinished uploads".into(), failure))
    }

    fn destroy(&self, name: FileName) -> Result<Destroyed, BackendError> {
        let key = self.key(name);
        let failed = |failure| self.error("destroy", name.to_string(), failure);
        let removed = match self.delete(&key, None) {
            Ok(removed) => removed,
            Err(failure) if failure.trouble == Trouble::Denied => {
                self.size(name)?;
                return Ok(Destroyed::Refused(failure.why));
            }
            Err(failure) => return Err(failed(failure)),
        };
        if let Some(why) = versions::destroy(&self.client, &key, &removed).map_err(failed)? {
            return Ok(Destroyed::VersionKept(why));
        }
        match self.size(name) {
            Err(error) if error.is_missing() => Ok(Destroyed::Gone),
            Err(error) => Err(error),
            Ok(_) => Ok(Destroyed::Refused(
                "the file is still there after its removal".into(),
            )),
        }
    }
}

/// The ID of a key behind its folder; none for what we would write elsewhere.
fn of_kind(kind: FileKind, rest: &str) -> Option<Id> {
    let name = match kind {
        FileKind::Pack => {
            let (folder, name) = rest.split_once('/')?;
            name.strip_prefix(folder).filter(|_| folder.len() == 2)?;
            name
        }
        _ => rest,
    };
    super::layout::parse_id(name.as_ref())
}

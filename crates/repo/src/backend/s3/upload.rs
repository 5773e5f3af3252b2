//! Objects on their way in: in one piece, or in parts where they are long.
//! It must never leave parts behind that somebody pays for, unless the process is killed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::answer::Element;
use super::client::{Ask, Client};
use super::failure::Failure;
use super::listing;
use super::settings::Settings;
use crate::backend::FileKind;

/// Longest object that is sent in one piece, in bytes.
const SINGLE_MAX_BYTES: usize = 32 << 20;
/// How long a part is, in bytes. S3 takes 10,000 parts, each but the last of 5 MiB and more.
const PART_BYTES: usize = 16 << 20;
/// How many parts of one object are sent at once.
const PARTS_AT_ONCE: usize = 4;
/// Longest answer about an upload, in bytes.
const ANSWER_MAX_BYTES: u64 = 1 << 20;

/// Saves an object.
pub(super) fn save(
    client: &Client,
    settings: &Settings,
    kind: FileKind,
    key: &str,
    data: &[&[u8]],
) -> Result<(), Failure> {
    send(client, &settings.headers(kind), &[], key, data).map(drop)
}

/// Saves an object of the log, and returns the tag that the server gave it, if it told one. With a condition, a server
/// that knows it refuses when there is such an object (Amazon S3 User Guide, "How to prevent object overwrites with
/// conditional writes").
pub(super) fn create(
    client: &Client,
    settings: &Settings,
    key: &str,
    data: &[&[u8]],
    is_conditional: bool,
) -> Result<Option<String>, Failure> {
    let condition = [("if-none-match", "*".to_owned())];
    let condition = condition.get(..usize::from(is_conditional));
    // As an index file: it must be readable at any time.
    let headers = settings.headers(FileKind::Index);
    send(client, &headers, condition.unwrap_or_default(), key, data)
}

fn send(
    client: &Client,
    headers: &[(&str, String)],
    condition: &[(&str, String)],
    key: &str,
    data: &[&[u8]],
) -> Result<Option<String>, Failure> {
    let length_bytes: usize = data.iter().map(|piece| piece.len()).sum();
    if length_bytes <= SINGLE_MAX_BYTES {
        let mut saved = client.send(&Ask {
            headers: &[headers, condition].concat(),
            body: data,
            ..Ask::new("PUT", key)
        })?;
        // Read to its end, so that the connection can be used again.
        saved.read(ANSWER_MAX_BYTES)?;
        return Ok(saved.header("etag").map(str::to_owned));
    }
    let id = begin(client, key, headers)?;
    let saved = send_parts(client, key, &id, &parts(data))
        .and_then(|tags| complete(client, key, &id, condition, &tags));
    if saved.is_err() {
        // Why the upload failed is what counts; `remove_unfinished` finds what could not be aborted.
        let _ = abort(client, key, &id);
    }
    saved
}

fn begin(client: &Client, key: &str, headers: &[(&str, String)]) -> Result<String, Failure> {
    let mut begun = client.send(&Ask {
        query: &[("uploads", String::new())],
        headers,
        ..Ask::new("POST", key)
    })?;
    let told = Element::parse(&begun.read(ANSWER_MAX_BYTES)?);
    told.as_ref()
        .and_then(|told| told.text("UploadId"))
        .filter(|id| !id.is_empty())
        .map(str::to_owned)
        .ok_or_else(|| Failure::protocol("the answer does not name the upload"))
}

/// Pieces cut and joined to parts, without copying them.
fn parts<'a>(data: &[&'a [u8]]) -> Vec<Vec<&'a [u8]>> {
    let mut parts = vec![Vec::new()];
    let mut room = PART_BYTES;
    for piece in data {
        let mut piece = *piece;
        while !piece.is_empty() {
            if room == 0 {
                parts.push(Vec::new());
                room = PART_BYTES;
            }
            let (head, tail) = piece.split_at(piece.len().min(room));
            room -= head.len();
            if let Some(part) = parts.last_mut() {
                part.push(head);
            }
            piece = tail;
        }
    }
    parts
}

/// Sends all parts, a few at once, and returns what the server calls them.
fn send_parts(
    client: &Client,
    key: &str,
    id: &str,
    parts: &[Vec<&[u8]>],
) -> Result<Vec<String>, Failure> {
    let (next, is_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let sent = Mutex::new(vec![String::new(); parts.len()]);
    let work = || -> Result<(), Failure> {
        while !is_failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = parts.get(index) else {
                break;
            };
            let tag = send_part(client, key, id, index + 1, part)
                .inspect_err(|_| is_failed.store(true, Ordering::Relaxed))?;
            let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(place) = sent.get_mut(index) {
                *place = tag;
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..PARTS_AT_ONCE.min(parts.len()))
            .map(|_| scope.spawn(work))
            .collect();
        let ends = workers.into_iter().map(|worker| {
            let ended = worker.join();
            ended.unwrap_or_else(|_| Err(Failure::protocol("the sender of a part stopped")))
        });
        ends.collect::<Vec<_>>()
            .into_iter()
            .collect::<Result<(), _>>()
    })?;
    Ok(sent.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn send_part(
    client: &Client,
    key: &str,
    id: &str,
    number: usize,
    part: &[&[u8]],
) -> Result<String, Failure> {
    let mut sent = client.send(&Ask {
        query: &[
            ("partNumber", number.to_string()),
            ("uploadId", id.to_owned()),
        ],
        body: part,
        ..Ask::new("PUT", key)
    })?;
    let tag = sent.header("etag").map(str::to_owned);
    sent.read(ANSWER_MAX_BYTES)?;
    tag.ok_or_else(|| Failure::protocol("the answer does not name the part"))
}

/// Joins the parts. The answer may begin before it is known how it will end, so that an error comes with a good status.
fn complete(
    client: &Client,
    key: &str,
    id: &str,
    condition: &[(&str, String)],
    tags: &[String],
) -> Result<Option<String>, Failure> {
    let parts: String = tags
        .iter()
        .zip(1..)
        .map(|(tag, number): (_, usize)| {
            let tag = quick_xml::escape::escape(tag.as_str());
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>")
        })
        .collect();
    let body = format!(
        "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{parts}</CompleteMultipartUpload>"
    );
    let kind = ("content-type", "application/xml".to_owned());
    let mut completed = client.send(&Ask {
        query: &[("uploadId", id.to_owned())],
        headers: &[&[kind], condition].concat(),
        body: &[body.as_bytes()],
        ..Ask::new("POST", key)
    })?;
    let told = Element::parse(&completed.read(ANSWER_MAX_BYTES)?);
    match told.as_ref().map(Element::name) {
        Some("CompleteMultipartUploadResult") => {
            let tag = told.as_ref().and_then(|told| told.text("ETag"));
            Ok(tag.map(|tag| tag.trim().to_owned()))
        }
        Some("Error") => Err(Failure::told(500, told.as_ref())),
        _ => Err(Failure::protocol(
            "the answer does not say that the upload is complete",
        )),
    }
}

fn abort(client: &Client, key: &str, id: &str) -> Result<(), Failure> {
    let aborted = client.send(&Ask {
        query: &[("uploadId", id.to_owned())],
        ..Ask::new("DELETE", key)
    });
    match aborted {
        Err(failure) if failure.code != "NoSuchUpload" => Err(failure),
        _ => Ok(()),
    }
}

/// Aborts uploads below a prefix that began so long ago, and returns how many.
pub(super) fn remove_unfinished(
    client: &Client,
    prefix: &str,
    older_than: Duration,
) -> Result<u64, Failure> {
    let limit = SystemTime::now().checked_sub(older_than);
    let limit = limit.and_then(|limit| Timestamp::try_from(limit).ok());
    let mut stale = Vec::new();
    let mut after: Option<(String, String)> = None;
    loop {
        let mut query = vec![
            ("uploads", String::new()),
            ("prefix", prefix.to_owned()),
            ("encoding-type", "url".to_owned()),
        ];
        if let Some((key, id)) = &after {
            query.push(("key-marker", key.clone()));
            query.push(("upload-id-marker", id.clone()));
        }
        let page = listing::document(client, &query, "ListMultipartUploadsResult")?;
        let is_encoded = page.text("EncodingType") == Some("url");
        for upload in page.all("Upload") {
            let key = upload.decoded("Key", is_encoded);
            let id = upload.text("UploadId").map(str::to_owned);
            let begun = upload
                .text("Initiated")
                .and_then(|text| text.trim().parse::<Timestamp>().ok());
            let (Some(key), Some(id), Some(begun)) = (key, id, begun) else {
                return Err(Failure::protocol(
                    "the listing of uploads has one without a key, name or time",
                ));
            };
            if limit.is_some_and(|limit| begun < limit) {
                stale.push((key, id));
            }
        }
        if !listing::is_truncated(&page)? {
            break;
        }
        let key = page.decoded("NextKeyMarker", is_encoded);
        let id = page.text("NextUploadIdMarker").map(str::to_owned);
        let next = key.zip(id).filter(|next| after.as_ref() != Some(next));
        after = Some(next.ok_or_else(|| {
            Failure::protocol("the listing of uploads says that there is more, and not where")
        })?);
    }
    for (key, id) in &stale {
        abort(client, key, id)?;
    }
    Ok(stale.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_as_long_as_they_should_be_and_lose_nothing() {
        let long = vec![7u8; 2 * PART_BYTES + 5];
        let (first, second) = long.split_at(PART_BYTES - 3);
        for data in [&[long.as_slice()][..], &[b"", first, b"", second, b""]] {
            let parts = parts(data);
            let lengths: Vec<usize> = parts
                .iter()
                .map(|part| part.iter().map(|piece| piece.len()).sum())
                .collect();
            assert_eq!(lengths, [PART_BYTES, PART_BYTES, 5]);
        }
        assert_eq!(parts(&[&[1; PART_BYTES]]).len(), 1);
    }
}

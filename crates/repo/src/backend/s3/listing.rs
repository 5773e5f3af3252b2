//! All objects below a prefix, page by page.
//! It must never end before the server said that there is no more.

use super::answer::Element;
use super::client::{Ask, Client};
use super::failure::Failure;
use super::settings::Settings;

/// Longest page, in bytes: a thousand keys, each of them encoded.
const PAGE_MAX_BYTES: u64 = 16 << 20;

/// Calls `each` with key and size in bytes of every object.
pub(super) fn all(
    client: &Client,
    settings: &Settings,
    prefix: &str,
    each: &mut dyn FnMut(&str, u64),
) -> Result<(), Failure> {
    let mut after: Option<String> = None;
    loop {
        let page = page(client, settings, prefix, after.as_deref(), None)?;
        let is_encoded = page.text("EncodingType") == Some("url");
        let mut last = None;
        for object in page.all("Contents") {
            let key = object.decoded("Key", is_encoded);
            let size = object
                .text("Size")
                .and_then(|size| size.trim().parse().ok());
            let (Some(key), Some(size_bytes)) = (key, size) else {
                return Err(Failure::protocol(
                    "a page of the listing has an object without a key or size",
                ));
            };
            each(&key, size_bytes);
            last = Some(key);
        }
        if !is_truncated(&page)? {
            return Ok(());
        }
        let next = match settings.list_objects_v1 {
            false => page.text("NextContinuationToken").map(str::to_owned),
            true => page.decoded("NextMarker", is_encoded).or(last),
        };
        let next = next.filter(|next| !next.is_empty() && after.as_ref() != Some(next));
        after = Some(next.ok_or_else(|| {
            Failure::protocol("a page of the listing says that there is more, and not where")
        })?);
    }
}

/// Asks for one object, to learn whether the bucket is there.
pub(super) fn first(client: &Client, settings: &Settings, prefix: &str) -> Result<(), Failure> {
    page(client, settings, prefix, None, Some(1)).map(|_| ())
}

fn page(
    client: &Client,
    settings: &Settings,
    prefix: &str,
    after: Option<&str>,
    keys_max: Option<usize>,
) -> Result<Element, Failure> {
    let mut query = vec![
        ("prefix", prefix.to_owned()),
        ("encoding-type", "url".to_owned()),
    ];
    if !settings.list_objects_v1 {
        query.push(("list-type", "2".to_owned()));
    }
    let after_name = match settings.list_objects_v1 {
        false => "continuation-token",
        true => "marker",
    };
    query.extend(after.map(|after| (after_name, after.to_owned())));
    query.extend(keys_max.map(|keys| ("max-keys", keys.to_string())));
    document(client, &query, "ListBucketResult")
}

/// A listing of the bucket as a whole document with that root.
pub(super) fn document(
    client: &Client,
    query: &[(&str, String)],
    root: &str,
) -> Result<Element, Failure> {
    let mut response = client.send(&Ask {
        query,
        ..Ask::of_bucket("GET")
    })?;
    let body = response.read(PAGE_MAX_BYTES)?;
    let found = Element::parse(&body)
        .ok_or_else(|| Failure::protocol("the answer is no XML: is this an S3 server?"))?;
    match found.name() {
        name if name == root => Ok(found),
        "Error" => Err(Failure::told(response.status, Some(&found))),
        other => Err(Failure::protocol(format!(
            "the answer is {other:?} instead of {root:?}"
        ))),
    }
}

/// Whether there are more pages, which a page has to say.
pub(super) fn is_truncated(page: &Element) -> Result<bool, Failure> {
    match page.text("IsTruncated").map(str::trim) {
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        _ => Err(Failure::protocol(
            "a page of the listing does not say whether it is the last",
        )),
    }
}

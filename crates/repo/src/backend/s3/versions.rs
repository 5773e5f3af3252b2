//! Earlier versions of an object, which a bucket may keep although its name is gone.
//! It must never call an object gone while a version of it is left.

use super::client::{Ask, Client};
use super::failure::Failure;
use super::listing;
use crate::backend::Trouble;
use crate::backend::http::Response;

/// Most versions of one object that are looked at.
const VERSIONS_MAX: usize = 10_000;

/// A version of an object.
struct Version {
    id: String,
    is_marker: bool,
}

/// Deletes every version of an object that was just removed; returns what the server said where one is left.
pub(super) fn destroy(
    client: &Client,
    key: &str,
    removed: &Response,
) -> Result<Option<String>, Failure> {
    let versions = match versions(client, key) {
        Ok(versions) => versions,
        // A server without versions: what was removed is gone.
        Err(failure) if failure.status == 501 || failure.code == "NotImplemented" => {
            return Ok(None);
        }
        // Who may not list versions learns from the removal whether there are any.
        Err(failure) if failure.trouble == Trouble::Denied => {
            let is_kept = removed.header("x-amz-delete-marker") == Some("true");
            return Ok(is_kept.then_some(failure.why));
        }
        Err(failure) => return Err(failure),
    };
    // Markers last: they hide what is left.
    let mut said = None;
    let (markers, contents): (Vec<_>, Vec<_>) =
        versions.into_iter().partition(|version| version.is_marker);
    for version in &contents {
        if let Err(failure) = delete(client, key, &version.id) {
            match failure.trouble {
                Trouble::Denied => said = Some(failure.why),
                _ => return Err(failure),
            }
        }
    }
    if said.is_some() {
        return Ok(said);
    }
    for marker in &markers {
        delete(client, key, &marker.id)?;
    }
    let left = self::versions(client, key)?;
    let is_left = left.iter().any(|version| !version.is_marker);
    Ok(is_left.then(|| "a version is still there after its removal".to_owned()))
}

fn delete(client: &Client, key: &str, version: &str) -> Result<(), Failure> {
    let deleted = client.send(&Ask {
        query: &[("versionId", version.to_owned())],
        ..Ask::new("DELETE", key)
    });
    deleted.map(|_| ())
}

fn versions(client: &Client, key: &str) -> Result<Vec<Version>, Failure> {
    let mut found = Vec::new();
    let mut after: Option<(String, String)> = None;
    loop {
        let mut query = vec![
            ("versions", String::new()),
            ("prefix", key.to_owned()),
            ("encoding-type", "url".to_owned()),
        ];
        if let Some((key, id)) = &after {
            query.push(("key-marker", key.clone()));
            query.push(("version-id-marker", id.clone()));
        }
        let page = listing::document(client, &query, "ListVersionsResult")?;
        let is_encoded = page.text("EncodingType") == Some("url");
        for (name, is_marker) in [("Version", false), ("DeleteMarker", true)] {
            for version in page.all(name) {
                let of = version.decoded("Key", is_encoded);
                let id = version.text("VersionId").map(str::to_owned);
                let (Some(of), Some(id)) = (of, id) else {
                    return Err(Failure::protocol(
                        "the listing of versions has one without a key or name",
                    ));
                };
                // What only begins with the key is another object.
                if of == key {
                    found.push(Version { id, is_marker });
                }
            }
        }
        if !listing::is_truncated(&page)? {
            return Ok(found);
        }
        let key = page.decoded("NextKeyMarker", is_encoded);
        let id = page.text("NextVersionIdMarker").map(str::to_owned);
        let next = key.zip(id).filter(|next| after.as_ref() != Some(next));
        let next = next.filter(|_| found.len() <= VERSIONS_MAX);
        after =
            Some(next.ok_or_else(|| {
                Failure::protocol("the listing of versions does not come to an end")
            })?);
    }
}

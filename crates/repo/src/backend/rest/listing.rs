//! A listing as a REST server sends it: names with sizes by version 2 of the protocol, names alone by version 1.
//! It must never take a listing that broke off, or something that is no listing, for a shorter one.

use std::ffi::OsStr;
use std::fmt;
use std::io::BufReader;

use lifeboat_format::Id;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::backend::Trouble;
use crate::backend::http::{Response, TransportError};
use crate::backend::layout::parse_id;

/// One file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// Its ID.
    pub(super) id: Id,
    /// Its size in bytes, by version 2.
    pub(super) size_bytes: Option<u64>,
}

/// All files of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// Those whose name is an ID; rest-server also lists what is being uploaded.
    pub(super) files: Vec<Listed>,
    /// Nothing was listed at all, not even other names.
    pub(super) is_empty: bool,
}

impl Listing {
    pub(super) fn has(&self, id: Id) -> bool {
        self.files.iter().any(|file| file.id == id)
    }
}

/// Reads the listing that an answer holds. Which version it is shows in itself: proxies change types of content.
pub(super) fn read(response: &mut Response) -> Result<Listing, TransportError> {
    let error = |error: serde_json::Error| match error.classify() {
        serde_json::error::Category::Io | serde_json::error::Category::Eof => TransportError {
            trouble: Trouble::Transient,
            why: format!("the listing broke off: {error}"),
        },
        _ => TransportError {
            trouble: Trouble::Protocol,
            why: format!("what came back is no listing: {error}"),
        },
    };
    serde_json::from_reader(BufReader::new(&mut response.body)).map_err(error)
}

impl<'de> Deserialize<'de> for Listing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListingVisitor)
    }
}

struct ListingVisitor;

impl<'de> Visitor<'de> for ListingVisitor {
    type Value = Listing;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of files")
    }

    /// Go's encoder writes an empty list so, if nobody ever added to it.
    fn visit_unit<E>(self) -> Result<Listing, E> {
        Ok(Listing {
            files: Vec::new(),
            is_empty: true,
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Listing, A::Error> {
        let mut listing = Listing {
            files: Vec::new(),
            is_empty: true,
        };
        while let Some(Entry(listed)) = all.next_element()? {
            listing.is_empty = false;
            listing.files.extend(listed);
        }
        Ok(listing)
    }
}

/// One entry; nothing if its name is no ID.
struct Entry(Option<Listed>);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name, or an object with a name and a size")
    }

    fn visit_str<E>(self, name: &str) -> Result<Entry, E> {
        Ok(Entry(parse_id(OsStr::new(name)).map(|id| Listed {
            id,
            size_bytes: None,
        })))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Entry, A::Error> {
        let mut name: Option<String> = None;
        let mut size_bytes: Option<u64> = None;
        while let Some(field) = fields.next_key::<String>()? {
            match field.as_str() {
                "name" => name = Some(fields.next_value()?),
                "size" => size_bytes = Some(fields.next_value()?),
                _ => {
                    let _: IgnoredAny = fields.next_value()?;
                }
            }
        }
        let missing = |field| <A::Error as serde::de::Error>::missing_field(field);
        let name = name.ok_or_else(|| missing("name"))?;
        let size_bytes = size_bytes.ok_or_else(|| missing("size"))?;
        Ok(Entry(parse_id(OsStr::new(&name)).map(|id| Listed {
            id,
            size_bytes: Some(size_bytes),
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(text: &str) -> Result<Listing, Trouble> {
        let mut response = Response {
            status: 200,
            headers: Vec::new(),
            has_body: true,
            length_bytes: None,
            body: Box::new(std::io::Cursor::new(text.to_owned())),
        };
        read(&mut response).map_err(|error| error.trouble)
    }

    #[test]
    fn both_versions_are_read_and_other_names_left_out() {
        let id = Id([0xab; 32]);
        let sized = format!(
            r#"[{{"name":"{id}","size":12,"more":[1]}},{{"name":"{id}.rest-server-temp1","size":3}}]"#
        );
        let file = |size_bytes| Listing {
            files: vec![Listed { id, size_bytes }],
            is_empty: false,
        };
        assert_eq!(listing(&sized), Ok(file(Some(12))));
        assert_eq!(
            listing(&format!(r#"["{id}", "config-tmp-1"]"#)),
            Ok(file(None))
        );
        for empty in ["[]", "null", " [ ]\n"] {
            assert_eq!(listing(empty).map(|found| found.is_empty), Ok(true));
        }
        assert_eq!(
            listing(r#"["foreign"]"#).map(|found| found.is_empty),
            Ok(false)
        );
    }

    #[test]
    fn what_breaks_off_may_be_whole_next_time_and_what_is_no_listing_never_is() {
        for broken in ["", "[", r#"["aa"#, r#"["aa","#, r#"[{"name":"a","size":1"#] {
            assert_eq!(listing(broken), Err(Trouble::Transient), "{broken}");
        }
        for other in [
            "<html>",
            "{}",
            r#"[{"name":"a"}]"#,
            r#"[{"name":"a","size":-1}]"#,
            "[1]",
            "[] []",
            r#"{"error":"no"}"#,
        ] {
            assert_eq!(listing(other), Err(Trouble::Protocol), "{other}");
        }
    }
}

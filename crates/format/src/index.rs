//! An index file: which pack holds which blobs, so that nobody needs to read all pack headers.
//! It must never be written before the packs that it names are stored.

mod usual;

use serde::Deserialize;

use crate::go_json::push_number;
use crate::{BlobKind, FormatError, Id, OVERHEAD_BYTES, PackEntry, Timestamp, header_bytes};

/// The content of one index file.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct IndexFile {
    /// The packs with their blobs. `supersedes` of old files is ignored, as restic does today.
    #[serde(default, deserialize_with = "null_is_nothing")]
    pub packs: Vec<IndexPack>,
    /// Packs that a prune has marked for deletion (an extension of rustic that restic ignores).
    #[serde(default, deserialize_with = "null_is_nothing")]
    pub packs_to_delete: Vec<MarkedPack>,
}

/// A pack in an index file.
#[derive(Clone, Debug, Deserialize)]
pub struct IndexPack {
    /// The pack's ID.
    pub id: Id,
    /// Its blobs.
    #[serde(deserialize_with = "null_is_nothing")]
    pub blobs: Vec<IndexBlob>,
}

impl IndexPack {
    /// The size that a pack of these blobs has, in bytes.
    #[must_use]
    pub fn expected_bytes(&self) -> u64 {
        let entries: Vec<PackEntry> = self.blobs.iter().map(IndexBlob::entry).collect();
        let blobs = self.blobs.iter().map(|blob| u64::from(blob.length_bytes));
        blobs.sum::<u64>() + header_bytes(&entries)
    }
}

/// A pack that is to be deleted when its time has come.
#[derive(Clone, Debug, Deserialize)]
pub struct MarkedPack {
    /// The pack's ID.
    pub id: Id,
    /// Its blobs; none if the pack was in no index file when it was marked.
    #[serde(deserialize_with = "null_is_nothing")]
    pub blobs: Vec<IndexBlob>,
    /// When it was marked. A time that nobody can read counts as none.
    #[serde(default, deserialize_with = "readable_time")]
    pub time: Option<Timestamp>,
    /// Its size in bytes, which rustic writes where the blobs do not tell it.
    #[serde(rename = "size", default)]
    pub size_bytes: Option<u64>,
}

impl MarkedPack {
    /// The pack without its mark.
    #[must_use]
    pub fn unmarked(self) -> IndexPack {
        IndexPack {
            id: self.id,
            blobs: self.blobs,
        }
    }
}

/// As Go reads it: rustic writes `null` for the length of what is not compressed.
fn null_is_nothing<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn readable_time<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse().ok()))
}

/// A blob in an index file.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct IndexBlob {
    /// The blob's ID.
    pub id: Id,
    /// What it holds.
    #[serde(rename = "type", deserialize_with = "kind")]
    pub kind: BlobKind,
    /// Where its ciphertext starts, in bytes.
    #[serde(rename = "offset")]
    pub offset_bytes: u32,
    /// Length of its ciphertext, in bytes.
    #[serde(rename = "length")]
    pub length_bytes: u32,
    /// Length of its plaintext if compressed, otherwise 0.
    #[serde(
        rename = "uncompressed_length",
        default,
        deserialize_with = "null_is_nothing"
    )]
    pub raw_length_bytes: u32,
}

fn kind<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BlobKind, D::Error> {
    struct Word;
    impl serde::de::Visitor<'_> for Word {
        type Value = BlobKind;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("\"data\" or \"tree\"")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<BlobKind, E> {
            match text {
                "data" => Ok(BlobKind::Data),
                "tree" => Ok(BlobKind::Tree),
                other => Err(E::unknown_variant(other, &["data", "tree"])),
            }
        }
    }
    deserializer.deserialize_str(Word)
}

impl IndexBlob {
    /// The blob as the header of its pack names it.
    #[must_use]
    pub fn entry(&self) -> PackEntry {
        PackEntry {
            kind: self.kind,
            id: self.id,
            length_bytes: self.length_bytes,
            raw_length_bytes: self.raw_length_bytes,
        }
    }
}

impl IndexFile {
    /// Reads it.
    ///
    /// # Errors
    /// When it is malformed or names a blob that can't exist.
    pub fn from_json(json: &[u8]) -> Result<Self, FormatError> {
        let what = "index file";
        let file: Self = match usual::parse(json) {
            Some(file) => file,
            None => Self::from_general_json(json)?,
        };
        let indexed = file.packs.iter().map(|pack| (pack.id, &pack.blobs));
        let marked = file.packs_to_delete.iter();
        for (pack, blobs) in indexed.chain(marked.map(|pack| (pack.id, &pack.blobs))) {
            for blob in blobs {
                if (blob.length_bytes as usize) < OVERHEAD_BYTES
                    || blob.offset_bytes.checked_add(blob.length_bytes).is_none()
                {
                    let why = format!(
                        "blob {} in pack {} has an impossible place",
                        blob.id.short(),
                        pack.short()
                    );
                    return Err(FormatError::Invalid { what, why });
                }
            }
        }
        Ok(file)
    }

    /// Reads it as any other JSON, without a look at how index files are usually written: what the faster way is
    /// compared with. Places are not looked at.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn from_general_json(json: &[u8]) -> Result<Self, FormatError> {
        let what = "index file";
        serde_json::from_slice(json).map_err(|cause| FormatError::Json { what, cause })
    }

    /// As restic writes it.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let blobs: usize = self.packs.iter().map(|p| p.blobs.len()).sum();
        let mut out = Vec::with_capacity(blobs * 150 + self.packs.len() * 100 + 20);
        out.extend_from_slice(b"{\"packs\":[");
        for (at, pack) in self.packs.iter().enumerate() {
            push_pack(&mut out, at, pack.id, &pack.blobs);
            out.push(b'}');
        }
        out.push(b']');
        if !self.packs_to_delete.is_empty() {
            out.extend_from_slice(b",\"packs_to_delete\":[");
            for (at, pack) in self.packs_to_delete.iter().enumerate() {
                push_pack(&mut out, at, pack.id, &pack.blobs);
                if let Some(time) = pack.time {
                    out.extend_from_slice(format!(",\"time\":\"{time}\"").as_bytes());
                }
                if let Some(size_bytes) = pack.size_bytes {
                    out.extend_from_slice(b",\"size\":");
                    push_number(&mut out, size_bytes);
                }
                out.push(b'}');
            }
            out.push(b']');
        }
        out.extend_from_slice(b"}\n");
        out
    }
}

/// A pack's object up to its end, which is left open.
fn push_pack(out: &mut Vec<u8>, at: usize, id: Id, blobs: &[IndexBlob]) {
    if at > 0 {
        out.push(b',');
    }
    out.extend_from_slice(b"{\"id\":\"");
    out.extend_from_slice(&id.hex());
    out.extend_from_slice(b"\",\"blobs\":[");
    for (at, blob) in blobs.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"id\":\"");
        out.extend_from_slice(&blob.id.hex());
        out.extend_from_slice(b"\",\"type\":\"");
        out.extend_from_slice(blob.kind.word().as_bytes());
        out.extend_from_slice(b"\",\"offset\":");
        push_number(out, u64::from(blob.offset_bytes));
        out.extend_from_slice(b",\"length\":");
        push_number(out, u64::from(blob.length_bytes));
        if blob.raw_length_bytes != 0 {
            out.extend_from_slice(b",\"uncompressed_length\":");
            push_number(out, u64::from(blob.raw_length_bytes));
        }
        out.push(b'}');
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restics_form_survives() {
        let id = "3ec79977ef0cf5de7b08cd12b874cd0f62bbaf7f07f3497a5b1bbcc8cb39b1ce";
        let json = format!(
            "{{\"packs\":[{{\"id\":\"{id}\",\"blobs\":[{{\"id\":\"{id}\",\"type\":\"data\",\"offset\":0,\"length\":38}},{{\"id\":\"{id}\",\"type\":\"tree\",\"offset\":38,\"length\":112,\"uncompressed_length\":511}}]}}]}}\n"
        );
        assert_eq!(
            String::from_utf8(IndexFile::from_json(json.as_bytes()).unwrap().to_json()).unwrap(),
            json
        );
        let old = format!("{{\"supersedes\":[\"{id}\"],\"packs\":[]}}");
        assert!(
            IndexFile::from_json(old.as_bytes())
                .unwrap()
                .packs
                .is_empty()
        );
    }

    #[test]
    fn null_is_read_as_go_does() {
        let id = "3ec79977ef0cf5de7b08cd12b874cd0f62bbaf7f07f3497a5b1bbcc8cb39b1ce";
        // As rustic 0.11 writes what is not compressed.
        let json = format!(
            "{{\"packs\":[{{\"id\":\"{id}\",\"blobs\":[{{\"id\":\"{id}\",\"type\":\"data\",\"offset\":0,\"length\":38,\"uncompressed_length\":null}}],\"time\":\"2026-11-21T10:00:00Z\"}}]}}"
        );
        let file = IndexFile::from_json(json.as_bytes()).unwrap();
        assert_eq!(file.packs[0].blobs[0].raw_length_bytes, 0);
        let json =
            format!("{{\"packs\":[{{\"id\":\"{id}\",\"blobs\":null}}],\"packs_to_delete\":null}}");
        assert!(
            IndexFile::from_json(json.as_bytes()).unwrap().packs[0]
                .blobs
                .is_empty()
        );
        assert!(
            IndexFile::from_json(b"{\"packs\":null}")
                .unwrap()
                .packs
                .is_empty()
        );
    }

    #[test]
    fn rustics_marks_survive() {
        let id = "3ec79977ef0cf5de7b08cd12b874cd0f62bbaf7f07f3497a5b1bbcc8cb39b1ce";
        let json = format!(
            "{{\"packs\":[],\"packs_to_delete\":[{{\"id\":\"{id}\",\"blobs\":[{{\"id\":\"{id}\",\"type\":\"tree\",\"offset\":0,\"length\":38}}],\"time\":\"2026-11-21T10:00:00.5+01:00\"}},{{\"id\":\"{id}\",\"blobs\":[],\"time\":\"2026-11-21T09:00:00Z\",\"size\":4711}}]}}\n"
        );
        let file = IndexFile::from_json(json.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(file.to_json()).unwrap(), json);
        assert_eq!(file.packs_to_delete[1].size_bytes, Some(4711));
        // A time that is none must not make the whole file unreadable.
        for time in ["null", "\"\"", "\"yesterday\""] {
            let json = format!(
                "{{\"packs_to_delete\":[{{\"id\":\"{id}\",\"blobs\":[],\"time\":{time}}}]}}"
            );
            let file = IndexFile::from_json(json.as_bytes()).unwrap();
            assert_eq!(file.packs_to_delete[0].time, None);
        }
    }

    #[test]
    fn impossible_places_are_refused() {
        let id = "3ec79977ef0cf5de7b08cd12b874cd0f62bbaf7f07f3497a5b1bbcc8cb39b1ce";
        for (offset, length, kind) in [
            ("0", "31", "data"),
            ("4294967295", "100", "data"),
            ("-1", "100", "data"),
            ("0", "100", "other"),
        ] {
            let json = format!(
                "{{\"packs\":[{{\"id\":\"{id}\",\"blobs\":[{{\"id\":\"{id}\",\"type\":\"{kind}\",\"offset\":{offset},\"length\":{length}}}]}}]}}"
            );
            assert!(IndexFile::from_json(json.as_bytes()).is_err(), "{json}");
        }
    }
}

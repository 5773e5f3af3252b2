//! An index file: which pack holds which blobs, so that nobody needs to read all pack headers.
//! It must never be written before the packs that it names are stored.

use serde::Deserialize;

use crate::go_json::push_number;
use crate::{BlobKind, FormatError, Id, OVERHEAD_BYTES};

/// The content of one index file.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct IndexFile {
    /// The packs with their blobs. `supersedes` of old files is ignored, as restic does today.
    #[serde(default)]
    pub packs: Vec<IndexPack>,
    /// Packs that a prune has marked for deletion (an extension of rustic that restic ignores).
    #[serde(default)]
    pub packs_to_delete: Vec<IndexPack>,
}

/// A pack in an index file.
#[derive(Clone, Debug, Deserialize)]
pub struct IndexPack {
    /// The pack's ID.
    pub id: Id,
    /// Its blobs.
    pub blobs: Vec<IndexBlob>,
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
    #[serde(rename = "uncompressed_length", default)]
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

impl IndexFile {
    /// Reads it.
    ///
    /// # Errors
    /// When it is malformed or names a blob that can't exist.
    pub fn from_json(json: &[u8]) -> Result<Self, FormatError> {
        let what = "index file";
        let file: Self =
            serde_json::from_slice(json).map_err(|cause| FormatError::Json { what, cause })?;
        for pack in &file.packs {
            for blob in &pack.blobs {
                if (blob.length_bytes as usize) < OVERHEAD_BYTES
                    || blob.offset_bytes.checked_add(blob.length_bytes).is_none()
                {
                    let why = format!(
                        "blob {} in pack {} has an impossible place",
                        blob.id.short(),
                        pack.id.short()
                    );
                    return Err(FormatError::Invalid { what, why });
                }
            }
        }
        Ok(file)
    }

    /// As restic writes it.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let blobs: usize = self.packs.iter().map(|p| p.blobs.len()).sum();
        let mut out = Vec::with_capacity(blobs * 150 + self.packs.len() * 100 + 20);
        out.extend_from_slice(b"{\"packs\":[");
        push_packs(&mut out, &self.packs);
        out.push(b']');
        if !self.packs_to_delete.is_empty() {
            out.extend_from_slice(b",\"packs_to_delete\":[");
            push_packs(&mut out, &self.packs_to_delete);
            out.push(b']');
        }
        out.extend_from_slice(b"}\n");
        out
    }
}

fn push_packs(out: &mut Vec<u8>, packs: &[IndexPack]) {
    for (at, pack) in packs.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"id\":\"");
        out.extend_from_slice(&pack.id.hex());
        out.extend_from_slice(b"\",\"blobs\":[");
        for (at, blob) in pack.blobs.iter().enumerate() {
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
        out.extend_from_slice(b"]}");
    }
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

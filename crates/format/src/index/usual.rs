//! Index files in the one form that restic, rustic and this program write, read many times faster than any JSON.
//! It must never guess: what is written in any other way is left to the general parser, which alone says what is wrong.

use super::{IndexBlob, IndexFile, IndexPack};
use crate::id::parse_hex_digits;
use crate::{BlobKind, Id};

/// Digits of the largest number of 32 bits.
const NUMBER_MAX_DIGITS: usize = 10;

/// The content of an index file without marks, if it is written in the usual form.
pub(super) fn parse(json: &[u8]) -> Option<IndexFile> {
    let mut text = Text(json);
    let mut packs = Vec::new();
    text.take(b"{\"packs\":[")?;
    if !text.has(b"]") {
        loop {
            packs.push(pack(&mut text)?);
            if text.has(b"]") {
                break;
            }
            text.take(b",")?;
        }
    }
    text.take(b"}")?;
    // restic ends the line, rustic does not.
    text.has(b"\n");
    text.0.is_empty().then_some(IndexFile {
        packs,
        packs_to_delete: Vec::new(),
    })
}

fn pack(text: &mut Text<'_>) -> Option<IndexPack> {
    text.take(b"{\"id\":\"")?;
    let id = text.id()?;
    text.take(b"\",\"blobs\":[")?;
    let mut blobs = Vec::new();
    if !text.has(b"]") {
        loop {
            blobs.push(blob(text)?);
            if text.has(b"]") {
                break;
            }
            text.take(b",")?;
        }
    }
    text.take(b"}")?;
    Some(IndexPack { id, blobs })
}

fn blob(text: &mut Text<'_>) -> Option<IndexBlob> {
    text.take(b"{\"id\":\"")?;
    let id = text.id()?;
    text.take(b"\",\"type\":\"")?;
    let kind = if text.has(b"data") {
        BlobKind::Data
    } else {
        text.take(b"tree")?;
        BlobKind::Tree
    };
    text.take(b"\",\"offset\":")?;
    let offset_bytes = text.number()?;
    text.take(b",\"length\":")?;
    let length_bytes = text.number()?;
    let mut raw_length_bytes = 0;
    if text.has(b",\"uncompressed_length\":") && !text.has(b"null") {
        raw_length_bytes = text.number()?;
    }
    text.take(b"}")?;
    Some(IndexBlob {
        id,
        kind,
        offset_bytes,
        length_bytes,
        raw_length_bytes,
    })
}

/// What is left to be read.
struct Text<'a>(&'a [u8]);

impl Text<'_> {
    /// Passes over a word, if it comes next.
    fn has(&mut self, word: &[u8]) -> bool {
        match self.0.strip_prefix(word) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    /// Passes over a word that must come next.
    fn take(&mut self, word: &[u8]) -> Option<()> {
        self.has(word).then_some(())
    }

    fn id(&mut self) -> Option<Id> {
        let (digits, rest) = self.0.split_first_chunk::<{ Id::BYTES * 2 }>()?;
        self.0 = rest;
        parse_hex_digits(digits).map(Id)
    }

    /// A number without a sign, a fraction or zeros before it.
    fn number(&mut self) -> Option<u32> {
        let digits = self.0.iter().take(NUMBER_MAX_DIGITS);
        let length = digits.take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at_checked(length)?;
        let is_usual = match digits {
            [] => false,
            [b'0', more @ ..] => more.is_empty(),
            _ => true,
        };
        self.0 = rest;
        let value = digits.iter().fold(0u64, |value, digit| {
            value * 10 + u64::from(digit.wrapping_sub(b'0'))
        });
        u32::try_from(value).ok().filter(|_| is_usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3ec79977ef0cf5de7b08cd12b874cd0f62bbaf7f07f3497a5b1bbcc8cb39b1ce";

    fn with_blobs(blobs: &str) -> String {
        format!("{{\"packs\":[{{\"id\":\"{ID}\",\"blobs\":[{blobs}]}}]}}")
    }

    fn with_blob(rest: &str) -> String {
        with_blobs(&format!("{{\"id\":\"{ID}\",\"type\":{rest}}}"))
    }

    /// Whatever is read here is read as the general parser reads it.
    fn is_usual(json: &str) -> bool {
        let usual = parse(json.as_bytes());
        let general: Result<IndexFile, _> = serde_json::from_slice(json.as_bytes());
        if let Some(usual) = &usual {
            assert_eq!(
                format!("{usual:?}"),
                format!("{:?}", general.expect(json)),
                "{json}"
            );
        }
        usual.is_some()
    }

    #[test]
    fn what_the_programs_write_is_usual() {
        for json in [
            "{\"packs\":[]}".to_owned(),
            "{\"packs\":[]}\n".to_owned(),
            with_blobs(""),
            with_blob("\"data\",\"offset\":0,\"length\":38"),
            with_blob("\"tree\",\"offset\":4294967295,\"length\":38,\"uncompressed_length\":511"),
            with_blob("\"tree\",\"offset\":1,\"length\":0,\"uncompressed_length\":null"),
            with_blob("\"data\",\"offset\":0,\"length\":38")
                .to_uppercase()
                .replace("PACKS", "packs")
                .replace("ID", "id")
                .replace("BLOBS", "blobs")
                .replace("TYPE", "type")
                .replace("OFFSET", "offset")
                .replace("LENGTH", "length")
                .replace("DATA", "data"),
        ] {
            assert!(is_usual(&json), "{json}");
        }
        let several = with_blobs(
            &vec![format!("{{\"id\":\"{ID}\",\"type\":\"data\",\"offset\":0,\"length\":38}}"); 3]
                .join(","),
        );
        assert!(is_usual(&several));
    }

    #[test]
    fn all_else_is_left_to_the_general_parser() {
        for json in [
            String::new(),
            "{\"packs\":[]} ".to_owned(),
            "{\"packs\":[]}\n\n".to_owned(),
            "{\"packs\":null}".to_owned(),
            "{\"packs\":[],\"packs_to_delete\":[]}".to_owned(),
            with_blob("\"data\", \"offset\":0,\"length\":38"),
            with_blob("\"data\",\"length\":38,\"offset\":0"),
            with_blob("\"data\",\"offset\":00,\"length\":38"),
            with_blob("\"data\",\"offset\":-1,\"length\":38"),
            with_blob("\"data\",\"offset\":1.0,\"length\":38"),
            with_blob("\"data\",\"offset\":1e3,\"length\":38"),
            with_blob("\"data\",\"offset\":,\"length\":38"),
            with_blob("\"data\",\"offset\":4294967296,\"length\":38"),
            with_blob("\"data\",\"offset\":99999999999,\"length\":38"),
            with_blob("\"other\",\"offset\":0,\"length\":38"),
            with_blob("\"data\",\"offset\":0,\"length\":38,\"more\":1"),
            with_blob("\"data\",\"offset\":0,\"length\":38").replace("3ec7", "3eg7"),
            with_blobs(","),
        ] {
            assert!(!is_usual(&json), "{json}");
        }
    }

    #[test]
    fn no_changed_byte_is_read_in_another_way() {
        let json = with_blob("\"data\",\"offset\":10,\"length\":38,\"uncompressed_length\":511");
        for at in 0..json.len() {
            for byte in [
                b'0', b'9', b'a', b'F', b'"', b',', b'}', b' ', b'n', 0, 0xff,
            ] {
                let mut changed = json.clone().into_bytes();
                changed[at] = byte;
                let general: Option<IndexFile> = serde_json::from_slice(&changed).ok();
                if let Some(usual) = parse(&changed) {
                    assert_eq!(format!("{:?}", Some(usual)), format!("{general:?}"));
                }
            }
            assert!(parse(&json.as_bytes()[..at]).is_none());
        }
    }
}

//! Strings and base64 as Go's `encoding/json` writes them, so that our trees and snapshots have Go's bytes.
//! It must never use another escape than Go: one byte of difference gives a tree another ID.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Appends a JSON string as Go 1.22 and later write it: `<`, `>`, `&`, U+2028 and U+2029 are escaped.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut clean = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            8 => b"\\b",
            12 => b"\\f",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            b'<' => b"\\u003c",
            b'>' => b"\\u003e",
            b'&' => b"\\u0026",
            0..0x20 => &[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)],
            0xE2 if bytes.get(at + 1) == Some(&0x80)
                && matches!(bytes.get(at + 2), Some(0xA8 | 0xA9)) =>
            {
                out.extend_from_slice(bytes.get(clean..at).unwrap_or_default());
                out.extend_from_slice(if bytes.get(at + 2) == Some(&0xA8) {
                    b"\\u2028"
                } else {
                    b"\\u2029"
                });
                clean = at + 3;
                continue;
            }
            _ => continue,
        };
        out.extend_from_slice(bytes.get(clean..at).unwrap_or_default());
        out.extend_from_slice(escape);
        clean = at + 1;
    }
    out.extend_from_slice(bytes.get(clean..).unwrap_or_default());
    out.push(b'"');
}

fn hex(digit: u8) -> u8 {
    if digit < 10 {
        b'0' + digit
    } else {
        b'a' + digit - 10
    }
}

/// Appends bytes that should be text; Go replaces what is no UTF-8, each byte by an escaped U+FFFD.
pub(crate) fn push_lossy(out: &mut Vec<u8>, bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return push_string(out, text);
    }
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        let mut part = Vec::new();
        push_string(&mut part, chunk.valid());
        out.extend_from_slice(part.get(1..part.len() - 1).unwrap_or_default());
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}

/// Appends bytes as Go writes a `[]byte`: base64 in quotes.
pub(crate) fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let start = out.len();
    let len = base64::encoded_len(bytes.len(), true).unwrap_or(0);
    out.resize(start + len, 0);
    if let Some(room) = out.get_mut(start..) {
        // The room has the exact length, so this writes all of it.
        let _ = STANDARD.encode_slice(bytes, room);
    }
    out.push(b'"');
}

/// Appends a number.
pub(crate) fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(number.to_string().as_bytes());
}

/// Reads a `[]byte` field: base64 or null.
pub(crate) mod base64_bytes {
    use base64::Engine;
    use serde::{Deserialize, Deserializer};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.map(|text| {
            super::STANDARD
                .decode(text.as_bytes())
                .map_err(serde::de::Error::custom)
        })
        .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_go_escapes_them() {
        // Each pair was printed by Go 1.26's json.Marshal.
        for (text, expected) in [
            ("a<b>&c", r#""a\u003cb\u003e\u0026c""#),
            (
                "\u{8}\u{c}\n\r\t\u{1}\u{7f}",
                "\"\\b\\f\\n\\r\\t\\u0001\u{7f}\"",
            ),
            ("\u{2028}x\u{2029}", r#""\u2028x\u2029""#),
            ("q\"\\", r#""q\"\\""#),
        ] {
            let mut out = Vec::new();
            push_string(&mut out, text);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        let mut out = Vec::new();
        push_lossy(&mut out, b"a\xff\xfe<");
        assert_eq!(String::from_utf8(out).unwrap(), r#""a\ufffd\ufffd\u003c""#);
    }

    #[test]
    fn base64_is_padded() {
        for (bytes, expected) in [
            (&b""[..], r#""""#),
            (b"a", r#""YQ==""#),
            (b"abc", r#""YWJj""#),
        ] {
            let mut out = Vec::new();
            push_base64(&mut out, bytes);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}

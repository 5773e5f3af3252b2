//! What lies inside a sealed object of the log: a head with its name, and the content, compressed where that helps.
//! It must never give a content under another name than that of its head, nor reserve what a head only claims.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `LBLG` |
//! | 1 | the version of this form, 1 |
//! | 1 | 0: the content as it is; 1: one frame of zstd |
//! | 2 | length of the name, little-endian as all numbers |
//! | 8 | length of the content |
//! | … | the name |
//! | … | the content |
//!
//! No plaintext of restic's begins so: theirs are JSON, or begin with the byte 2.

use lifeboat_format::{CompressionMode, Compressor, Decompressor, FormatError, NONCE_BYTES};

use super::LogError;
use crate::backend::LogName;

/// Longest content of an object, in bytes: a segment of PostgreSQL's log has up to 1 GiB (`initdb --wal-segsize`).
pub const LOG_CONTENT_MAX_BYTES: u64 = (1 << 30) + (1 << 20);
/// Longest plaintext, in bytes: with the head and a name.
pub(super) const FRAMED_MAX_BYTES: u64 = LOG_CONTENT_MAX_BYTES + (1 << 10);
const MAGIC: [u8; 4] = *b"LBLG";
const VERSION: u8 = 1;
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
/// The head without the name, in bytes.
const HEAD_BYTES: usize = 16;
/// What a message calls it.
const WHAT: &str = "object of the log";

/// Room for a nonce, and then the plaintext.
pub(super) fn framed(name: &LogName, content: &[u8]) -> Result<Vec<u8>, LogError> {
    let size_bytes = content.len() as u64;
    if size_bytes > LOG_CONTENT_MAX_BYTES {
        return Err(LogError::TooLong {
            name: name.clone(),
            size_bytes,
        });
    }
    let mut out = vec![0; NONCE_BYTES];
    head(&mut out, ZSTD, name, size_bytes);
    let start = out.len();
    Compressor::new(CompressionMode::Fastest)
        .and_then(|mut compressor| compressor.append(content, &mut out))
        .map_err(|error| LogError::Seal(error.to_string()))?;
    if out.len() - start >= content.len() {
        out.truncate(NONCE_BYTES);
        head(&mut out, PLAIN, name, size_bytes);
        out.extend_from_slice(content);
    }
    Ok(out)
}

fn head(out: &mut Vec<u8>, compression: u8, name: &LogName, size_bytes: u64) {
    let name = name.as_str().as_bytes();
    // A name is far shorter than that.
    let name_bytes = u16::try_from(name.len()).unwrap_or(u16::MAX);
    out.extend(MAGIC);
    out.extend([VERSION, compression]);
    out.extend(name_bytes.to_le_bytes());
    out.extend(size_bytes.to_le_bytes());
    out.extend(name);
}

/// The content of a plaintext that was stored under this name.
pub(super) fn unframed(name: &LogName, framed: &[u8]) -> Result<Vec<u8>, FormatError> {
    let invalid = |why: String| FormatError::Invalid { what: WHAT, why };
    let too_short = || FormatError::TooShort {
        what: WHAT,
        got_bytes: framed.len() as u64,
        needed_bytes: HEAD_BYTES as u64,
    };
    let (head, rest) = framed
        .split_first_chunk::<HEAD_BYTES>()
        .ok_or_else(too_short)?;
    let [m0, m1, m2, m3, version, compression, n0, n1, size @ ..] = *head;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(invalid("it is something else of this repository".into()));
    }
    if version != VERSION {
        return Err(FormatError::Version {
            version: u32::from(version),
            min: u32::from(VERSION),
            max: u32::from(VERSION),
        });
    }
    let (stored, body) = rest
        .split_at_checked(usize::from(u16::from_le_bytes([n0, n1])))
        .ok_or_else(too_short)?;
    if stored != name.as_str().as_bytes() {
        let stored = String::from_utf8_lossy(stored).into_owned();
        return Err(invalid(format!("it was stored as {stored:?}")));
    }
    let size_bytes = u64::from_le_bytes(size);
    let length = usize::try_from(size_bytes)
        .ok()
        .filter(|_| size_bytes <= LOG_CONTENT_MAX_BYTES)
        .ok_or(FormatError::Limit {
            what: WHAT,
            got: size_bytes,
            limit: LOG_CONTENT_MAX_BYTES,
        })?;
    match compression {
        PLAIN if body.len() == length => Ok(body.to_vec()),
        PLAIN => Err(invalid(format!(
            "it has {} bytes instead of {length}",
            body.len()
        ))),
        ZSTD => {
            let content = Decompressor::default().up_to(body, length, WHAT)?;
            match content.len() == length {
                true => Ok(content),
                false => Err(invalid(format!(
                    "it has {} bytes instead of {length}",
                    content.len()
                ))),
            }
        }
        other => Err(invalid(format!(
            "it is compressed in the unknown way {other}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> LogName {
        text.parse().unwrap()
    }

    fn plaintext(content: &[u8]) -> Vec<u8> {
        framed(&name("a/b"), content)
            .unwrap()
            .split_off(NONCE_BYTES)
    }

    #[test]
    fn contents_come_back_and_are_no_longer_than_they_must() {
        let mut random = lifeboat_testkit::random::Random::new(1);
        let mut half = random.bytes(1 << 20);
        half.resize(16 << 20, 0);
        for content in [Vec::new(), vec![7], random.bytes(100_000), half] {
            let plain = plaintext(&content);
            assert!(plain.len() <= content.len() + HEAD_BYTES + 3);
            assert!(unframed(&name("a/b"), &plain).unwrap() == content);
        }
        let mut zeros = vec![0; 16 << 20];
        zeros[0] = 1;
        assert!(plaintext(&zeros).len() < 4096, "zeros cost next to nothing");
    }

    #[test]
    fn a_content_belongs_to_its_name() {
        let plain = plaintext(b"content");
        for other in ["a/c", "a", "a/b/c", "a/bc"] {
            let error = unframed(&name(other), &plain).unwrap_err();
            assert_eq!(
                error.to_string(),
                "object of the log: it was stored as \"a/b\""
            );
        }
    }

    #[test]
    fn what_is_no_such_plaintext_is_refused() {
        let a = name("a/b");
        for plain in [plaintext(b"content"), plaintext(&[5; 10_000])] {
            for length in 0..plain.len() {
                assert!(unframed(&a, &plain[..length]).is_err(), "{length}");
            }
            assert!(unframed(&a, &[&plain[..], b"x"].concat()).is_err());
            // Magic, version, compression, and the length of the content in both directions.
            for (at, byte) in [
                (0, b'{'),
                (3, 0),
                (4, 2),
                (4, 0),
                (5, 2),
                (6, 4),
                (8, 0),
                (15, 1),
                (12, 1),
            ] {
                let mut bent = plain.clone();
                bent[at] = byte;
                assert!(unframed(&a, &bent).is_err(), "{at} {byte}");
            }
        }
        let version = {
            let mut plain = plaintext(b"content");
            plain[4] = 9;
            unframed(&a, &plain).unwrap_err()
        };
        assert!(matches!(version, FormatError::Version { version: 9, .. }));
        assert!(unframed(&a, br#"{"time":"2024-01-01T00:00:00Z"}"#).is_err());
    }
}

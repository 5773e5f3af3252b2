//! Files that are encrypted as a whole: index files, snapshots, locks. Their plaintext is JSON, as it is or compressed.
//! It must never guess: a first byte that is neither JSON nor the version of compressed data is an error.

use crate::{Compressor, Decompressor, FormatError, ZstdError};

/// The first byte of compressed JSON (restic design document, "Unpacked Data Format").
const COMPRESSED_VERSION: u8 = 2;

/// Longest JSON that is accepted, in bytes; restic's index files stay under 8 MiB, old ones may be larger.
const UNPACKED_MAX_BYTES: usize = 512 * 1024 * 1024;

/// The compressed form, to be encrypted.
///
/// # Errors
/// When zstd fails.
pub fn compress_unpacked(
    json: &[u8],
    compressor: &mut Compressor,
    out: &mut Vec<u8>,
) -> Result<(), ZstdError> {
    out.push(COMPRESSED_VERSION);
    compressor.append(json, out)
}

/// The JSON in a decrypted file.
///
/// # Errors
/// When it is neither JSON nor compressed JSON, or longer than any legal one.
pub fn decode_unpacked(plain: Vec<u8>, what: &'static str) -> Result<Vec<u8>, FormatError> {
    match plain.split_first() {
        Some((b'{' | b'[', _)) => Ok(plain),
        Some((&COMPRESSED_VERSION, compressed)) => {
            Decompressor::default().up_to(compressed, UNPACKED_MAX_BYTES, what)
        }
        Some((first, _)) => Err(FormatError::Invalid {
            what,
            why: format!(
                "its first byte is {first}, neither JSON nor version {COMPRESSED_VERSION}"
            ),
        }),
        None => Err(FormatError::TooShort {
            what,
            got_bytes: 0,
            needed_bytes: 1,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CompressionMode;

    #[test]
    fn json_is_found_in_both_forms_and_nothing_else_is_taken() {
        let mut out = Vec::new();
        compress_unpacked(
            b"{}",
            &mut Compressor::new(CompressionMode::Max).unwrap(),
            &mut out,
        )
        .unwrap();
        assert_eq!(decode_unpacked(out, "test").unwrap(), b"{}");
        assert_eq!(decode_unpacked(b"[1]".to_vec(), "test").unwrap(), b"[1]");
        assert!(decode_unpacked(Vec::new(), "test").is_err());
        assert!(decode_unpacked(vec![3, 0], "test").is_err());
        assert!(decode_unpacked(vec![2], "test").is_err());
    }
}

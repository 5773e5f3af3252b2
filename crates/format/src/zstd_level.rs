//! Zstandard as the repository uses it: one frame a blob, a level chosen by name.
//! It must never allocate what a frame merely claims: every decompression has a limit that the caller knows.

use std::fmt;
use std::str::FromStr;

use zstd_safe::{CCtx, CParameter, DCtx};

use crate::FormatError;

/// How hard to compress, in restic's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CompressionMode {
    /// A level that keeps up with the disk.
    #[default]
    Auto,
    /// Data blobs are stored as they are.
    Off,
    /// Speed before size.
    Fastest,
    /// Smaller, at several times the cost.
    Better,
    /// As small as zstd gets within reason.
    Max,
}

impl CompressionMode {
    /// All names, for messages and completions.
    pub const NAMES: [&str; 5] = ["auto", "off", "fastest", "better", "max"];

    /// The zstd level; trees and other metadata are compressed even if data is not.
    #[must_use]
    pub fn level(self) -> i32 {
        match self {
            Self::Auto | Self::Off => 1,
            Self::Fastest => -3,
            Self::Better => 7,
            Self::Max => 17,
        }
    }
}

impl FromStr for CompressionMode {
    type Err = FormatError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "auto" => Self::Auto,
            "off" => Self::Off,
            "fastest" => Self::Fastest,
            "better" => Self::Better,
            "max" => Self::Max,
            _ => {
                let why = format!("{text:?} is none of {}", Self::NAMES.join(", "));
                return Err(FormatError::Invalid {
                    what: "compression mode",
                    why,
                });
            }
        })
    }
}

impl fmt::Display for CompressionMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Off => "off",
            Self::Fastest => "fastest",
            Self::Better => "better",
            Self::Max => "max",
        })
    }
}

/// zstd refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("zstd: {0}")]
pub struct ZstdError(&'static str);

/// A compressor to be reused; making one costs more than compressing a small blob.
pub struct Compressor(CCtx<'static>);

impl Compressor {
    /// A compressor of one level.
    ///
    /// # Errors
    /// When zstd refuses the level, which none of [`CompressionMode`] is.
    pub fn new(mode: CompressionMode) -> Result<Self, ZstdError> {
        let mut context = CCtx::create();
        context
            .set_parameter(CParameter::CompressionLevel(mode.level()))
            .map_err(|code| ZstdError(zstd_safe::get_error_name(code)))?;
        Ok(Self(context))
    }

    /// Appends the compressed form.
    ///
    /// # Errors
    /// When zstd fails.
    pub fn append(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), ZstdError> {
        let start = out.len();
        out.resize(start + zstd_safe::compress_bound(plain.len()), 0);
        let room = out.get_mut(start..).unwrap_or_default();
        let written = self
            .0
            .compress2(room, plain)
            .map_err(|code| ZstdError(zstd_safe::get_error_name(code)))?;
        out.truncate(start + written);
        Ok(())
    }
}

/// A decompressor to be reused.
pub struct Decompressor(DCtx<'static>);

impl Default for Decompressor {
    fn default() -> Self {
        Self(DCtx::create())
    }
}

impl Decompressor {
    /// Replaces `out` by the plaintext, which must have exactly `raw_bytes`.
    ///
    /// # Errors
    /// When it is damaged or has another length.
    pub fn exactly(
        &mut self,
        compressed: &[u8],
        raw_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), FormatError> {
        let fail = |why: String| FormatError::Compression { what: "blob", why };
        // A frame can't blow up without limit: the real ratio of zstd ends near 1:130000 for a block of one byte.
        const MAX_RATIO: usize = 1 << 18;
        if raw_bytes / MAX_RATIO > compressed.len() {
            return Err(fail(format!(
                "{} bytes can't hold {raw_bytes}",
                compressed.len()
            )));
        }
        // Not cleared before: all of it is written over, or an error.
        out.resize(raw_bytes, 0);
        let got = self
            .0
            .decompress(out.as_mut_slice(), compressed)
            .map_err(|code| fail(zstd_safe::get_error_name(code).to_owned()))?;
        if got == raw_bytes {
            Ok(())
        } else {
            Err(fail(format!("it has {got} bytes instead of {raw_bytes}")))
        }
    }

    /// The plaintext of a frame of unknown length, up to a limit.
    ///
    /// # Errors
    /// When it is damaged or longer than the limit.
    pub fn up_to(
        &mut self,
        compressed: &[u8],
        limit_bytes: usize,
        what: &'static str,
    ) -> Result<Vec<u8>, FormatError> {
        const STEP_BYTES: usize = 256 * 1024;
        let fail = |code| FormatError::Compression {
            what,
            why: zstd_safe::get_error_name(code).to_owned(),
        };
        self.0.init().map_err(fail)?;
        let mut out: Vec<u8> = Vec::new();
        let mut step = vec![0u8; STEP_BYTES];
        let mut input = zstd_safe::InBuffer::around(compressed);
        loop {
            let mut output = zstd_safe::OutBuffer::around(step.as_mut_slice());
            let hint = self
                .0
                .decompress_stream(&mut output, &mut input)
                .map_err(fail)?;
            let got = output.as_slice();
            if out.len() + got.len() > limit_bytes {
                return Err(FormatError::Limit {
                    what,
                    got: (out.len() + got.len()) as u64,
                    limit: limit_bytes as u64,
                });
            }
            let produced = got.len();
            out.extend_from_slice(got);
            if hint == 0 && input.pos() == compressed.len() {
                return Ok(out);
            }
            if produced < STEP_BYTES && input.pos() == compressed.len() {
                return Err(FormatError::Compression {
                    what,
                    why: "it ends in the middle".into(),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_round_trips() {
        let plain: Vec<u8> = (0..300_000u32)
            .flat_map(|i| (i / 7).to_le_bytes())
            .collect();
        for name in CompressionMode::NAMES {
            let mode: CompressionMode = name.parse().unwrap();
            assert_eq!(mode.to_string(), name);
            let mut out = b"head".to_vec();
            Compressor::new(mode)
                .unwrap()
                .append(&plain, &mut out)
                .unwrap();
            let mut back = Vec::new();
            Decompressor::default()
                .exactly(&out[4..], plain.len(), &mut back)
                .unwrap();
            assert_eq!(back, plain);
            assert_eq!(
                Decompressor::default()
                    .up_to(&out[4..], plain.len(), "test")
                    .unwrap(),
                plain
            );
        }
        assert!("fast".parse::<CompressionMode>().is_err());
    }

    #[test]
    fn damage_and_lies_are_errors() {
        let mut out = Vec::new();
        Compressor::new(CompressionMode::Auto)
            .unwrap()
            .append(&[5; 10_000], &mut out)
            .unwrap();
        let mut d = Decompressor::default();
        let mut back = Vec::new();
        assert!(d.exactly(&out, 9_999, &mut back).is_err());
        assert!(d.exactly(&out, 10_001, &mut back).is_err());
        assert!(d.exactly(&out, usize::MAX, &mut back).is_err());
        assert!(d.exactly(b"", 0, &mut back).is_err() || back.is_empty());
        assert!(matches!(
            d.up_to(&out, 9_999, "test"),
            Err(FormatError::Limit { .. })
        ));
        assert!(d.up_to(&out[..out.len() - 1], 100_000, "test").is_err());
        assert!(d.up_to(b"nonsense", 100_000, "test").is_err());
        assert_eq!(d.up_to(&out, 10_000, "test").unwrap().len(), 10_000);
    }
}

//! Zstandard as the repository uses it: one frame a blob, a level chosen by name.
//! It must never allocate what a frame merely claims: every decompression has a limit that the caller knows.

use std::fmt;
use std::io::Cursor;
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

/// Lengths in bytes for which `auto` compresses harder: among small files these cost a quarter more at this level and
/// lose 4 % of their size; shorter ones cost half as much again, and of longer ones there is too much.
const MIDDLE_BYTES: std::ops::Range<usize> = 64 * 1024..256 * 1024;
const MIDDLE_LEVEL: i32 = 3;
/// From this length on, in bytes, samples say whether compressing is worthwhile.
const SAMPLED_MIN_BYTES: usize = 128 * 1024;
/// Bytes of a sample.
const SAMPLE_BYTES: usize = 8 * 1024;
/// Samples of a blob: its beginning, its end, and between.
const SAMPLES: usize = 4;
/// A sample that shrinks by less than this part of it seems random.
const GAIN_MIN_PART: usize = 100;

/// zstd refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("zstd: {0}")]
pub struct ZstdError(&'static str);

/// A compressor to be reused; making one costs more than compressing a small blob.
pub struct Compressor {
    context: CCtx<'static>,
    /// For blobs of the middle lengths.
    middle: Option<CCtx<'static>>,
    mode: CompressionMode,
    tried: Vec<u8>,
}

fn context(level: i32) -> Result<CCtx<'static>, ZstdError> {
    let mut context = CCtx::create();
    context
        .set_parameter(CParameter::CompressionLevel(level))
        .map_err(|code| ZstdError(zstd_safe::get_error_name(code)))?;
    Ok(context)
}

impl Compressor {
    /// A compressor of one level.
    ///
    /// # Errors
    /// When zstd refuses the level, which none of [`CompressionMode`] is.
    pub fn new(mode: CompressionMode) -> Result<Self, ZstdError> {
        Ok(Self {
            context: context(mode.level())?,
            middle: None,
            mode,
            tried: Vec::new(),
        })
    }

    /// Appends the compressed form.
    ///
    /// # Errors
    /// When zstd fails.
    pub fn append(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), ZstdError> {
        let start = out.len();
        out.reserve(zstd_safe::compress_bound(plain.len()));
        // Behind the cursor nothing needs to be written twice: memory is not cleared before.
        let mut place = Cursor::new(out);
        place.set_position(start as u64);
        let context = match self.mode {
            CompressionMode::Auto if MIDDLE_BYTES.contains(&plain.len()) => {
                match &mut self.middle {
                    Some(middle) => middle,
                    none => none.insert(context(MIDDLE_LEVEL)?),
                }
            }
            _ => &mut self.context,
        };
        context
            .compress2(&mut place, plain)
            .map(drop)
            .map_err(|code| ZstdError(zstd_safe::get_error_name(code)))
    }

    /// Whether compressing makes a difference, by samples: what is long and seems random is not worth the time. Whoever
    /// asks for more than `auto` gets all that there is to gain.
    pub fn is_worthwhile(&mut self, plain: &[u8]) -> bool {
        if self.mode != CompressionMode::Auto || plain.len() < SAMPLED_MIN_BYTES {
            return true;
        }
        let step = (plain.len() - SAMPLE_BYTES) / (SAMPLES - 1);
        (0..SAMPLES).any(|number| {
            let sample = plain.get(number * step..).unwrap_or_default();
            let sample = sample.get(..SAMPLE_BYTES).unwrap_or(sample);
            let mut tried = std::mem::take(&mut self.tried);
            tried.clear();
            let result = self.append(sample, &mut tried);
            self.tried = tried;
            result.is_err() || self.tried.len() < sample.len() - sample.len() / GAIN_MIN_PART
        })
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
        /// What is reserved on the word of the data alone, at most.
        const TOLD_MAX_BYTES: usize = 64 * 1024 * 1024;
        let fail = |code| FormatError::Compression {
            what,
            why: zstd_safe::get_error_name(code).to_owned(),
        };
        // Most say how long they are; then nothing is copied. What does not go well is for the other way to judge.
        let told = zstd_safe::get_frame_content_size(compressed).ok().flatten();
        let told = told.and_then(|told| usize::try_from(told).ok());
        if let Some(told) = told.filter(|told| *told <= limit_bytes.min(TOLD_MAX_BYTES)) {
            let mut out: Vec<u8> = Vec::with_capacity(told);
            if self.0.decompress(&mut out, compressed).is_ok() && out.len() <= limit_bytes {
                return Ok(out);
            }
        }
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
    fn what_seems_random_is_found_by_samples_and_only_if_it_is_long() {
        let mut state = 1u64;
        let random: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(1_000_000)
        .collect();
        let asked = |mode, plain: &[u8]| Compressor::new(mode).unwrap().is_worthwhile(plain);
        assert!(!asked(CompressionMode::Auto, &random));
        assert!(asked(CompressionMode::Better, &random));
        assert!(asked(CompressionMode::Auto, &random[..100_000]));
        for text in [0..20_000, 330_000..345_000, 990_000..1_000_000] {
            let mut mixed = random.clone();
            mixed[text].fill(b'a');
            assert!(asked(CompressionMode::Auto, &mixed));
        }
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

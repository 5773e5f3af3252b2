//! How a command stores what it adds: compression and the size of packs.
//! It must never take a size that the format or restic would refuse.

use clap::Args;
use lifeboat_format::CompressionMode;
use lifeboat_repo::{
    IngestOptions, PACK_SIZE_DEFAULT_BYTES, PACK_SIZE_MAX_BYTES, PACK_SIZE_MIN_BYTES,
};

use crate::args::Global;
use crate::failure::Failure;

const MIB: usize = 1024 * 1024;

/// The options that say how to store.
#[derive(Args, Default)]
#[command(next_help_heading = "How to store")]
pub struct StoreArgs {
    /// How hard to compress: auto, off, fastest, better, max
    #[arg(
        long,
        env = "RESTIC_COMPRESSION",
        value_name = "MODE",
        default_value = "auto"
    )]
    compression: String,
    /// Size of packs in MiB, 4 to 128
    #[arg(long, env = "RESTIC_PACK_SIZE", value_name = "MIB")]
    pack_size: Option<usize>,
}

impl StoreArgs {
    /// What they say; `dry_run` stores nothing.
    pub fn options(&self, global: &Global, dry_run: bool) -> Result<IngestOptions, Failure> {
        let compression: CompressionMode = self.compression.parse().map_err(|_| {
            let (given, known) = (&self.compression, CompressionMode::NAMES.join(", "));
            Failure::new(format!("--compression {given:?} is none of {known}"))
        })?;
        let pack_size_bytes = match self.pack_size {
            None | Some(0) => PACK_SIZE_DEFAULT_BYTES,
            Some(mib) => mib.saturating_mul(MIB),
        };
        if !(PACK_SIZE_MIN_BYTES..=PACK_SIZE_MAX_BYTES).contains(&pack_size_bytes) {
            return Err(Failure::new(format!(
                "--pack-size {} is outside {} to {} MiB",
                self.pack_size.unwrap_or_default(),
                PACK_SIZE_MIN_BYTES / MIB,
                PACK_SIZE_MAX_BYTES / MIB
            )));
        }
        Ok(IngestOptions {
            compression,
            pack_size_bytes,
            dry_run,
            memory_bytes: global.memory_bytes()?,
            ..IngestOptions::default()
        })
    }
}

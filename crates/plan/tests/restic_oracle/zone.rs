//! A time zone with daylight saving that restic and we read from the same file, on machines without a database of
//! zones as well.

use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;

/// Central Europe's rule since 1996 (POSIX TZ).
const RULE: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

/// The zone, and its file for restic's `TZ`.
pub(crate) fn central_europe(dir: &Path) -> (TimeZone, PathBuf) {
    let bytes = file();
    let path = dir.join("central-europe");
    std::fs::write(&path, &bytes).unwrap();
    (TimeZone::tzif("central-europe", &bytes).unwrap(), path)
}

/// A zone file without transitions, only with the rule (RFC 9636).
fn file() -> Vec<u8> {
    let mut out = Vec::new();
    // The block of 32-bit times, which nobody reads, and that of 64-bit times are alike when they hold no times.
    for _ in 0..2 {
        out.extend_from_slice(b"TZif2");
        out.extend_from_slice(&[0; 15]);
        // UT/local indicators, standard/wall indicators, leap seconds, transitions, types, bytes of names.
        for count in [0u32, 0, 0, 0, 1, 4] {
            out.extend_from_slice(&count.to_be_bytes());
        }
        out.extend_from_slice(&3600i32.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(b"CET\0");
    }
    out.extend_from_slice(format!("\n{RULE}\n").as_bytes());
    out
}

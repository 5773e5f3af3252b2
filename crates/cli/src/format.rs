//! Numbers for people: sizes, rates, durations.
//! It must never round a value so that it reads as another one's unit.

use std::time::Duration;

/// A size in binary units, as `1.234 GiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.9995 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.3} {}", UNITS.get(unit).copied().unwrap_or("PiB"))
}

/// A duration as `m:ss` or `h:mm:ss`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

/// A time to the second, as the clock showed it where it was written.
pub fn time(time: lifeboat_format::Timestamp) -> String {
    let text = time.to_string();
    text.get(..19).unwrap_or(&text).replace('T', " ")
}

/// Bytes in a second.
pub fn rate(count: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    format!("{}/s", bytes((count as f64 / seconds) as u64))
}

/// A count with its noun, as `1 file` or `3 files`.
pub fn count(number: u64, noun: &str) -> String {
    let plural = match noun.strip_suffix('y') {
        Some(stem) if number != 1 => format!("{stem}ies"),
        _ if number == 1 => noun.to_owned(),
        _ => format!("{noun}s"),
    };
    format!("{number} {plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_change_their_unit_in_time() {
        for (size, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.000 KiB"),
            (1024 * 1024 - 1, "1023.999 KiB"),
            (1024 * 1024 * 1024 - 1, "1.000 GiB"),
            (1 << 30, "1.000 GiB"),
            (u64::MAX, "16384.000 PiB"),
        ] {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn a_time_is_shown_with_its_own_offset() {
        let written: lifeboat_format::Timestamp = "2026-11-21T03:00:00.25+01:00".parse().unwrap();
        assert_eq!(time(written), "2026-11-21 03:00:00");
    }

    #[test]
    fn durations_and_counts_read_well() {
        assert_eq!(duration(Duration::from_secs(59)), "0:59");
        assert_eq!(duration(Duration::from_secs(3661)), "1:01:01");
        assert_eq!(count(1, "entry"), "1 entry");
        assert_eq!(count(2, "entry"), "2 entries");
        assert_eq!(count(0, "file"), "0 files");
    }
}

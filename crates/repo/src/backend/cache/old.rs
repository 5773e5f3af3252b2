//! Caches that nobody uses any more, of repositories that are gone or were only looked at once.
//! It must never remove a folder that does not have the name of a cache.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use lifeboat_format::Id;

/// Age at which a cache counts as unused (restic's 30 days).
pub const CACHE_MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// What restic calls the caches of its checks, which are removed when it ends.
const CHECK_PREFIX: &str = "restic-check-cache-";

/// Removes the caches below `base` that were not used for so long, and gives how many that were.
///
/// # Errors
/// When one can't be removed, or `base` can't be listed.
pub fn remove_old_caches(base: &Path, now: SystemTime, max_age: Duration) -> io::Result<usize> {
    let mut removed = 0;
    let entries = match fs::read_dir(base) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let found = entry.metadata()?;
        let age = now.duration_since(found.modified()?).unwrap_or_default();
        let is_cache = entry.file_name().to_str().is_some_and(is_cache_name);
        if found.is_dir() && is_cache && age > max_age {
            fs::remove_dir_all(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn is_cache_name(name: &str) -> bool {
    let number = name.strip_prefix(CHECK_PREFIX);
    number.map_or_else(
        || name.parse::<Id>().is_ok(),
        |number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_caches_are_ones() {
        let id = "0123456789abcdef".repeat(4);
        for name in [id.as_str(), "restic-check-cache-123"] {
            assert!(is_cache_name(name), "{name}");
        }
        for name in [
            "tools",
            "restic-check-cache-",
            "restic-check-cache-x",
            &id[1..],
        ] {
            assert!(!is_cache_name(name), "{name}");
        }
    }
}

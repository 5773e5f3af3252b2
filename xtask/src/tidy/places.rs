//! Paths of the machine on which somebody works.
//! The repository reads the same wherever it was checked out, so no file may name that place.

use std::path::Path;

use super::text::TextFile;
use super::violation::Violation;

/// Directories that many checkouts share and that a text may well name.
const SHARED: &[&str] = &[
    "/",
    "/home",
    "/root",
    "/tmp",
    "/var/tmp",
    "/srv",
    "/opt",
    "/mnt",
    "/usr/src",
    "/usr/local/src",
    "/data",
    "/build",
    "/builds",
];

/// The directories of this checkout that would betray where it lies.
pub(super) fn of_checkout(root: &Path) -> Vec<String> {
    let telling = root
        .ancestors()
        .take(2)
        .filter(|dir| !SHARED.iter().any(|shared| *dir == Path::new(shared)));
    telling.map(|dir| format!("{}/", dir.display())).collect()
}

/// A path that works on one machine is a broken instruction on every other.
pub(super) fn names_no_workplace(file: &TextFile, places: &[String]) -> Vec<Violation> {
    let found = file.lines().filter_map(|(number, line)| {
        let place = places.iter().find(|place| names(line, place))?;
        Some(Violation::new(
            &file.path,
            number,
            format!("names {place}, a path of one machine"),
        ))
    });
    found.collect()
}

/// Whether `line` has `place` as an absolute path, not in the middle of a longer one.
fn names(line: &str, place: &str) -> bool {
    let continues = |c: char| c.is_alphanumeric() || "._-}$*~".contains(c);
    line.match_indices(place)
        .any(|(at, _)| !line[..at].chars().next_back().is_some_and(continues))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_path_is_found_and_a_shared_one_is_not() {
        let places = of_checkout(Path::new("/home/ada/lifeboat"));
        assert_eq!(places, ["/home/ada/lifeboat/", "/home/ada/"]);
        let count = |text| names_no_workplace(&TextFile::sample("README.md", text), &places).len();
        assert_eq!(
            count("see /home/ada/notes.md\nand `/home/ada/lifeboat/x`"),
            2
        );
        assert_eq!(count("see /srv/home/ada/x and /home/bob/x"), 0);
        assert_eq!(of_checkout(Path::new("/tmp/lifeboat")), ["/tmp/lifeboat/"]);
    }
}

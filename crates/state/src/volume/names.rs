//! Names of users and groups by their numbers, from `/etc/passwd` and `/etc/group`, read once.
//! It must never fail a backup: an unknown number has an empty name, as in restic.

use std::collections::HashMap;
use std::path::Path;

/// More bytes than this of an account file are not read: 64 MiB is about a million accounts.
const ACCOUNT_FILE_LIMIT_BYTES: u64 = 64 << 20;

/// Names of users and groups.
#[derive(Debug, Default)]
pub(crate) struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Names {
    /// As the system knows them now.
    pub(crate) fn of_system() -> Self {
        Self {
            users: read(Path::new("/etc/passwd")),
            groups: read(Path::new("/etc/group")),
        }
    }

    /// The user's name, empty if unknown.
    pub(crate) fn user(&self, uid: u32) -> String {
        self.users.get(&uid).cloned().unwrap_or_default()
    }

    /// The group's name, empty if unknown.
    pub(crate) fn group(&self, gid: u32) -> String {
        self.groups.get(&gid).cloned().unwrap_or_default()
    }
}

fn read(path: &Path) -> HashMap<u32, String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    // What can't be read leaves numbers without names, which restores by number don't need.
    if let Ok(file) = std::fs::File::open(path) {
        let _ = file.take(ACCOUNT_FILE_LIMIT_BYTES).read_to_end(&mut bytes);
    }
    parse(&String::from_utf8_lossy(&bytes))
}

/// Lines of `name:password:number:…`; the first line with a number wins, as in the C library.
fn parse(text: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        let name = fields.next().unwrap_or_default();
        let number = fields.nth(1).and_then(|field| field.parse().ok());
        if let (false, Some(number)) =
            (name.is_empty() || name.starts_with(['#', '+', '-']), number)
        {
            names.entry(number).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_lines_are_passed_over() {
        let names = parse(
            "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\n\n#off:x:1:\n+nis\nshort:x\nbad:x:-1:\nwww:x:33:",
        );
        assert_eq!(names.get(&0).map(String::as_str), Some("root"));
        assert_eq!(names.get(&33).map(String::as_str), Some("www"));
        assert_eq!(names.len(), 2);
    }
}

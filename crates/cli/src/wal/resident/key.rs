//! By what a resident process is known: a hash over all that decides what it opens, and with which program.
//! It must never be a hash that others could try passwords on: names of sockets are seen by everybody on the machine.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lifeboat_format::Id;

/// Variables that this program and those that it starts read: all with these beginnings …
const VARIABLE_PREFIXES: [&str; 4] = ["AWS_", "LIFEBOAT_", "RCLONE_", "RESTIC_"];
/// … and these, proxies in small letters too.
const VARIABLES: [&str; 11] = [
    "ALL_PROXY",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "PATH",
    "SSH_AUTH_SOCK",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "XDG_CACHE_HOME",
];
/// Random bytes that go into each hash.
pub const SALT_BYTES: usize = 32;
/// Hexadecimal digits of a key: as many as nobody finds a second thing for.
const KEY_DIGITS: usize = 32;

/// A program, by what an upgrade changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary {
    path: PathBuf,
    state: Option<[u64; 4]>,
}

impl Binary {
    /// This one.
    pub fn own() -> io::Result<Self> {
        let path = std::env::current_exe()?;
        let state = Self::state(&std::fs::metadata(&path)?);
        Ok(Self {
            path,
            state: Some(state),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is still what lies there.
    pub fn is_in_place(&self) -> bool {
        let found = std::fs::metadata(&self.path).ok();
        found.map(|found| Self::state(&found)) == self.state
    }

    fn state(found: &Metadata) -> [u64; 4] {
        let modified = found.mtime().wrapping_mul(1_000_000_000) + found.mtime_nsec();
        [
            found.dev(),
            found.ino(),
            found.size(),
            modified.cast_unsigned(),
        ]
    }
}

/// The key of a resident process.
pub fn key(
    salt: &[u8; SALT_BYTES],
    binary: &Binary,
    options: &[OsString],
    directory: Option<&Path>,
    variables: &BTreeMap<OsString, OsString>,
) -> String {
    // Every part with its length: no two sets of parts give the same bytes.
    let mut all = salt.to_vec();
    let mut part = |bytes: &[u8]| {
        all.extend((bytes.len() as u64).to_le_bytes());
        all.extend(bytes);
    };
    part(env!("CARGO_PKG_VERSION").as_bytes());
    part(binary.path.as_os_str().as_bytes());
    for number in binary.state.unwrap_or_default() {
        part(&number.to_le_bytes());
    }
    part(&options.len().to_le_bytes());
    for option in options {
        part(option.as_bytes());
    }
    part(&[u8::from(directory.is_some())]);
    part(directory.map_or(&[], |path| path.as_os_str().as_bytes()));
    for (name, value) in variables.iter().filter(|(name, _)| decides(name)) {
        part(name.as_bytes());
        part(value.as_bytes());
    }
    let mut key = Id::of(&all).to_string();
    key.truncate(KEY_DIGITS);
    key
}

/// Whether a variable decides what is opened, or how.
fn decides(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    let capitals = match name.ends_with("_proxy") {
        true => name.to_ascii_uppercase(),
        false => name.to_owned(),
    };
    VARIABLES.contains(&capitals.as_str())
        || VARIABLE_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_decides_what_is_opened_gives_another_key() {
        let binary = Binary {
            path: "/usr/bin/lifeboat".into(),
            state: Some([1, 2, 3, 4]),
        };
        let words = |texts: &[&str]| -> Vec<OsString> { texts.iter().map(Into::into).collect() };
        let variables = |pairs: &[(&str, &str)]| -> BTreeMap<OsString, OsString> {
            let pairs = pairs.iter();
            pairs
                .map(|(name, value)| (name.into(), value.into()))
                .collect()
        };
        let options = words(&["--repo=/a", "--key-hint=b"]);
        let own = variables(&[("RESTIC_PASSWORD", "geheim"), ("SHLVL", "1")]);
        let base = key(&[7; 32], &binary, &options, None, &own);
        assert_eq!((base.len(), base.contains("geheim")), (32, false));
        let same = variables(&[("RESTIC_PASSWORD", "geheim"), ("SHLVL", "2")]);
        assert_eq!(key(&[7; 32], &binary, &options, None, &same), base);
        let upgraded = Binary {
            state: Some([1, 2, 3, 5]),
            ..binary.clone()
        };
        let here = Some(Path::new("/"));
        let others = [
            key(&[8; 32], &binary, &options, None, &own),
            key(&[7; 32], &upgraded, &options, None, &own),
            key(&[7; 32], &binary, &words(&["--repo=/a"]), None, &own),
            key(
                &[7; 32],
                &binary,
                &words(&["--repo=/a--key-hint=b"]),
                None,
                &own,
            ),
            key(&[7; 32], &binary, &options, here, &own),
            key(&[7; 32], &binary, &options, None, &variables(&[])),
            key(
                &[7; 32],
                &binary,
                &options,
                None,
                &variables(&[("RESTIC_PASSWORD", "anders")]),
            ),
        ];
        for (number, other) in others.iter().enumerate() {
            assert_ne!(*other, base, "{number}");
        }
    }

    #[test]
    fn variables_that_are_read_decide() {
        for name in [
            "https_proxy",
            "HTTPS_PROXY",
            "AWS_PROFILE",
            "LIFEBOAT_MEMORY",
            "RCLONE_CONFIG",
            "RESTIC_REST_PASSWORD",
            "HOME",
        ] {
            assert!(decides(OsStr::new(name)), "{name}");
        }
        for name in ["home", "PGDATA", "SHLVL", "_", "my_AWS_KEY"] {
            assert!(!decides(OsStr::new(name)), "{name}");
        }
    }
}

//! The header of an entry in an archive, in the form that a server sends its files in ("ustar" of POSIX.1-2008, `pax`).
//! It must never let a path through that leads out of the directory it is for, nor an entry of a kind that is not known.

use lifeboat_flow::EntryPath;

/// The unit of an archive, in bytes: a header is one, and content is filled up to whole ones.
pub const BLOCK_BYTES: usize = 512;
/// The longest content of a file that is believed, in bytes: more than any file system holds.
const CONTENT_MAX_BYTES: u64 = 1 << 60;
/// How deep a path may be, in names: a server's files lie five deep, and those of its administrator not much deeper.
const DEPTH_MAX: usize = 64;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UstarKind {
    /// A file, with so many bytes behind the header.
    File {
        /// The length of its content.
        size_bytes: u64,
    },
    /// A directory.
    Dir,
    /// A symbolic link.
    Link,
}

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UstarHeader {
    /// Where the entry is.
    pub path: EntryPath,
    /// What it is.
    pub kind: UstarKind,
    /// Permissions.
    pub permissions: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When it was last changed, in seconds since 1970.
    pub modified_seconds: i64,
}

/// It is no header that is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UstarError {
    /// Its sum does not fit.
    #[error("a header has another checksum than it says")]
    Checksum,
    /// A number is none.
    #[error("the {0} of a header is no number")]
    Number(&'static str),
    /// Nobody can follow its path.
    #[error("the path {0:?} leads elsewhere")]
    Path(String),
    /// Something that servers do not send.
    #[error("{path} is of a kind that is not known, {kind:?}")]
    Kind {
        /// Which entry.
        path: String,
        /// Its kind, as it is written.
        kind: char,
    },
}

impl UstarHeader {
    /// Reads a block; `None` for one of zeros, which ends an archive.
    ///
    /// # Errors
    /// When it can't be believed or is not known.
    pub fn parse(block: &[u8; BLOCK_BYTES]) -> Result<Option<Self>, UstarError> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let field = |at: usize, length: usize| block.get(at..at + length).unwrap_or_default();
        let (before, sum, behind) = (field(0, 148), field(148, 8), field(156, 356));
        // The sum counts as blanks itself.
        let bytes = before.iter().chain(b"        ").chain(behind);
        let found: u64 = bytes.map(|byte| u64::from(*byte)).sum();
        if number(sum) != Some(found) {
            return Err(UstarError::Checksum);
        }
        let small = |at, length, name| {
            let value = number(field(at, length)).and_then(|value| u32::try_from(value).ok());
            value.ok_or(UstarError::Number(name))
        };
        let path = path(text(field(0, 100)), text(field(345, 155)))?;
        let size = number(field(124, 12)).filter(|size| *size <= CONTENT_MAX_BYTES);
        let kind = match block.get(156) {
            Some(b'0' | 0) => UstarKind::File {
                size_bytes: size.ok_or(UstarError::Number("size"))?,
            },
            Some(b'5') => UstarKind::Dir,
            Some(b'2') => UstarKind::Link,
            other => {
                return Err(UstarError::Kind {
                    path: path.display(),
                    kind: char::from(other.copied().unwrap_or(0)),
                });
            }
        };
        let modified = number(field(136, 12)).and_then(|seconds| i64::try_from(seconds).ok());
        Ok(Some(Self {
            path,
            kind,
            permissions: small(100, 8, "mode")? & 0o7777,
            uid: small(108, 8, "owner")?,
            gid: small(116, 8, "group")?,
            modified_seconds: modified.ok_or(UstarError::Number("time"))?,
        }))
    }

    /// Bytes behind the content of an entry, up to the next header.
    #[must_use]
    pub fn padding(size_bytes: u64) -> u64 {
        size_bytes.next_multiple_of(BLOCK_BYTES as u64) - size_bytes
    }
}

/// A number in octal digits, or in base 256 where these do not reach.
fn number(field: &[u8]) -> Option<u64> {
    if let [0x80, rest @ ..] = field {
        return rest.iter().try_fold(0_u64, |value, digit| {
            Some(value.checked_mul(256)? + u64::from(*digit))
        });
    }
    let digits = text(field).trim_ascii();
    let digits = std::str::from_utf8(digits).ok()?;
    let is_octal = digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    match digits {
        "" => Some(0),
        digits if is_octal => u64::from_str_radix(digits, 8).ok(),
        _ => None,
    }
}

/// A text that ends with a zero byte or with its field.
fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0);
    field.get(..end.unwrap_or(field.len())).unwrap_or_default()
}

/// A path below where the archive belongs.
fn path(name: &[u8], prefix: &[u8]) -> Result<EntryPath, UstarError> {
    let whole = match prefix {
        b"" => name.to_vec(),
        prefix => [prefix, b"/", name].concat(),
    };
    let refused = || UstarError::Path(String::from_utf8_lossy(&whole).into_owned());
    let below = whole.strip_prefix(b"./").unwrap_or(&whole);
    let below = below.strip_suffix(b"/").unwrap_or(below);
    let names: Vec<&[u8]> = below.split(|byte| *byte == b'/').collect();
    let is_name = |name: &&[u8]| !matches!(*name, b"" | b"." | b"..");
    match names.len() <= DEPTH_MAX && names.iter().all(is_name) {
        true => Ok(EntryPath(below.to_vec())),
        false => Err(refused()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header as a server makes it.
    fn header(name: &[u8], size: &[u8; 12], kind: u8) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        block[..name.len()].copy_from_slice(name);
        block[100..107].copy_from_slice(b"0100600");
        block[108..115].copy_from_slice(b"0000145");
        block[116..123].copy_from_slice(b"0000146");
        block[124..136].copy_from_slice(size);
        block[136..147].copy_from_slice(b"14000000000");
        block[156] = kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        summed(block)
    }

    fn summed(mut block: [u8; BLOCK_BYTES]) -> [u8; BLOCK_BYTES] {
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block
    }

    const SIZE: &[u8; 12] = b"00000020000\0";

    #[test]
    fn a_header_says_what_a_file_is() {
        let found = UstarHeader::parse(&header(b"base/5/16384", SIZE, b'0'));
        let found = found.expect("a header").expect("an entry");
        assert_eq!(found.path.0, b"base/5/16384");
        assert_eq!(found.kind, UstarKind::File { size_bytes: 8192 });
        assert_eq!(
            (found.permissions, found.uid, found.gid),
            (0o600, 0o145, 0o146)
        );
        assert_eq!(found.modified_seconds, 0o14_000_000_000);
        let kind = |kind| {
            let found = UstarHeader::parse(&header(b"./pg_wal/", SIZE, kind));
            let found = found.expect("a header").expect("an entry");
            (found.path.0, found.kind)
        };
        assert_eq!(kind(b'5'), (b"pg_wal".to_vec(), UstarKind::Dir));
        assert_eq!(kind(b'2').1, UstarKind::Link);
        assert_eq!(UstarHeader::parse(&[0; BLOCK_BYTES]), Ok(None));
        assert_eq!(UstarHeader::padding(0), 0);
        assert_eq!(UstarHeader::padding(513), 511);
    }

    #[test]
    fn what_digits_do_not_reach_is_written_in_base_256() {
        let size = [0x80, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1];
        let found = UstarHeader::parse(&header(b"x", &size, b'0'));
        let kind = found.expect("a header").expect("an entry").kind;
        assert_eq!(
            kind,
            UstarKind::File {
                size_bytes: (3 << 32) + 1
            }
        );
        let size = [0x80, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0];
        let found = UstarHeader::parse(&header(b"x", &size, b'0'));
        assert_eq!(found, Err(UstarError::Number("size")));
    }

    #[test]
    fn a_long_path_is_in_two_fields() {
        let mut block = header(&[b'x'; 100], SIZE, b'0');
        block[345..348].copy_from_slice(b"a/b");
        let found = UstarHeader::parse(&summed(block));
        let path = found.expect("a header").expect("an entry").path;
        assert_eq!(path.0, [b"a/b/".as_slice(), &[b'x'; 100]].concat());
    }

    #[test]
    fn nothing_leads_elsewhere_and_nothing_unknown_passes() {
        for name in [
            "/etc/passwd",
            "..",
            "../x",
            "a/../b",
            "a//b",
            "./../x",
            ".",
            "",
            "a/./b",
        ] {
            let found = UstarHeader::parse(&header(name.as_bytes(), SIZE, b'0'));
            assert!(matches!(found, Err(UstarError::Path(_))), "{name}");
        }
        let deep = [b"a/".repeat(DEPTH_MAX - 16).as_slice(), b"x"].concat();
        assert!(UstarHeader::parse(&header(&deep, SIZE, b'0')).is_ok());
        let mut deep = header(&b"a/".repeat(50), SIZE, b'0');
        deep[345..345 + 99].copy_from_slice(&b"b/".repeat(50)[..99]);
        assert!(UstarHeader::parse(&summed(deep)).is_err());
        // Extended headers of other programs, hard links, devices.
        for kind in [b'1', b'3', b'x', b'g', b'L'] {
            let found = UstarHeader::parse(&header(b"x", SIZE, kind));
            assert!(matches!(found, Err(UstarError::Kind { .. })), "{kind}");
        }
        let mut torn = header(b"x", SIZE, b'0');
        torn[0] ^= 1;
        assert_eq!(UstarHeader::parse(&torn), Err(UstarError::Checksum));
        let wrong = header(b"x", b"0000002000x\0", b'0');
        assert_eq!(UstarHeader::parse(&wrong), Err(UstarError::Number("size")));
    }
}

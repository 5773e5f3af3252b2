//! The packets of SFTP version 3 between bytes and values (draft-ietf-secsh-filexfer-02, OpenSSH's PROTOCOL).
//! It must never trust a length in a packet, nor reserve memory that one claims.

/// The version that is spoken; every server of today has it.
pub(super) const VERSION: u32 = 3;
/// The longest packet that is taken from a server, in bytes: OpenSSH's own limit.
pub(super) const PACKET_MAX_BYTES: usize = 256 * 1024;
/// Type and number, before the fields of an answer.
const ANSWER_HEAD_BYTES: usize = 5;

// Types of requests.
pub(super) const INIT: u8 = 1;
pub(super) const OPEN: u8 = 3;
pub(super) const CLOSE: u8 = 4;
pub(super) const READ: u8 = 5;
pub(super) const WRITE: u8 = 6;
pub(super) const FSTAT: u8 = 8;
pub(super) const FSETSTAT: u8 = 10;
pub(super) const OPENDIR: u8 = 11;
pub(super) const READDIR: u8 = 12;
pub(super) const REMOVE: u8 = 13;
pub(super) const MKDIR: u8 = 14;
pub(super) const STAT: u8 = 17;
pub(super) const RENAME: u8 = 18;
pub(super) const EXTENDED: u8 = 200;

// Types of answers.
const ANSWER_VERSION: u8 = 2;
const ANSWER_STATUS: u8 = 101;
const ANSWER_HANDLE: u8 = 102;
const ANSWER_DATA: u8 = 103;
const ANSWER_NAME: u8 = 104;
const ANSWER_ATTRIBUTES: u8 = 105;
const ANSWER_EXTENDED: u8 = 201;

// Flags of `OPEN`.
pub(super) const OPEN_READ: u32 = 0x01;
pub(super) const OPEN_WRITE: u32 = 0x02;
pub(super) const OPEN_CREATE: u32 = 0x08;
pub(super) const OPEN_EXCLUSIVE: u32 = 0x20;

// Which attributes follow.
const HAS_SIZE: u32 = 0x01;
const HAS_OWNERS: u32 = 0x02;
const HAS_PERMISSIONS: u32 = 0x04;
const HAS_TIMES: u32 = 0x08;
const HAS_EXTENDED: u32 = 0x8000_0000;

/// A request, put together field by field.
#[derive(Debug)]
pub(super) struct Request(Vec<u8>);

impl Request {
    /// A request of a type; its number is set when it is sent.
    pub(super) fn new(kind: u8) -> Self {
        let mut bytes = vec![0; 4];
        bytes.push(kind);
        bytes.extend([0; 4]);
        Self(bytes)
    }

    /// The greeting, which has a version in the place of a number.
    pub(super) fn hello() -> Vec<u8> {
        Self::new(INIT).numbered(VERSION)
    }

    /// `EXTENDED`, by the name of the extension.
    pub(super) fn extended(name: &str) -> Self {
        Self::new(EXTENDED).bytes(name.as_bytes())
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// A text, handle, path or content, with its length before it.
    pub(super) fn bytes(self, value: &[u8]) -> Self {
        let mut this = self.u32(length(value.len()));
        this.0.extend(value);
        this
    }

    /// Content in pieces, as one.
    pub(super) fn pieces(self, pieces: &[&[u8]]) -> Self {
        let mut this = self.u32(length(pieces.iter().map(|piece| piece.len()).sum()));
        for piece in pieces {
            this.0.extend(*piece);
        }
        this
    }

    /// Attributes of which only the permissions are told.
    pub(super) fn permissions(self, permissions: u32) -> Self {
        self.u32(HAS_PERMISSIONS).u32(permissions)
    }

    /// No attributes.
    pub(super) fn no_attributes(self) -> Self {
        self.u32(0)
    }

    /// The bytes to send, with the request's number.
    pub(super) fn numbered(mut self, number: u32) -> Vec<u8> {
        let after_length = length(self.0.len().saturating_sub(4));
        if let Some((head, rest)) = self.0.split_first_chunk_mut::<4>() {
            *head = after_length.to_be_bytes();
            if let Some(place) = rest.get_mut(1..5) {
                place.copy_from_slice(&number.to_be_bytes());
            }
        }
        self.0
    }
}

/// Requests are far shorter than that; a longer one would be refused by the server as nonsense.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// What a server answers.
#[derive(Debug)]
pub(super) enum Answer {
    /// How a request ended.
    Status(Status),
    /// An open file or folder.
    Handle(Vec<u8>),
    /// Content.
    Data(Data),
    /// Entries of a folder.
    Names(Vec<Name>),
    /// What is known of a file.
    Attributes(Attributes),
    /// The answer of an extension, as it came.
    Extended(Vec<u8>),
}

/// Content in the packet that brought it.
#[derive(Debug)]
pub(super) struct Data {
    packet: Vec<u8>,
    from: usize,
}

impl Data {
    pub(super) fn bytes(&self) -> &[u8] {
        self.packet.get(self.from..).unwrap_or_default()
    }
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    /// One of the codes below, or one that a later version of the protocol has.
    pub(super) code: u32,
    /// The server's words; may be empty.
    pub(super) text: String,
}

impl Status {
    pub(super) const OK: u32 = 0;
    pub(super) const END: u32 = 1;
    pub(super) const NO_SUCH_FILE: u32 = 2;
    pub(super) const DENIED: u32 = 3;
    pub(super) const FAILURE: u32 = 4;
    pub(super) const BAD_MESSAGE: u32 = 5;
    pub(super) const NO_CONNECTION: u32 = 6;
    pub(super) const CONNECTION_LOST: u32 = 7;
    pub(super) const UNSUPPORTED: u32 = 8;
    /// From version 4 to 6; some servers use them all the same.
    pub(super) const READ_ONLY: u32 = 12;
    pub(super) const NO_SPACE: u32 = 14;
    pub(super) const QUOTA: u32 = 15;

    /// What the code is called.
    fn name(&self) -> &'static str {
        match self.code {
            Self::OK => "success",
            Self::END => "end of file",
            Self::NO_SUCH_FILE => "no such file",
            Self::DENIED => "permission denied",
            Self::FAILURE => "failure",
            Self::BAD_MESSAGE => "bad message",
            Self::NO_CONNECTION => "no connection",
            Self::CONNECTION_LOST => "connection lost",
            Self::UNSUPPORTED => "operation unsupported",
            Self::READ_ONLY => "read-only file system",
            Self::NO_SPACE => "no space",
            Self::QUOTA => "quota exceeded",
            _ => "an unknown status",
        }
    }

    /// For people: the code's name, and the server's words where they say more.
    pub(super) fn shown(&self) -> String {
        let name = self.name();
        let text = self.text.trim();
        if text.is_empty() || text.eq_ignore_ascii_case(name) {
            format!("the server says: {name}")
        } else {
            format!("the server says: {text} ({name}, status {})", self.code)
        }
    }
}

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) name: Vec<u8>,
    pub(super) attributes: Attributes,
}

/// What is known of a file; servers may leave out any of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) size_bytes: Option<u64>,
    /// `st_mode` with the type of the file.
    pub(super) mode: Option<u32>,
    /// When the content last changed, in seconds since 1970 by the server's clock.
    pub(super) modified_seconds: Option<u32>,
}

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    File,
    Folder,
    Link,
    Other,
    /// The server does not say.
    Unknown,
}

impl Attributes {
    /// What it is, by the bits that `stat` has on Unix.
    pub(super) fn kind(&self) -> Type {
        match self.mode.map(|mode| mode & 0o170_000) {
            None | Some(0) => Type::Unknown,
            Some(0o100_000) => Type::File,
            Some(0o040_000) => Type::Folder,
            Some(0o120_000) => Type::Link,
            Some(_) => Type::Other,
        }
    }
}

/// Reads the fields of a packet one by one; `None` means that it ends too early.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*taken))
    }

    fn u64(&mut self) -> Option<u64> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*taken))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = usize::try_from(self.u32()?).ok()?;
        self.take(count)
    }

    fn attributes(&mut self) -> Option<Attributes> {
        let flags = self.u32()?;
        let has = |flag| flags & flag != 0;
        let mut found = Attributes::default();
        if has(HAS_SIZE) {
            found.size_bytes = Some(self.u64()?);
        }
        if has(HAS_OWNERS) {
            self.take(8)?;
        }
        if has(HAS_PERMISSIONS) {
            found.mode = Some(self.u32()?);
        }
        if has(HAS_TIMES) {
            self.u32()?;
            found.modified_seconds = Some(self.u32()?);
        }
        if has(HAS_EXTENDED) {
            for _ in 0..self.u32()? {
                self.bytes()?;
                self.bytes()?;
            }
        }
        Some(found)
    }

    fn status(&mut self) -> Option<Status> {
        let code = self.u32()?;
        // Old servers leave the text out.
        let text = self.bytes().unwrap_or_default();
        Some(Status {
            code,
            text: String::from_utf8_lossy(text).into_owned(),
        })
    }

    fn names(&mut self) -> Option<Vec<Name>> {
        let count = self.u32()?;
        let mut names = Vec::new();
        for _ in 0..count {
            let name = self.bytes()?.to_vec();
            // What `ls -l` would print.
            self.bytes()?;
            let attributes = self.attributes()?;
            names.push(Name { name, attributes });
        }
        Some(names)
    }
}

/// The number of the request that a packet answers, and the answer. `None` if it is none that the protocol has.
pub(super) fn parse(packet: Vec<u8>) -> Option<(u32, Answer)> {
    let mut fields = Fields(&packet);
    let kind = *fields.take(1)?.first()?;
    let number = fields.u32()?;
    let answer = match kind {
        ANSWER_STATUS => Answer::Status(fields.status()?),
        ANSWER_HANDLE => Answer::Handle(fields.bytes()?.to_vec()),
        ANSWER_NAME => Answer::Names(fields.names()?),
        ANSWER_ATTRIBUTES => Answer::Attributes(fields.attributes()?),
        ANSWER_EXTENDED => Answer::Extended(fields.0.to_vec()),
        ANSWER_DATA => {
            let length = fields.bytes()?.len();
            let from = ANSWER_HEAD_BYTES + 4;
            let mut packet = packet;
            packet.truncate(from + length);
            return Some((number, Answer::Data(Data { packet, from })));
        }
        _ => return None,
    };
    Some((number, answer))
}

/// What a server offers beyond the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    pub(super) posix_rename: bool,
    pub(super) hardlink: bool,
    pub(super) fsync: bool,
    pub(super) statvfs: bool,
    pub(super) limits: bool,
}

/// The names of the extensions (OpenSSH, PROTOCOL, section 4).
pub(super) const POSIX_RENAME: &str = "posix-rename@openssh.com";
pub(super) const HARDLINK: &str = "hardlink@openssh.com";
pub(super) const FSYNC: &str = "fsync@openssh.com";
pub(super) const STATVFS: &str = "statvfs@openssh.com";
pub(super) const LIMITS: &str = "limits@openssh.com";

/// The version of a server's greeting and its extensions; `None` if it is no greeting.
pub(super) fn parse_hello(packet: &[u8]) -> Option<(u32, Extensions)> {
    let mut fields = Fields(packet);
    if *fields.take(1)?.first()? != ANSWER_VERSION {
        return None;
    }
    let version = fields.u32()?;
    let mut found = Extensions::default();
    while !fields.0.is_empty() {
        let name = fields.bytes()?;
        let value = fields.bytes()?;
        let is = |known: &str, version: &[u8]| name == known.as_bytes() && value == version;
        found.posix_rename |= is(POSIX_RENAME, b"1");
        found.hardlink |= is(HARDLINK, b"1");
        found.fsync |= is(FSYNC, b"1");
        found.statvfs |= is(STATVFS, b"2");
        found.limits |= is(LIMITS, b"1");
    }
    Some((version, found))
}

/// The longest request, read and write of a server in bytes, from the answer to `limits@openssh.com`; 0 is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) packet_bytes: u64,
    pub(super) read_bytes: u64,
    pub(super) write_bytes: u64,
}

pub(super) fn parse_limits(answer: &[u8]) -> Option<Limits> {
    let mut fields = Fields(answer);
    Some(Limits {
        packet_bytes: fields.u64()?,
        read_bytes: fields.u64()?,
        write_bytes: fields.u64()?,
    })
}

/// What an ordinary user may still write on a file system, from the answer to `statvfs@openssh.com`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) bytes: u64,
    /// Files; `None` where the file system has no such limit.
    pub(super) files: Option<u64>,
}

pub(super) fn parse_room(answer: &[u8]) -> Option<Room> {
    let mut fields = Fields(answer);
    let _block_bytes = fields.u64()?;
    let fragment_bytes = fields.u64()?;
    let _blocks = fields.u64()?;
    let _free = fields.u64()?;
    let available = fields.u64()?;
    let files = fields.u64()?;
    let _free_files = fields.u64()?;
    let available_files = fields.u64()?;
    Some(Room {
        bytes: available.saturating_mul(fragment_bytes),
        files: (files > 0).then_some(available_files),
    })
}

#[cfg(test)]
mod tests {
    use lifeboat_testkit::random::Random;
    use lifeboat_testkit::replay::{Note, seed};

    use super::*;

    /// An answer as a server writes it, without the length before it.
    fn answer(kind: u8, fields: Request) -> Vec<u8> {
        let mut packet = fields.numbered(7);
        packet[4] = kind;
        packet.split_off(4)
    }

    #[test]
    fn a_request_has_its_length_type_and_number_before_its_fields() {
        let bytes = Request::new(OPEN)
            .bytes(b"ab")
            .u32(1)
            .no_attributes()
            .numbered(9);
        assert_eq!(
            bytes,
            [
                0, 0, 0, 19, 3, 0, 0, 0, 9, 0, 0, 0, 2, b'a', b'b', 0, 0, 0, 1, 0, 0, 0, 0
            ]
        );
        assert_eq!(Request::hello(), [0, 0, 0, 5, 1, 0, 0, 0, 3]);
        let whole = Request::new(WRITE).bytes(b"abc").numbered(1);
        assert_eq!(
            Request::new(WRITE).pieces(&[b"a", b"", b"bc"]).numbered(1),
            whole
        );
    }

    #[test]
    fn answers_are_read() {
        let status = Request::new(0).u32(4).bytes(b"Failure").bytes(b"en");
        let Some((7, Answer::Status(status))) = parse(answer(ANSWER_STATUS, status)) else {
            panic!("a status");
        };
        assert_eq!(status.shown(), "the server says: failure");
        let data = answer(ANSWER_DATA, Request::new(0).bytes(b"content").u32(99));
        let Some((7, Answer::Data(data))) = parse(data) else {
            panic!("data");
        };
        assert_eq!(data.bytes(), b"content");
        let names = Request::new(0)
            .u32(1)
            .bytes(b"config")
            .bytes(b"-r--")
            .u32(HAS_SIZE | HAS_OWNERS | HAS_PERMISSIONS | HAS_TIMES | HAS_EXTENDED)
            .u64(155)
            .u32(0)
            .u32(0)
            .u32(0o100_400)
            .u32(1)
            .u32(2)
            .u32(1)
            .bytes(b"a@b")
            .bytes(b"");
        let Some((7, Answer::Names(names))) = parse(answer(ANSWER_NAME, names)) else {
            panic!("names");
        };
        assert_eq!(names[0].attributes.size_bytes, Some(155));
        assert_eq!(names[0].attributes.modified_seconds, Some(2));
        assert_eq!(names[0].attributes.kind(), Type::File);
    }

    #[test]
    fn a_packet_that_ends_too_early_is_none() {
        let names = Request::new(0)
            .u32(u32::MAX)
            .bytes(b"config")
            .bytes(b"")
            .u32(HAS_SIZE)
            .u64(1);
        assert!(parse(answer(ANSWER_NAME, names)).is_none());
        let data = answer(ANSWER_DATA, Request::new(0).u32(u32::MAX));
        for packet in [data, vec![], vec![103], vec![255, 0, 0, 0, 1]] {
            assert!(parse(packet).is_none());
        }
        assert!(parse_hello(&[2, 0, 0, 0, 3, 0, 0, 0, 9, 1]).is_none());
        assert!(parse_hello(b"Welcome").is_none());
    }

    #[test]
    fn no_packet_makes_it_panic_or_reserve_more_than_it_has() {
        let seed = seed();
        let _seed = Note::seed(seed);
        let mut random = Random::new(seed);
        for _ in 0..20_000 {
            let length = random.index(80);
            let mut packet = random.bytes(length);
            // Small numbers are lengths that fit now and then.
            packet.iter_mut().for_each(|byte| *byte &= 0x0f);
            if let Some(first) = packet.first_mut() {
                *first = 100 + *first % 6;
            }
            let _ = parse_hello(&packet);
            let _ = parse_limits(&packet);
            let _ = parse_room(&packet);
            if let Some((_, Answer::Names(names))) = parse(packet) {
                assert!(names.len() <= length / 12);
            }
        }
    }

    #[test]
    fn extensions_are_known_by_name_and_version() {
        let hello = Request::new(ANSWER_VERSION)
            .bytes(FSYNC.as_bytes())
            .bytes(b"1")
            .bytes(STATVFS.as_bytes())
            .bytes(b"1")
            .numbered(3);
        let (version, found) = parse_hello(&hello[4..]).unwrap();
        assert_eq!(version, 3);
        assert!(found.fsync && !found.statvfs && !found.posix_rename);
    }
}

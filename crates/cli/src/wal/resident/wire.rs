//! What a command and a resident process say to each other: one request, signs of life, one answer, in frames.
//! It must never believe a length before the bytes are there, nor take a half answer for a whole one.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use lifeboat_protect::postgres::LogFile;
use lifeboat_repo::{Appended, LOG_CONTENT_MAX_BYTES};
use lifeboat_state::postgres::{SegmentBytes, Timeline, WalName};

/// What every frame begins with, and the version of all this.
const MAGIC: [u8; 4] = *b"LBR\x01";
/// The beginning of a frame: the magic, its kind, the length of what follows, little-endian.
const HEAD_BYTES: usize = 9;
/// Longest frame but for a content, in bytes: paths and messages.
const SMALL_MAX_BYTES: u64 = 64 * 1024;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// To archive a file.
    Push(LogFile),
    /// To get a file out.
    Fetch {
        /// The cluster.
        system_id: u64,
        /// The file.
        name: WalName,
        /// The timeline of the server.
        own: Timeline,
        /// Its size of segments.
        size: SegmentBytes,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It goes on.
    Working,
    /// It is archived.
    Pushed(Appended),
    /// The file.
    Content(Vec<u8>),
    /// The archive surely ends before it.
    Beyond,
    /// It was lost.
    Lost,
    /// It failed.
    Failed(Told),
}

/// A failure, as a user is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What failed and why.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// Whether the store failed, and not the file.
    pub is_of_store: bool,
}

const PUSH: u8 = 1;
const FETCH: u8 = 2;
const WORKING: u8 = 16;
const PUSHED: u8 = 17;
const CONTENT: u8 = 18;
const BEYOND: u8 = 19;
const LOST: u8 = 20;
const FAILED: u8 = 21;

impl Request {
    /// Sends it.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Push(file) => {
                let id = file.system_id.to_le_bytes();
                let name = file.name.to_string();
                let fields = [
                    &id[..],
                    file.data.as_os_str().as_bytes(),
                    file.path.as_os_str().as_bytes(),
                    name.as_bytes(),
                ];
                write_frame(to, PUSH, &joined(&fields))
            }
            Self::Fetch {
                system_id,
                name,
                own,
                size,
            } => {
                let name = name.to_string();
                let fields = [
                    &system_id.to_le_bytes()[..],
                    name.as_bytes(),
                    &own.0.to_le_bytes(),
                    &size.get().to_le_bytes(),
                ];
                write_frame(to, FETCH, &joined(&fields))
            }
        }
    }

    /// Receives one.
    pub fn read(from: &mut impl Read) -> io::Result<Self> {
        let (kind, body) = read_frame(from)?;
        let fields = split(&body)?;
        let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
        match (kind, fields.as_slice()) {
            (PUSH, [id, data, file, name]) => Ok(Self::Push(LogFile {
                system_id: u64::from_le_bytes(array(id)?),
                data: path(data),
                path: path(file),
                name: name_of(name)?,
            })),
            (FETCH, [id, name, own, size]) => Ok(Self::Fetch {
                system_id: u64::from_le_bytes(array(id)?),
                name: name_of(name)?,
                own: Timeline(u32::from_le_bytes(array(own)?)),
                size: SegmentBytes::new(u64::from_le_bytes(array(size)?)).ok_or_else(nonsense)?,
            }),
            _ => Err(nonsense()),
        }
    }
}

impl Answer {
    /// Sends it.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Working => write_frame(to, WORKING, &[]),
            Self::Pushed(appended) => {
                write_frame(to, PUSHED, &[u8::from(*appended == Appended::New)])
            }
            Self::Content(content) => write_frame(to, CONTENT, content),
            Self::Beyond => write_frame(to, BEYOND, &[]),
            Self::Lost => write_frame(to, LOST, &[]),
            Self::Failed(told) => write_frame(to, FAILED, &told.fields()),
        }
    }

    /// Receives one.
    pub fn read(from: &mut impl Read) -> io::Result<Self> {
        let (kind, body) = read_frame(from)?;
        match (kind, body.as_slice()) {
            (WORKING, []) => Ok(Self::Working),
            (PUSHED, [0]) => Ok(Self::Pushed(Appended::Same)),
            (PUSHED, [1]) => Ok(Self::Pushed(Appended::New)),
            (CONTENT, _) => Ok(Self::Content(body)),
            (BEYOND, []) => Ok(Self::Beyond),
            (LOST, []) => Ok(Self::Lost),
            (FAILED, body) => Ok(Self::Failed(Told::of(body)?)),
            _ => Err(nonsense()),
        }
    }
}

impl Told {
    fn fields(&self) -> Vec<u8> {
        // A message is cut rather than lost with its frame.
        let cut = |text: &str| text.chars().take(SMALL_MAX_BYTES as usize / 16).collect();
        let (message, hint): (String, String) =
            (cut(&self.message), cut(self.hint.as_deref().unwrap_or("")));
        let flags = [u8::from(self.is_of_store), u8::from(self.hint.is_some())];
        joined(&[&flags, message.as_bytes(), hint.as_bytes()])
    }

    fn of(body: &[u8]) -> io::Result<Self> {
        let fields = split(body)?;
        let [flags, message, hint] = fields.as_slice() else {
            return Err(nonsense());
        };
        let [is_of_store @ (0 | 1), has_hint @ (0 | 1)] = **flags else {
            return Err(nonsense());
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| nonsense());
        let hint = text(hint)?;
        Ok(Self {
            message: text(message)?,
            hint: (has_hint == 1).then_some(hint),
            is_of_store: is_of_store == 1,
        })
    }
}

fn write_frame(to: &mut impl Write, kind: u8, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(|_| nonsense())?;
    let mut head = MAGIC.to_vec();
    head.push(kind);
    head.extend(length.to_le_bytes());
    to.write_all(&head)?;
    to.write_all(body)?;
    to.flush()
}

fn read_frame(from: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; HEAD_BYTES];
    from.read_exact(&mut head)?;
    let [m0, m1, m2, m3, kind, length @ ..] = head;
    let length = u64::from(u32::from_le_bytes(length));
    let limit = match kind {
        CONTENT => LOG_CONTENT_MAX_BYTES,
        _ => SMALL_MAX_BYTES,
    };
    if [m0, m1, m2, m3] != MAGIC || length > limit {
        return Err(nonsense());
    }
    let mut body = Vec::new();
    from.take(length).read_to_end(&mut body)?;
    match body.len() as u64 == length {
        true => Ok((kind, body)),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn joined(fields: &[&[u8]]) -> Vec<u8> {
    let mut body = Vec::new();
    for field in fields {
        // One that is too long makes a frame that nobody takes.
        let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
        body.extend(length.to_le_bytes());
        body.extend(*field);
    }
    body
}

fn split(mut body: &[u8]) -> io::Result<Vec<&[u8]>> {
    let mut fields = Vec::new();
    while let Some((length, rest)) = body.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        let (field, rest) = rest.split_at_checked(length).ok_or_else(nonsense)?;
        fields.push(field);
        body = rest;
    }
    match body.is_empty() {
        true => Ok(fields),
        false => Err(nonsense()),
    }
}

fn array<const N: usize>(bytes: &[u8]) -> io::Result<[u8; N]> {
    bytes.try_into().map_err(|_| nonsense())
}

fn name_of(bytes: &[u8]) -> io::Result<WalName> {
    let text = std::str::from_utf8(bytes).map_err(|_| nonsense())?;
    text.parse().map_err(|_| nonsense())
}

fn nonsense() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "it does not speak as this program does",
    )
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn requests() -> [Request; 2] {
        let name: WalName = "00000001000000000000002A".parse().unwrap();
        [
            Request::Push(LogFile {
                system_id: u64::MAX - 1,
                data: OsStr::from_bytes(b"/data \xff").into(),
                path: "/data/pg_wal/00000001000000000000002A".into(),
                name,
            }),
            Request::Fetch {
                system_id: 7,
                name,
                own: Timeline(3),
                size: SegmentBytes::DEFAULT,
            },
        ]
    }

    fn answers() -> Vec<Answer> {
        let told = |hint: Option<&str>| Told {
            message: "no: ä".into(),
            hint: hint.map(str::to_owned),
            is_of_store: hint.is_some(),
        };
        vec![
            Answer::Working,
            Answer::Pushed(Appended::New),
            Answer::Pushed(Appended::Same),
            Answer::Content(vec![7; 200_000]),
            Answer::Content(Vec::new()),
            Answer::Beyond,
            Answer::Lost,
            Answer::Failed(told(None)),
            Answer::Failed(told(Some(""))),
        ]
    }

    fn bytes(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_is_said_is_heard() {
        for request in requests() {
            let said = bytes(|to| request.write(to));
            assert_eq!(Request::read(&mut said.as_slice()).unwrap(), request);
            assert!(Answer::read(&mut said.as_slice()).is_err());
        }
        let mut said = Vec::new();
        for answer in answers() {
            answer.write(&mut said).unwrap();
        }
        let mut heard = said.as_slice();
        for answer in answers() {
            assert_eq!(Answer::read(&mut heard).unwrap(), answer);
        }
        assert!(Answer::read(&mut heard).is_err(), "there is no more");
    }

    #[test]
    fn a_long_message_is_cut_and_heard() {
        let answer = Answer::Failed(Told {
            message: "ä".repeat(1 << 20),
            hint: None,
            is_of_store: false,
        });
        let said = bytes(|to| answer.write(to));
        let Answer::Failed(told) = Answer::read(&mut said.as_slice()).unwrap() else {
            panic!("it failed");
        };
        assert_eq!(told.message.chars().count(), 4096);
    }

    #[test]
    fn nonsense_is_an_error_wherever_it_stands() {
        let whole: Vec<Vec<u8>> = requests()
            .iter()
            .map(|request| bytes(|to| request.write(to)))
            .chain(answers().iter().map(|answer| bytes(|to| answer.write(to))))
            .collect();
        for said in &whole {
            for at in (0..said.len()).take(300) {
                assert!(Request::read(&mut &said[..at]).is_err());
                assert!(Answer::read(&mut &said[..at]).is_err());
                let mut other = said.clone();
                other[at] ^= 0x40;
                // It may be a legal message of another content, and never a panic.
                let _ = Request::read(&mut other.as_slice());
                let _ = Answer::read(&mut other.as_slice());
            }
        }
        let huge = [&MAGIC[..], &[FAILED], &u32::MAX.to_le_bytes()].concat();
        assert!(Answer::read(&mut huge.as_slice()).is_err());
    }

    /// A field as somebody means it, or as nobody does.
    fn field() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            vec(any::<u8>(), 0..12),
            vec(0..2_u8, 2),
            Just(SegmentBytes::DEFAULT.get().to_le_bytes().to_vec()),
            "[0-9A-F]{24}(\\.partial)?".prop_map(String::into_bytes),
            "[a-zä]{0,9}".prop_map(String::into_bytes),
        ]
    }

    /// A frame: whole or cut off, of fields or of anything.
    fn frame() -> impl Strategy<Value = Vec<u8>> {
        let fields = vec(field(), 0..5)
            .prop_map(|fields| joined(&fields.iter().map(Vec::as_slice).collect::<Vec<_>>()));
        let body = prop_oneof![3 => fields, 1 => vec(any::<u8>(), 0..40)];
        let kind = prop_oneof![4 => PUSH..=FETCH, 4 => WORKING..=FAILED, 1 => any::<u8>()];
        let cut = prop_oneof![3 => Just(0), 1 => 0..60_usize];
        (kind, body, cut).prop_map(|(kind, body, cut)| {
            let mut said = bytes(|to| write_frame(to, kind, &body));
            said.truncate(said.len().saturating_sub(cut));
            said
        })
    }

    proptest! {
        #[test]
        fn what_is_heard_is_said_the_same(said in frame()) {
            let mut rest = said.as_slice();
            if let Ok(request) = Request::read(&mut rest) {
                prop_assert_eq!(&bytes(|to| request.write(to)), &said);
                prop_assert!(rest.is_empty() && Answer::read(&mut said.as_slice()).is_err());
            }
            let mut rest = said.as_slice();
            if let Ok(answer) = Answer::read(&mut rest) {
                let again = bytes(|to| answer.write(to));
                prop_assert!(rest.is_empty());
                prop_assert_eq!(Answer::read(&mut again.as_slice()).unwrap(), answer);
            }
        }

        #[test]
        fn a_length_is_not_believed_before_its_bytes_are_there(kind in any::<u8>(), length in any::<u32>(), body in vec(any::<u8>(), 0..40)) {
            let said = [&MAGIC[..], &[kind], &length.to_le_bytes(), &body].concat();
            let is_there = length as usize <= body.len();
            prop_assert_eq!(read_frame(&mut said.as_slice()).is_ok(), is_there);
        }
    }
}

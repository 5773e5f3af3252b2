//! Messages of the protocol, as bytes on a stream.
//! It must never believe a length: who says that gigabytes come is not waited for with memory for them.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use lifeboat_flow::Cancel;

use super::error::{PgError, ServerError};
use super::stream::Stream;

/// The longest message that is taken, in bytes: a row, or a piece of a stream.
const MESSAGE_MAX_BYTES: usize = 64 * 1024 * 1024;
/// What is read at once, in bytes.
const READ_BYTES: usize = 64 * 1024;
/// How often a wait is interrupted to see whether somebody wishes to stop; the stream has this as its read timeout.
pub(super) const POLL: Duration = Duration::from_millis(200);

/// A read waits no shorter.
const POLL_MIN: Duration = Duration::from_millis(1);

/// A message of the server.
pub(super) struct Message {
    pub(super) tag: u8,
    pub(super) body: Vec<u8>,
}

/// A stream of messages.
pub(super) struct Wire {
    stream: Stream,
    inbox: Vec<u8>,
    /// Where in the inbox the next message begins.
    at: usize,
    /// How long a read waits.
    poll: Duration,
}

impl Wire {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            inbox: Vec::new(),
            at: 0,
            poll: POLL,
        }
    }

    /// Sends a message: its tag, if it has one, its length and its body.
    pub(super) fn send(&mut self, tag: Option<u8>, body: &[u8]) -> Result<(), PgError> {
        let length = u32::try_from(body.len() + 4).map_err(io::Error::other);
        let sent = length.and_then(|length| {
            let mut message = Vec::with_capacity(body.len() + 5);
            message.extend(tag);
            message.extend(length.to_be_bytes());
            message.extend_from_slice(body);
            self.stream.write_all(&message)?;
            self.stream.flush()
        });
        sent.map_err(lost("send to the server"))
    }

    /// Lets a wait be interrupted more often than usual, for who has something else to look after.
    pub(super) fn poll_every(&mut self, poll: Duration) -> Result<(), PgError> {
        let poll = poll.clamp(POLL_MIN, POLL);
        if self.poll != poll {
            let set = self.stream.set_read_timeout(poll);
            set.map_err(lost("wait for the server"))?;
            self.poll = poll;
        }
        Ok(())
    }

    /// The next message; waits until it is there, somebody wishes to stop, or nothing came for `silence`.
    pub(super) fn receive(
        &mut self,
        cancel: &Cancel,
        silence: Option<Duration>,
    ) -> Result<Message, PgError> {
        let mut heard = Instant::now();
        loop {
            if let Some(message) = self.parse()? {
                return Ok(message);
            }
            cancel.check()?;
            if self.read()? {
                heard = Instant::now();
            } else if let Some(silence) = silence.filter(|silence| heard.elapsed() >= *silence) {
                return Err(PgError::Silent(silence));
            }
        }
    }

    /// A message that is whole.
    fn parse(&mut self) -> Result<Option<Message>, PgError> {
        let rest = self.inbox.get(self.at..).unwrap_or_default();
        let Some((head, behind)) = rest.split_first_chunk::<5>() else {
            return Ok(None);
        };
        let [tag, length @ ..] = *head;
        let length = u32::from_be_bytes(length) as usize;
        let Some(length) = length
            .checked_sub(4)
            .filter(|length| *length <= MESSAGE_MAX_BYTES)
        else {
            return Err(PgError::Protocol(format!("a message of {length} bytes")));
        };
        let Some(body) = behind.get(..length) else {
            return Ok(None);
        };
        let message = Message {
            tag,
            body: body.to_vec(),
        };
        self.at += 5 + length;
        if self.at == self.inbox.len() {
            self.inbox.clear();
            self.at = 0;
        }
        Ok(Some(message))
    }

    /// Reads what is there; whether anything came.
    fn read(&mut self) -> Result<bool, PgError> {
        // What was parsed is let go of before more comes.
        self.inbox.drain(..self.at);
        self.at = 0;
        let filled = self.inbox.len();
        self.inbox.resize(filled + READ_BYTES, 0);
        let place = self.inbox.get_mut(filled..).unwrap_or_default();
        let read = self.stream.read(place);
        self.inbox
            .truncate(filled + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => Err(lost("hear from the server")(
                io::ErrorKind::UnexpectedEof.into(),
            )),
            Ok(_) => Ok(true),
            Err(cause) if is_poll(&cause) => Ok(false),
            Err(cause) => Err(lost("hear from the server")(cause)),
        }
    }
}

/// Whether a read only came to the end of one poll.
fn is_poll(cause: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(cause.kind(), WouldBlock | TimedOut | Interrupted)
}

pub(super) fn lost(doing: &'static str) -> impl FnOnce(io::Error) -> PgError {
    move |cause| PgError::Lost { doing, cause }
}

/// The fields of an error or notice.
pub(super) fn server_error(body: &[u8]) -> ServerError {
    let mut error = ServerError::default();
    for field in body.split(|byte| *byte == 0) {
        let Some((kind, text)) = field.split_first() else {
            break;
        };
        let text = String::from_utf8_lossy(text).into_owned();
        match kind {
            // In the language of the server only if it gives no other.
            b'V' => error.severity = text,
            b'S' if error.severity.is_empty() => error.severity = text,
            b'C' => error.code = text,
            b'M' => error.message = text,
            b'D' => error.detail = text,
            b'H' => error.hint = text,
            _ => {}
        }
    }
    error
}

/// A text that ends with a zero byte, and what is behind it.
pub(super) fn text(body: &[u8]) -> Option<(String, &[u8])> {
    let end = body.iter().position(|byte| *byte == 0)?;
    let (text, rest) = body.split_at(end);
    Some((String::from_utf8_lossy(text).into_owned(), rest.get(1..)?))
}

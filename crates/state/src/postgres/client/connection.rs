//! A session with a server: queries and commands of the replication protocol whose answers are text.
//! It must never hold more of an answer than its limit says.

use std::collections::BTreeMap;
use std::time::Duration;

use lifeboat_flow::Cancel;

use super::address::Address;
use super::error::{PgError, ServerError};
use super::handshake;
use super::wire::{Message, Wire, server_error};

/// Rows of one answer at most: what is asked here is about the server, not about its data.
const ROWS_MAX: usize = 1_000_000;

/// How long words are waited for that a server sent before it went away.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);
/// The codes with which a server ends a session by itself (PostgreSQL manual, "PostgreSQL Error Codes", class 57).
const ENDING: &str = "57P0";

/// Notices that are kept until somebody wants them.
const NOTICES_MAX: usize = 100;

/// A row: each column as text, or nothing where it is NULL.
pub type Row = Vec<Option<String>>;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Queries.
    Queries,
    /// The commands of the replication protocol.
    Replication,
}

/// A connection to a server.
pub struct Connection {
    wire: Wire,
    settings: BTreeMap<String, String>,
    /// The first notices of the server since they were last taken, which say why something takes its time.
    notices: Vec<String>,
    /// Why the server ends the session, where it says so before it does.
    farewell: Option<ServerError>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody answers, or the server does not want us.
    pub fn open(address: &Address, session: Session, cancel: &Cancel) -> Result<Self, PgError> {
        let (wire, settings) = handshake::connect(address, session, cancel)?;
        Ok(Self {
            wire,
            settings,
            notices: Vec::new(),
            farewell: None,
        })
    }

    /// A setting that the server tells by itself, such as `server_version`.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// The version as a number, such as 150018; `None` if it is not told in a known form.
    #[must_use]
    pub fn version(&self) -> Option<u32> {
        version_of(self.setting("server_version")?)
    }

    /// What the server had to say beside its answers, since the last time.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// Asks, and gives the rows of the last answer.
    ///
    /// # Errors
    /// When the server refuses, the connection is lost, nothing comes for `silence`, or somebody wishes to stop.
    pub fn query(
        &mut self,
        sql: &str,
        silence: Option<Duration>,
        cancel: &Cancel,
    ) -> Result<Vec<Row>, PgError> {
        self.send(sql, cancel)?;
        let first = self.hear(&mut None, silence, cancel)?;
        self.answer(first, sql, silence, cancel)
    }

    /// The rest of an answer that begins with this message: the rows of the last one.
    pub(super) fn answer(
        &mut self,
        first: Message,
        asked: &str,
        silence: Option<Duration>,
        cancel: &Cancel,
    ) -> Result<Vec<Row>, PgError> {
        match self.rest(first, silence, cancel)? {
            (rows, None) => Ok(rows),
            (_, Some(cause)) => Err(PgError::Refused {
                doing: format!("ask {}", first_line(asked)),
                cause,
            }),
        }
    }

    /// The same, with the error of the server if it gave one.
    pub(super) fn rest(
        &mut self,
        first: Message,
        silence: Option<Duration>,
        cancel: &Cancel,
    ) -> Result<(Vec<Row>, Option<ServerError>), PgError> {
        let (mut rows, mut failed) = (Vec::new(), None);
        let mut next = first;
        loop {
            let Message { tag, body } = next;
            match tag {
                b'T' => rows.clear(),
                b'D' if rows.len() < ROWS_MAX => rows.push(row(&body)?),
                b'D' => return Err(PgError::Protocol(format!("more than {ROWS_MAX} rows"))),
                b'E' => failed = Some(server_error(&body)),
                b'C' | b'I' => {}
                b'Z' => return Ok((rows, failed)),
                other => return Err(unexpected(other)),
            }
            next = self.hear(&mut failed, silence, cancel)?;
        }
    }

    pub(super) fn send(&mut self, sql: &str, cancel: &Cancel) -> Result<(), PgError> {
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        let sent = self.wire.send(Some(b'Q'), &body);
        sent.map_err(|lost| self.last_words(lost, cancel))
    }

    /// Sends a message that is no question.
    pub(super) fn send_message(&mut self, tag: u8, body: &[u8]) -> Result<(), PgError> {
        self.wire.send(Some(tag), body)
    }

    /// Lets a wait be interrupted more often than usual.
    pub(super) fn poll_every(&mut self, poll: Duration) -> Result<(), PgError> {
        self.wire.poll_every(poll)
    }

    /// The next message of an answer; what it had to say before it was lost is `failed`.
    pub(super) fn hear(
        &mut self,
        failed: &mut Option<ServerError>,
        silence: Option<Duration>,
        cancel: &Cancel,
    ) -> Result<Message, PgError> {
        match self.receive(cancel, silence) {
            Err(lost @ PgError::Lost { .. }) => {
                self.farewell = failed.take().or(self.farewell.take());
                Err(self.last_words(lost, cancel))
            }
            received => received,
        }
    }

    /// Why the connection was lost, in the words of the server if it left some: they can still be read when it is gone.
    fn last_words(&mut self, lost: PgError, cancel: &Cancel) -> PgError {
        while self.farewell.is_none() {
            match self.receive(cancel, Some(LAST_WORDS_TIMEOUT)) {
                Ok(Message { tag: b'E', body }) => self.farewell = Some(server_error(&body)),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        match self.farewell.take() {
            None => lost,
            Some(cause) => PgError::Refused {
                doing: "hear from the server".to_owned(),
                cause,
            },
        }
    }

    /// The next message that is no news of the server.
    fn receive(&mut self, cancel: &Cancel, silence: Option<Duration>) -> Result<Message, PgError> {
        loop {
            let message = self.wire.receive(cancel, silence)?;
            match message.tag {
                b'N' => {
                    let notice = server_error(&message.body);
                    if notice.code.starts_with(ENDING) {
                        self.farewell = Some(notice);
                    } else if self.notices.len() < NOTICES_MAX {
                        self.notices.push(notice.message);
                    }
                }
                b'S' | b'A' => {}
                _ => return Ok(message),
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A server that is told does not log a lost connection; one that can't be told finds out.
        let _ = self.wire.send(Some(b'X'), &[]);
    }
}

/// A version as a number, such as 150018 for `15.18`.
fn version_of(text: &str) -> Option<u32> {
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    let major: u32 = parts.next()?.parse().ok()?;
    let minor: u32 = parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    major.checked_mul(10_000)?.checked_add(minor)
}

/// The columns of a row.
pub(super) fn row(body: &[u8]) -> Result<Row, PgError> {
    let torn = || PgError::Protocol("half a row".into());
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or_else(torn)?;
    let mut row = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, behind) = rest.split_first_chunk::<4>().ok_or_else(torn)?;
        rest = behind;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            row.push(None);
            continue;
        };
        let (value, behind) = rest.split_at_checked(length).ok_or_else(torn)?;
        rest = behind;
        row.push(Some(String::from_utf8_lossy(value).into_owned()));
    }
    Ok(row)
}

pub(super) fn unexpected(tag: u8) -> PgError {
    PgError::Protocol(format!("message {:?} in an answer", char::from(tag)))
}

fn first_line(sql: &str) -> &str {
    sql.trim().lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_number_if_it_can_be_one() {
        for (text, version) in [
            ("15.18 (Debian 15.18-0+deb12u1)", Some(150_018)),
            ("19beta1", Some(190_000)),
            ("19devel", Some(190_000)),
            ("devel", None),
            ("429497", None),
            ("429496.7296", None),
            ("4294967295.1", None),
        ] {
            assert_eq!(version_of(text), version, "{text}");
        }
    }
}

//! The replication protocol of a server: who it is, what its slots keep, and its log as it writes it.
//! It must never report a position as kept by itself: whoever stores the log says so.

use std::time::{Duration, SystemTime};

use lifeboat_flow::Cancel;

use super::client::{Address, Connection, Copied, CopyBoth, PgError, Row, Session};
use super::facts::ANSWER_TIMEOUT;
use super::lsn::{Lsn, Timeline};
use super::quote::{quoted_name, quoted_text};
use super::wal_name::{SegmentBytes, WalName};

/// The first version that tells of a slot over the replication protocol (PostgreSQL 15).
const READS_SLOTS: u32 = 150_000;
/// From 1970 to 2000, from where the protocol counts its microseconds, in seconds.
const EPOCH_SECONDS: u64 = 946_684_800;
/// Bytes before the log in a message that brings some: kind, position, end of the log, time.
const LOG_HEAD_BYTES: usize = 25;

/// A session of the replication protocol (PostgreSQL manual, "Streaming Replication Protocol").
pub struct Replication {
    connection: Connection,
    address: Address,
}

/// Who a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The number that tells its cluster from all others.
    pub system_id: u64,
    /// The timeline that it is on.
    pub timeline: Timeline,
    /// How far its log goes, on its own disk.
    pub end: Lsn,
}

/// What is known of a replication slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotFacts {
    /// From where on it keeps the log; `None` if it never did, or does no more.
    pub kept_from: Option<Lsn>,
}

/// The log of a server, from a position on.
pub struct LogStream<'a> {
    copy: CopyBoth<'a>,
}

/// What came of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Streamed {
    /// Some of the log.
    Log {
        /// The position of its first byte.
        at: Lsn,
        /// How far the log of the server goes.
        end: Lsn,
        /// The log.
        bytes: Vec<u8>,
    },
    /// A sign of life.
    Alive {
        /// How far the log of the server goes.
        end: Lsn,
        /// Whether the server wants to hear how far the log is kept, at once.
        wants_answer: bool,
    },
    /// Nothing for a while.
    Nothing,
    /// The timeline ends here.
    Ended,
}

impl Replication {
    /// Connects.
    ///
    /// # Errors
    /// When nobody answers, or the server does not want us.
    pub fn open(address: &Address, cancel: &Cancel) -> Result<Self, PgError> {
        Ok(Self {
            connection: Connection::open(address, Session::Replication, cancel)?,
            address: address.clone(),
        })
    }

    /// Asks who the server is.
    ///
    /// # Errors
    /// When it can't be asked, or answers in no known form.
    pub fn identify(&mut self, cancel: &Cancel) -> Result<Identity, PgError> {
        identify(&mut self.connection, cancel)
    }

    /// Asks for the size of segments.
    ///
    /// # Errors
    /// When it can't be asked, or answers in no known form.
    pub fn segment_bytes(&mut self, cancel: &Cancel) -> Result<SegmentBytes, PgError> {
        let rows = self.ask("SHOW wal_segment_size", cancel)?;
        let text = cell(&rows).unwrap_or_default();
        size_of(text).ok_or_else(|| untold("the size of segments"))
    }

    /// Asks what a slot keeps; `None` if there is no such slot.
    ///
    /// # Errors
    /// When it can't be asked, or answers in no known form.
    pub fn slot(&mut self, name: &str, cancel: &Cancel) -> Result<Option<SlotFacts>, PgError> {
        let rows = match self.connection.version() {
            Some(version) if version >= READS_SLOTS => {
                let command = format!("READ_REPLICATION_SLOT {}", quoted_name(name));
                self.ask(&command, cancel)?
            }
            _ => self.slot_by_query(name, cancel)?,
        };
        let Some([Some(_), kept_from, ..]) = rows.first().map(Vec::as_slice) else {
            return Ok(None);
        };
        let kept_from = kept_from.as_ref().map(|text| text.parse());
        let kept_from = kept_from
            .transpose()
            .map_err(|_| untold("what the slot keeps"))?;
        Ok(Some(SlotFacts { kept_from }))
    }

    /// As servers before 15 tell it: in a view, which takes a session of the other kind.
    fn slot_by_query(&self, name: &str, cancel: &Cancel) -> Result<Vec<Row>, PgError> {
        let mut queries = Connection::open(&self.address, Session::Queries, cancel)?;
        let name = quoted_text(name);
        let sql = format!(
            "select slot_type, restart_lsn from pg_catalog.pg_replication_slots where slot_name = {name}"
        );
        queries.query(&sql, Some(ANSWER_TIMEOUT), cancel)
    }

    /// Makes a slot that keeps the log from now on.
    ///
    /// # Errors
    /// When the server refuses, as with code 42710 if there is one.
    pub fn create_slot(&mut self, name: &str, cancel: &Cancel) -> Result<(), PgError> {
        let command = format!(
            "CREATE_REPLICATION_SLOT {} PHYSICAL RESERVE_WAL",
            quoted_name(name)
        );
        self.ask(&command, cancel).map(drop)
    }

    /// Removes a slot; the server keeps nothing for it any more.
    ///
    /// # Errors
    /// When the server refuses, as with code 42704 if there is none, and 55006 if somebody uses it.
    pub fn drop_slot(&mut self, name: &str, cancel: &Cancel) -> Result<(), PgError> {
        let command = format!("DROP_REPLICATION_SLOT {}", quoted_name(name));
        self.ask(&command, cancel).map(drop)
    }

    /// The history of a timeline, as the file of its name has it.
    ///
    /// # Errors
    /// When the server does not have it, or answers in no known form.
    pub fn history(&mut self, timeline: Timeline, cancel: &Cancel) -> Result<Vec<u8>, PgError> {
        let rows = self.ask(&format!("TIMELINE_HISTORY {timeline}"), cancel)?;
        let name = WalName::History(timeline).to_string();
        match rows.into_iter().next().as_deref() {
            Some([Some(file), Some(content)]) if *file == name => Ok(content.as_bytes().to_vec()),
            _ => Err(untold("the history of the timeline")),
        }
    }

    /// Begins to stream the log of a timeline, with a slot that keeps what was not reported as kept.
    ///
    /// # Errors
    /// When the server refuses. Log that it has no more is refused later, with code 58P01.
    pub fn stream(
        &mut self,
        slot: &str,
        timeline: Timeline,
        at: Lsn,
        cancel: &Cancel,
    ) -> Result<LogStream<'_>, PgError> {
        let command = format!(
            "START_REPLICATION SLOT {} PHYSICAL {at} TIMELINE {timeline}",
            quoted_name(slot)
        );
        let copy = self
            .connection
            .copy_both(&command, ANSWER_TIMEOUT, cancel)?;
        Ok(LogStream { copy })
    }

    fn ask(&mut self, command: &str, cancel: &Cancel) -> Result<Vec<Row>, PgError> {
        self.connection.query(command, Some(ANSWER_TIMEOUT), cancel)
    }
}

impl LogStream<'_> {
    /// What comes next, within `patience`.
    ///
    /// # Errors
    /// When the server breaks off, the connection is lost, or somebody wishes to stop.
    pub fn next(&mut self, patience: Duration, cancel: &Cancel) -> Result<Streamed, PgError> {
        match self.copy.next(patience, cancel)? {
            Copied::Data(message) => Streamed::parse(message).ok_or_else(|| untold("its log")),
            Copied::Nothing => Ok(Streamed::Nothing),
            Copied::Ended => Ok(Streamed::Ended),
        }
    }

    /// Tells the server how far the log came, and how far it is kept. With `wants_answer` it gives a sign of life.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn report(&mut self, came: Lsn, kept: Lsn, wants_answer: bool) -> Result<(), PgError> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or_default().as_micros();
        let since = now.saturating_sub(u128::from(EPOCH_SECONDS) * 1_000_000);
        let mut message = vec![b'r'];
        // Nothing is ever replayed here.
        for position in [came.0, kept.0, 0] {
            message.extend(position.to_be_bytes());
        }
        message.extend(u64::try_from(since).unwrap_or_default().to_be_bytes());
        message.push(u8::from(wants_answer));
        self.copy.send(&message)
    }

    /// Ends the stream of a timeline that has [ended](Streamed::Ended): the timeline that follows it, and where that began.
    ///
    /// # Errors
    /// When the server does not tell.
    pub fn finish(self, cancel: &Cancel) -> Result<(Timeline, Lsn), PgError> {
        let rows = self.copy.finish(ANSWER_TIMEOUT, cancel)?;
        let next = match rows.first().map(Vec::as_slice) {
            Some([Some(timeline), Some(at), ..]) => timeline.parse().ok().zip(at.parse().ok()),
            _ => None,
        };
        let (timeline, at) = next.ok_or_else(|| untold("the timeline that comes next"))?;
        Ok((Timeline(timeline), at))
    }
}

/// Asks who the server of a session of the replication protocol is.
///
/// # Errors
/// When it can't be asked, or answers in no known form.
pub fn identify(connection: &mut Connection, cancel: &Cancel) -> Result<Identity, PgError> {
    let rows = connection.query("IDENTIFY_SYSTEM", Some(ANSWER_TIMEOUT), cancel)?;
    let identity = match rows.first().map(Vec::as_slice) {
        Some([Some(system_id), Some(timeline), Some(end), ..]) => {
            identity_of(system_id, timeline, end)
        }
        _ => None,
    };
    identity.ok_or_else(|| untold("who it is"))
}

impl Streamed {
    /// What a message says that a server sends while it streams (PostgreSQL manual, "Streaming Replication Protocol");
    /// `None` if it is none that is known, or is cut off.
    #[must_use]
    pub fn parse(mut message: Vec<u8>) -> Option<Self> {
        match message.first()? {
            b'w' if message.len() >= LOG_HEAD_BYTES => {
                let (at, end) = (number_at(&message, 1)?, number_at(&message, 9)?);
                Some(Self::Log {
                    at: Lsn(at),
                    end: Lsn(end),
                    bytes: message.split_off(LOG_HEAD_BYTES),
                })
            }
            b'k' => Some(Self::Alive {
                end: Lsn(number_at(&message, 1)?),
                wants_answer: *message.get(17)? != 0,
            }),
            _ => None,
        }
    }
}

/// A number of eight bytes in the byte order of networks.
fn number_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn identity_of(system_id: &str, timeline: &str, end: &str) -> Option<Identity> {
    Some(Identity {
        system_id: system_id.parse().ok()?,
        timeline: Timeline(timeline.parse().ok()?),
        end: end.parse().ok()?,
    })
}

/// A size as a server shows it: `16MB`.
fn size_of(text: &str) -> Option<SegmentBytes> {
    let (number, shift) = match (text.strip_suffix("MB"), text.strip_suffix("GB")) {
        (Some(number), _) => (number, 20),
        (_, Some(number)) => (number, 30),
        _ => return None,
    };
    let number: u32 = number.parse().ok()?;
    SegmentBytes::new(u64::from(number) << shift)
}

fn cell(rows: &[Row]) -> Option<&str> {
    rows.first()?.first()?.as_deref()
}

fn untold(what: &str) -> PgError {
    PgError::Protocol(format!("something else when it was asked for {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_are_cut_off_are_refused() {
        let mut log = vec![b'w'];
        for number in [0x500_0000_u64, 0x500_0100, 7] {
            log.extend(number.to_be_bytes());
        }
        assert_eq!(
            Streamed::parse([&log[..], b"abc"].concat()),
            Some(Streamed::Log {
                at: Lsn(0x500_0000),
                end: Lsn(0x500_0100),
                bytes: b"abc".to_vec()
            })
        );
        let mut alive = log[..17].to_vec();
        alive[0] = b'k';
        assert_eq!(Streamed::parse(alive.clone()), None);
        alive.push(1);
        assert_eq!(
            Streamed::parse(alive),
            Some(Streamed::Alive {
                end: Lsn(0x500_0000),
                wants_answer: true
            })
        );
        for wrong in [&[][..], b"x", &log[..24]] {
            assert_eq!(Streamed::parse(wrong.to_vec()), None, "{wrong:?}");
        }
    }

    #[test]
    fn sizes_are_read_as_servers_show_them() {
        for (text, mib) in [("1MB", 1), ("16MB", 16), ("1GB", 1024)] {
            assert_eq!(size_of(text).map(|size| size.get() >> 20), Some(mib));
        }
        for wrong in ["", "16", "16kB", "-1MB", "3MB", "4294967296MB"] {
            assert_eq!(size_of(wrong), None, "{wrong}");
        }
    }
}

//! Streams the log of a server into its archive while it is written, within seconds instead of whole segments.
//! It must never tell the server that log is kept before that is durable in the repository.

mod course;
mod session;
mod storer;

use std::time::Duration;

use lifeboat_flow::{Cancel, Cancelled, chain};
use lifeboat_repo::Repository;
use lifeboat_state::postgres::client::{Address, PgError};
use lifeboat_state::postgres::{Lsn, OpenSegmentError, Timeline, WalName};

use super::archive::ArchiveError;
use session::Session;

/// The first wait before a server is asked again that was lost; each is twice as long as the one before.
const RECONNECT_FIRST: Duration = Duration::from_secs(1);
/// The longest.
const RECONNECT_MAX: Duration = Duration::from_secs(30);
/// Codes that pass by themselves (PostgreSQL manual, "PostgreSQL Error Codes"): lost connections, a server that starts or
/// stops, one that is full, and a slot that our lost connection still holds.
const PASSING: [&str; 4] = ["08", "53", "57P0", "55006"];

/// A stream of the log into the archive of its cluster.
pub struct LogReceiver<'a> {
    /// Where the archive is.
    pub repository: &'a Repository,
    /// The server: a primary or a standby.
    pub address: &'a Address,
    /// The physical replication slot by which the server keeps what is not stored yet.
    pub slot: &'a str,
    /// Whether a slot that is not there is made.
    pub creates_slot: bool,
    /// Whether it goes on behind log that the server has no more.
    pub skips_lost: bool,
    /// How long what came may wait until it is stored.
    pub interval: Duration,
    /// Where to end, when all before it is durable.
    pub until: Option<Lsn>,
    /// Hears what happens.
    pub events: &'a dyn Fn(StreamEvent),
    /// The wish to stop: what has come is stored then.
    pub stop: &'a Cancel,
}

/// What happens while the log is streamed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// The slot was made.
    SlotCreated,
    /// The stream begins.
    Started {
        /// The cluster.
        system_id: u64,
        /// The timeline.
        timeline: Timeline,
        /// The position.
        at: Lsn,
    },
    /// More of the log is durable.
    Kept {
        /// The timeline.
        timeline: Timeline,
        /// Up to where.
        position: Lsn,
        /// How much of the server's log that leaves out, in bytes.
        behind_bytes: u64,
    },
    /// A whole segment, or a history, is in the archive.
    Archived {
        /// Its name.
        name: WalName,
        /// Whether it was not there before.
        is_new: bool,
    },
    /// The server left its timeline.
    Left {
        /// The one that ended.
        timeline: Timeline,
        /// The one that follows.
        next: Timeline,
        /// Where that began.
        at: Lsn,
    },
    /// Log that the server has no more is left out.
    Skipped {
        /// Its beginning.
        from: Lsn,
        /// Where the stream goes on.
        to: Lsn,
    },
    /// Pieces that are not needed any more stay, since they can't be removed.
    PiecesStay {
        /// Why.
        why: String,
    },
    /// The server was lost.
    Reconnecting {
        /// Why.
        why: String,
        /// How long is waited until it is asked again.
        wait: Duration,
    },
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// Somebody wished to stop.
    Stopped,
    /// Everything before the wanted end is durable.
    Reached,
}

/// The log could not be streamed.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The server refused or was lost.
    #[error("stream the log")]
    Server(#[from] PgError),
    /// There is no such slot.
    #[error("the server has no replication slot {0}")]
    NoSlot(String),
    /// The server has removed log that was not archived.
    #[error("the log from {from} to {to} is lost for the archive: the server has removed it")]
    Removed {
        /// Its beginning.
        from: Lsn,
        /// What the server surely has again, or had last.
        to: Lsn,
        /// The words of the server.
        #[source]
        cause: PgError,
    },
    /// What came does not belong there.
    #[error(transparent)]
    Segment(#[from] OpenSegmentError),
    /// It can't be stored.
    #[error("archive the stream of the log")]
    Archive(#[from] ArchiveError),
    /// The log of a cluster has an end.
    #[error("there is no segment after {0}")]
    LastSegment(WalName),
    /// What stores the log ended, and did not say why.
    #[error("the thread that stores the log has ended")]
    Storer,
}

impl LogReceiver<'_> {
    /// Streams until somebody wishes to stop or the wanted end is durable. A server that is lost is asked again, as long as
    /// it takes; one that can't be reached at the beginning is an error.
    ///
    /// # Errors
    /// When the server has no such slot or has removed what is needed, when another server archives here, or when the
    /// repository does not take what came.
    pub fn run(&self) -> Result<StreamEnd, StreamError> {
        let (mut wait, mut has_streamed) = (RECONNECT_FIRST, false);
        loop {
            let mut session = Session::new(self);
            let ended = session.run();
            if session.has_streamed {
                (wait, has_streamed) = (RECONNECT_FIRST, true);
            }
            match ended {
                Err(StreamError::Server(PgError::Cancelled(_))) => return Ok(StreamEnd::Stopped),
                // It waited for the repository, and nothing had come yet.
                Err(StreamError::Archive(error))
                    if !session.has_streamed && Cancelled::is_cause_of(&error) =>
                {
                    return Ok(StreamEnd::Stopped);
                }
                Err(StreamError::Server(error)) if has_streamed && passes(&error) => {
                    let why = chain(&error);
                    (self.events)(StreamEvent::Reconnecting { why, wait });
                    if self.stop.sleep(wait).is_err() {
                        return Ok(StreamEnd::Stopped);
                    }
                    wait = (wait * 2).min(RECONNECT_MAX);
                }
                ended => return ended,
            }
        }
    }
}

/// Whether it may go by itself.
fn passes(error: &PgError) -> bool {
    match error {
        PgError::Connect { .. } | PgError::Lost { .. } | PgError::Silent(_) => true,
        PgError::Refused { cause, .. } => PASSING
            .iter()
            .any(|passing| cause.code.starts_with(passing)),
        _ => false,
    }
}

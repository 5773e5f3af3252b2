//! A copy in both directions at once, as a server streams its log while it is told how far that was kept.
//! It must never take the end of a connection for the end of what is copied: only the server says that.

use std::io;
use std::time::Duration;

use lifeboat_flow::Cancel;

use super::connection::{Connection, Row, unexpected};
use super::error::PgError;
use super::wire::{lost, server_error};

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copied {
    /// A piece of what is copied.
    Data(Vec<u8>),
    /// Nothing for a while.
    Nothing,
    /// The server has copied all that there is.
    Ended,
}

/// A copy that goes on (PostgreSQL manual, "COPY Operations": copy-both mode). The session is good for nothing else until
/// [`finish`](Self::finish).
pub struct CopyBoth<'a> {
    connection: &'a mut Connection,
    command: String,
    /// What came instead of a copy, where there was nothing to copy.
    rows: Option<Vec<Row>>,
}

impl Connection {
    /// Begins a copy by a command of the replication protocol.
    ///
    /// # Errors
    /// When the server refuses, the connection is lost, nothing comes for `silence`, or somebody wishes to stop.
    pub fn copy_both(
        &mut self,
        command: &str,
        silence: Duration,
        cancel: &Cancel,
    ) -> Result<CopyBoth<'_>, PgError> {
        self.send(command, cancel)?;
        let first = self.hear(&mut None, Some(silence), cancel)?;
        let rows = match first.tag {
            b'W' => None,
            _ => Some(self.answer(first, command, Some(silence), cancel)?),
        };
        Ok(CopyBoth {
            connection: self,
            command: command.to_owned(),
            rows,
        })
    }
}

impl CopyBoth<'_> {
    /// What comes next, within `patience`.
    ///
    /// # Errors
    /// When the server breaks off, the connection is lost, or somebody wishes to stop.
    pub fn next(&mut self, patience: Duration, cancel: &Cancel) -> Result<Copied, PgError> {
        if self.rows.is_some() {
            return Ok(Copied::Ended);
        }
        self.connection.poll_every(patience)?;
        let heard = self.connection.hear(&mut None, Some(patience), cancel);
        let message = match heard {
            Err(PgError::Silent(_)) => return Ok(Copied::Nothing),
            heard => heard?,
        };
        match message.tag {
            b'd' => Ok(Copied::Data(message.body)),
            b'c' => Ok(Copied::Ended),
            b'E' => Err(PgError::Refused {
                doing: format!("go on with {}", self.command),
                cause: server_error(&message.body),
            }),
            // A server that shuts down ends the command, and then the connection.
            b'C' => Err(lost("hear from the server")(
                io::ErrorKind::UnexpectedEof.into(),
            )),
            other => Err(unexpected(other)),
        }
    }

    /// Sends something to the server.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn send(&mut self, data: &[u8]) -> Result<(), PgError> {
        self.connection.send_message(b'd', data)
    }

    /// Ends a copy that the server has [ended](Copied::Ended), and gives what it says then.
    ///
    /// # Errors
    /// When the server refuses, the connection is lost, nothing comes for `silence`, or somebody wishes to stop.
    pub fn finish(self, silence: Duration, cancel: &Cancel) -> Result<Vec<Row>, PgError> {
        if let Some(rows) = self.rows {
            return Ok(rows);
        }
        self.connection.send_message(b'c', &[])?;
        let first = self.connection.hear(&mut None, Some(silence), cancel)?;
        self.connection
            .answer(first, &self.command, Some(silence), cancel)
    }
}

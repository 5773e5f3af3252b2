//! What a server copies out: the rows that come before, the data piece by piece, and the rows and the error that may follow.
//! It must never hold more than one piece, nor hide an error that comes after the last one.

use lifeboat_flow::Cancel;

use super::connection::{Connection, Row, row, unexpected};
use super::error::{PgError, ServerError};
use super::wire::{Message, server_error};

/// Rows of one answer at most: tablespaces, positions.
const ROWS_MAX: usize = 100_000;
/// Answers before the data at most.
const ANSWERS_MAX: usize = 16;

/// What follows the data.
#[derive(Clone, Debug, Default)]
pub struct CopyEnd {
    /// The rows of the last answer.
    pub rows: Vec<Row>,
    /// What the server found wrong when all was said.
    pub failed: Option<ServerError>,
}

impl Connection {
    /// Sends a command that copies out, and gives the rows of each answer that comes before the data. For as long as the
    /// server thinks: a checkpoint may come first.
    ///
    /// # Errors
    /// When the server refuses, the connection is lost, or somebody wishes to stop.
    pub fn copy_out(&mut self, command: &str, cancel: &Cancel) -> Result<Vec<Vec<Row>>, PgError> {
        self.send(command, cancel)?;
        let mut answers: Vec<Vec<Row>> = Vec::new();
        loop {
            let Message { tag, body } = self.hear(&mut None, None, cancel)?;
            match tag {
                b'T' if answers.len() < ANSWERS_MAX => answers.push(Vec::new()),
                b'D' => match answers.last_mut() {
                    Some(rows) if rows.len() < ROWS_MAX => rows.push(row(&body)?),
                    _ => return Err(PgError::Protocol("rows that nobody asked for".into())),
                },
                b'C' => {}
                b'H' => return Ok(answers),
                b'E' => return Err(self.refused(&body, cancel)),
                other => return Err(unexpected(other)),
            }
        }
    }

    /// The next piece; `None` after the last.
    ///
    /// # Errors
    /// When the server ends it with an error, the connection is lost, or somebody wishes to stop.
    pub fn copied(&mut self, cancel: &Cancel) -> Result<Option<Vec<u8>>, PgError> {
        let Message { tag, body } = self.hear(&mut None, None, cancel)?;
        match tag {
            b'd' => Ok(Some(body)),
            b'c' => Ok(None),
            b'E' => Err(self.refused(&body, cancel)),
            other => Err(unexpected(other)),
        }
    }

    /// What comes after the last piece.
    ///
    /// # Errors
    /// When the connection is lost, or somebody wishes to stop. An error of the server is a part of the answer.
    pub fn copy_end(&mut self, cancel: &Cancel) -> Result<CopyEnd, PgError> {
        let first = self.hear(&mut None, None, cancel)?;
        let (rows, failed) = self.rest(first, None, cancel)?;
        Ok(CopyEnd { rows, failed })
    }

    /// The error that ends a copy; what the server still says is let go of.
    fn refused(&mut self, body: &[u8], cancel: &Cancel) -> PgError {
        let cause = server_error(body);
        // A server that stops altogether says nothing more.
        while let Ok(message) = self.hear(&mut None, None, cancel) {
            if message.tag == b'Z' {
                break;
            }
        }
        PgError::Refused {
            doing: "copy out of the server".into(),
            cause,
        }
    }
}

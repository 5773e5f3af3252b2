//! The body of an answer that another thread receives: a reader that allows a few pieces in advance.
//! It must never take a body that broke off for one that ended.

use std::io::{self, Read};

use hyper::body::Bytes;
use tokio::sync::mpsc;

/// A piece, nothing at the end, or why no more came.
pub(super) type Piece = Result<Option<Bytes>, String>;

/// How many pieces are received before they are read.
pub(super) const PIECES_AHEAD: usize = 8;

/// Reads a body.
pub(super) struct Download {
    pieces: crossbeam_channel::Receiver<Piece>,
    credits: mpsc::UnboundedSender<()>,
    piece: Bytes,
    has_ended: bool,
}

impl Download {
    /// A reader, which allows the first pieces at once.
    pub(super) fn new(
        pieces: crossbeam_channel::Receiver<Piece>,
        credits: mpsc::UnboundedSender<()>,
    ) -> Self {
        for _ in 0..PIECES_AHEAD {
            // If the other end is gone, reading says so.
            let _ = credits.send(());
        }
        Self {
            pieces,
            credits,
            piece: Bytes::new(),
            has_ended: false,
        }
    }
}

impl Read for Download {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        while self.piece.is_empty() {
            if self.has_ended {
                return Ok(0);
            }
            match self.pieces.recv() {
                Ok(Ok(Some(piece))) => {
                    self.piece = piece;
                    let _ = self.credits.send(());
                }
                Ok(Ok(None)) => self.has_ended = true,
                Ok(Err(why)) => return Err(io::Error::other(why)),
                Err(_) => return Err(io::Error::other("the connection was closed")),
            }
        }
        let part = self.piece.split_to(self.piece.len().min(buf.len()));
        let (to, _) = buf.split_at_mut(part.len());
        to.copy_from_slice(&part);
        Ok(part.len())
    }
}

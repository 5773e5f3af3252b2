//! The body of a request that is sent from another thread: it asks for a piece when the peer has room for it.
//! It must never hold more than one piece, so that an upload costs no second copy of a pack.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::mpsc;

use super::stdio::{Event, Progress};

/// What is handed out at once, in bytes.
const PIECE_BYTES: usize = 128 << 10;

/// The end that the connection reads.
pub(super) struct Upload {
    left_bytes: u64,
    events: crossbeam_channel::Sender<Event>,
    pieces: mpsc::UnboundedReceiver<Bytes>,
    is_wanted: bool,
    progress: Progress,
}

/// The end that who has the body writes to.
pub(super) struct Uploader {
    pieces: mpsc::UnboundedSender<Bytes>,
    /// Which piece of the body comes next, and from where on.
    next: (usize, usize),
}

impl Upload {
    /// Both ends of a body of so many bytes.
    pub(super) fn new(
        length_bytes: u64,
        events: crossbeam_channel::Sender<Event>,
        progress: Progress,
    ) -> (Self, Uploader) {
        let (sender, pieces) = mpsc::unbounded_channel();
        let upload = Self {
            left_bytes: length_bytes,
            events,
            pieces,
            is_wanted: false,
            progress,
        };
        let uploader = Uploader {
            pieces: sender,
            next: (0, 0),
        };
        (upload, uploader)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left_bytes == 0 {
            return Poll::Ready(None);
        }
        if !self.is_wanted {
            self.is_wanted = true;
            // If nobody listens, nothing will come, and the receiver says so.
            let _ = self.events.send(Event::Wanted);
        }
        self.pieces.poll_recv(context).map(|piece| {
            self.is_wanted = false;
            let piece = piece?;
            let length_bytes = piece.len() as u64;
            self.left_bytes = self.left_bytes.saturating_sub(length_bytes);
            self.progress.add(length_bytes);
            Some(Ok(Frame::data(piece)))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left_bytes == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left_bytes)
    }
}

impl Uploader {
    /// Hands out what comes next.
    pub(super) fn hand_out(&mut self, body: &[&[u8]]) {
        while let Some(piece) = body.get(self.next.0) {
            let rest = piece.get(self.next.1..).unwrap_or_default();
            if rest.is_empty() {
                self.next = (self.next.0 + 1, 0);
                continue;
            }
            let part = rest.get(..PIECE_BYTES).unwrap_or(rest);
            self.next.1 += part.len();
            // If the connection is gone, the answer says so.
            let _ = self.pieces.send(Bytes::copy_from_slice(part));
            return;
        }
    }
}

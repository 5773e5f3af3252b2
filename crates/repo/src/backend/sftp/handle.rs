//! An open file or folder of a server: read and written with many requests in flight.
//! It must never be left open, and never take a short answer for the end of a file.

use std::collections::VecDeque;

use super::failure::SftpError;
use super::packet::{self, Answer, Attributes, Name, Request, Status};
use super::session::{Pieces, Session, Ticket};

/// An open file or folder; it is closed when dropped.
pub(super) struct Handle<'a> {
    session: &'a Session,
    bytes: Vec<u8>,
    is_open: bool,
}

impl<'a> Handle<'a> {
    /// Waits until it is open.
    pub(super) fn of(opening: Ticket<'a>) -> Result<Self, SftpError> {
        let session = opening.session();
        match opening.wait()? {
            Answer::Handle(bytes) => Ok(Self {
                session,
                bytes,
                is_open: true,
            }),
            _ => Err(SftpError::odd("no handle of what was opened")),
        }
    }

    fn request(&self, kind: u8) -> Request {
        Request::new(kind).bytes(&self.bytes)
    }

    /// Asks what is known of it.
    pub(super) fn stat(&self) -> Ticket<'a> {
        self.session.send(self.request(packet::FSTAT))
    }

    /// Asks for its permissions to be set.
    pub(super) fn restrict(&self, permissions: u32) -> Ticket<'a> {
        let request = self.request(packet::FSETSTAT).permissions(permissions);
        self.session.send(request)
    }

    /// Asks for it to be on the disk; `None` if the server has no such operation.
    pub(super) fn sync(&self) -> Option<Ticket<'a>> {
        let has = self.session.extensions().fsync;
        has.then(|| {
            let request = Request::extended(packet::FSYNC).bytes(&self.bytes);
            self.session.send(request)
        })
    }

    /// Asks for it to be closed; what was asked before is done before.
    pub(super) fn close(mut self) -> Ticket<'a> {
        self.is_open = false;
        self.session.send(self.request(packet::CLOSE))
    }

    /// Reads from an offset on until `buf` is full or the file ends, and returns how many bytes that were.
    pub(super) fn read(&self, offset_bytes: u64, buf: &mut [u8]) -> Result<usize, SftpError> {
        let piece_bytes = self.session.pieces().read_bytes;
        let window = Pieces::window(piece_bytes);
        let mut under_way = VecDeque::new();
        let mut asked = 0;
        loop {
            while under_way.len() < window && asked < buf.len() {
                let length = piece_bytes.min(buf.len() - asked);
                under_way.push_back(self.ask(offset_bytes, asked, length));
                asked += length;
            }
            let Some((ticket, from, length)) = under_way.pop_front() else {
                return Ok(buf.len());
            };
            let answer = match ticket.wait() {
                Err(SftpError::Status(status)) if status.code == Status::END => return Ok(from),
                answer => answer?,
            };
            let Answer::Data(data) = answer else {
                return Err(SftpError::odd("no content of what was read"));
            };
            let data = data.bytes();
            let place = buf.get_mut(from..from + length).unwrap_or_default();
            let Some(place) = place.get_mut(..data.len()).filter(|_| !data.is_empty()) else {
                return Err(SftpError::odd("more or less content than was asked for"));
            };
            place.copy_from_slice(data);
            if data.len() < length {
                let (from, length) = (from + data.len(), length - data.len());
                under_way.push_front(self.ask(offset_bytes, from, length));
            }
        }
    }

    fn ask(&self, offset_bytes: u64, from: usize, length: usize) -> (Ticket<'a>, usize, usize) {
        let request = self
            .request(packet::READ)
            .u64(offset_bytes.saturating_add(from as u64))
            .u32(u32::try_from(length).unwrap_or(u32::MAX));
        (self.session.send(request), from, length)
    }

    /// Writes pieces one after the other from the beginning on, and returns what is still to be confirmed.
    pub(super) fn write(&self, data: &[&[u8]]) -> Result<VecDeque<Ticket<'a>>, SftpError> {
        let piece_bytes = self.session.pieces().write_bytes;
        let window = Pieces::window(piece_bytes);
        let mut under_way = VecDeque::new();
        let mut offset_bytes = 0;
        let mut rest = Rest(data, 0);
        loop {
            let mut pieces = Vec::new();
            let length = rest.take(piece_bytes, &mut pieces);
            if length == 0 {
                return Ok(under_way);
            }
            let request = self
                .request(packet::WRITE)
                .u64(offset_bytes)
                .pieces(&pieces);
            under_way.push_back(self.session.send(request));
            offset_bytes += length as u64;
            if under_way.len() >= window
                && let Some(ticket) = under_way.pop_front()
            {
                ticket.done()?;
            }
        }
    }

    /// Asks for more of what the folder holds.
    pub(super) fn next_names(&self) -> Ticket<'a> {
        self.session.send(self.request(packet::READDIR))
    }
}

impl Drop for Handle<'_> {
    fn drop(&mut self) {
        if self.is_open {
            // Nothing was written through it that would not be waited for.
            let _ = self.session.send(self.request(packet::CLOSE));
        }
    }
}

/// What is left of data in pieces, and how much of the first piece is done.
struct Rest<'a>(&'a [&'a [u8]], usize);

impl<'a> Rest<'a> {
    /// Takes the next bytes, at most so many, and returns how many they are.
    fn take(&mut self, limit_bytes: usize, pieces: &mut Vec<&'a [u8]>) -> usize {
        let mut taken = 0;
        while let Some((first, rest)) = self.0.split_first() {
            let left = first.get(self.1..).unwrap_or_default();
            let length = left.len().min(limit_bytes - taken);
            pieces.extend(left.get(..length).filter(|piece| !piece.is_empty()));
            taken += length;
            if length < left.len() {
                self.1 += length;
                break;
            }
            (self.0, self.1) = (rest, 0);
        }
        taken
    }
}

/// Waits for what is known of a file.
pub(super) fn attributes(asked: Ticket<'_>) -> Result<Attributes, SftpError> {
    match asked.wait()? {
        Answer::Attributes(attributes) => Ok(attributes),
        _ => Err(SftpError::odd("no attributes of what was looked at")),
    }
}

/// Waits for a piece of a listing; `None` is its end.
pub(super) fn names(asked: Ticket<'_>) -> Result<Option<Vec<Name>>, SftpError> {
    match asked.wait() {
        Ok(Answer::Names(names)) => Ok(Some(names)),
        Ok(_) => Err(SftpError::odd("no names in a listing")),
        Err(SftpError::Status(status)) if status.code == Status::END => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_anew() {
        let data: &[&[u8]] = &[b"", b"abc", b"", b"d", b"efghij", b""];
        for limit in 1..12 {
            let mut rest = Rest(data, 0);
            let mut joined = Vec::new();
            loop {
                let mut pieces = Vec::new();
                let taken = rest.take(limit, &mut pieces);
                let length: usize = pieces.iter().map(|piece| piece.len()).sum();
                assert_eq!(taken, length);
                assert!(taken == limit || joined.len() + taken == 10, "{limit}");
                if taken == 0 {
                    break;
                }
                joined.extend(pieces.concat());
            }
            assert_eq!(joined, b"abcdefghij");
        }
    }
}

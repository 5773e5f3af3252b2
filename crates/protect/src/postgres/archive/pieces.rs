//! The pieces of a segment that was not whole yet when it was stored, put together to its beginning.
//! It must never give a beginning that is shorter than what was acknowledged, nor one with a hole in it.

use lifeboat_state::postgres::{
    self, Piece, SegmentBytes, SegmentName, WalHeader, WalHeaderError, WalName, beginning,
};

use super::{Archive, ArchiveError, Fetched, PARTS_LOOKS_MAX};

/// What there is of a segment that is not there whole.
pub(super) enum Parts {
    /// Nothing.
    Nothing,
    /// Its beginning.
    Beginning(Vec<u8>),
    /// Its beginning, and this piece, before which something is missing.
    Hole { log: Vec<u8>, before: Piece },
    /// It changed while it was read.
    Changed,
}

impl Archive<'_> {
    /// Removes a piece; one that is not there is fine. Something that covers it must be durable.
    ///
    /// # Errors
    /// When it is still there afterwards.
    pub fn remove(&self, piece: Piece) -> Result<(), ArchiveError> {
        let name = self.log_name(WalName::Piece(piece))?;
        let removed = self.repository.log().remove(&name);
        removed.map_err(|cause| self.failed(cause))
    }

    /// The beginning of a segment, as far as it is there without a hole.
    ///
    /// # Errors
    /// When it can't be read, or is another one each time.
    pub fn beginning(&self, segment: SegmentName) -> Result<Vec<u8>, ArchiveError> {
        for _ in 0..PARTS_LOOKS_MAX {
            match self.parts(segment, &self.log_names()?)? {
                Parts::Nothing => return Ok(Vec::new()),
                Parts::Beginning(log) | Parts::Hole { log, .. } => return Ok(log),
                Parts::Changed => {}
            }
        }
        let name = WalName::Segment(segment);
        Err(ArchiveError::Changing { name })
    }

    /// What there is of a segment, going by all names of the log.
    pub(super) fn parts(
        &self,
        segment: SegmentName,
        names: &[WalName],
    ) -> Result<Parts, ArchiveError> {
        let pieces = pieces_of(segment, names);
        let chosen = beginning(&pieces);
        let reached = chosen.last().map_or(0, |last| last.to_bytes);
        let mut log = Vec::new();
        for piece in chosen {
            let name = WalName::Piece(piece);
            let Some(content) = self.read_log(name)? else {
                return Ok(Parts::Changed);
            };
            if !piece.join(&mut log, &content) {
                return Err(ArchiveError::Piece { name });
            }
        }
        // A listing is no moment: one that began before several pieces were joined, and came to them when they were gone,
        // shows neither them nor what they became. Another one that shows the same began after that.
        if is_changed(segment, names, &self.log_names()?) {
            return Ok(Parts::Changed);
        }
        let behind = pieces.iter().find(|piece| piece.to_bytes > reached);
        Ok(match behind {
            Some(before) => Parts::Hole {
                log,
                before: *before,
            },
            None if log.is_empty() => Parts::Nothing,
            None => Parts::Beginning(log),
        })
    }

    /// Whether a piece that begins a segment is of this cluster.
    pub(super) fn check_beginning(
        &self,
        piece: Piece,
        content: &[u8],
    ) -> Result<(), WalHeaderError> {
        if piece.from_bytes > 0 {
            return Ok(());
        }
        let header = WalHeader::parse(content)?;
        header.check(piece.segment, self.system_id, header.segment_bytes.get())
    }
}

/// The beginning of a segment as a server takes it: of its whole length.
pub(super) fn filled(
    name: WalName,
    log: Vec<u8>,
    size: SegmentBytes,
) -> Result<Fetched, ArchiveError> {
    let log_bytes = log.len();
    let content = postgres::filled(log, size).ok_or(ArchiveError::Piece { name })?;
    Ok(Fetched::Beginning { content, log_bytes })
}

fn pieces_of(segment: SegmentName, names: &[WalName]) -> Vec<Piece> {
    let pieces = names.iter().filter_map(|name| match name {
        WalName::Piece(piece) if piece.segment == segment => Some(*piece),
        _ => None,
    });
    pieces.collect()
}

fn is_changed(segment: SegmentName, before: &[WalName], after: &[WalName]) -> bool {
    let is_whole = |names: &[WalName]| names.contains(&WalName::Segment(segment));
    is_whole(before) != is_whole(after) || pieces_of(segment, before) != pieces_of(segment, after)
}

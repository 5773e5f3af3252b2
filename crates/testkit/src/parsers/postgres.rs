//! The parsers of what a server of PostgreSQL sends and of how its log is named, each with what must hold.
//! They must never take an answer for right because it came: another reader, or plain words, say what it is to be.

use lifeboat_state::postgres::{
    BLOCK_BYTES, Lsn, PIECES_MAX, Piece, SegmentBytes, SegmentName, Streamed, Timeline,
    UstarHeader, UstarKind, WalName, beginning, filled, next_piece,
};
use tar::{EntryType, Header};

use super::survives;

/// A header of an archive: as it came, and with the sum that makes somebody believe it.
pub(super) fn ustar(bytes: &[u8]) {
    let mut block = [0; BLOCK_BYTES];
    for (to, from) in block.iter_mut().zip(bytes) {
        *to = *from;
    }
    one_header(&block);
    sum(&mut block);
    one_header(&block);
}

/// Makes the checksum of a header right.
pub(super) fn sum(block: &mut [u8; BLOCK_BYTES]) {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

fn one_header(block: &[u8; BLOCK_BYTES]) {
    let Ok(found) = UstarHeader::parse(block) else {
        return;
    };
    let Some(found) = found else {
        assert_eq!(block, &[0; BLOCK_BYTES], "only zeros end an archive");
        return;
    };
    is_below(&found.path.0);
    assert!(!found.path.0.contains(&0) && found.path.0.len() <= 256);
    assert!(found.permissions <= 0o7777);
    // What another reader can make of it at all is the same.
    let other = Header::from_byte_slice(block);
    if let Some(size) = size_of(found.kind) {
        same(other.size().ok(), size);
        let filled = size + UstarHeader::padding(size);
        assert!(filled.is_multiple_of(BLOCK_BYTES as u64) && filled - size < BLOCK_BYTES as u64);
    }
    match found.kind {
        UstarKind::File { .. } => assert_eq!(other.entry_type(), EntryType::Regular),
        UstarKind::Dir => assert_eq!(other.entry_type(), EntryType::Directory),
        UstarKind::Link => assert_eq!(other.entry_type(), EntryType::Symlink),
    }
    same(
        other.mode().ok().map(|mode| mode & 0o7777),
        found.permissions,
    );
    same(other.uid().ok(), u64::from(found.uid));
    same(other.gid().ok(), u64::from(found.gid));
    same(
        other.mtime().ok().and_then(|time| i64::try_from(time).ok()),
        found.modified_seconds,
    );
    if let Some(other) = other.as_ustar() {
        let path = other.path_bytes();
        let path = path.strip_prefix(b"./").unwrap_or(&path);
        let path = path.strip_suffix(b"/").unwrap_or(path);
        assert_eq!(path, found.path.0);
    }
}

fn size_of(kind: UstarKind) -> Option<u64> {
    match kind {
        UstarKind::File { size_bytes } => Some(size_bytes),
        UstarKind::Dir | UstarKind::Link => None,
    }
}

fn same<T: PartialEq + std::fmt::Debug>(other: Option<T>, found: T) {
    if let Some(other) = other {
        assert_eq!(other, found);
    }
}

/// Nothing leads out of where it belongs.
pub(super) fn is_below(path: &[u8]) {
    for name in path.split(|byte| *byte == b'/') {
        assert!(
            !matches!(name, b"" | b"." | b".."),
            "{}",
            path.escape_ascii()
        );
    }
}

/// A name in an archive of the log. There is one way to write it.
pub(super) fn wal_name(bytes: &[u8]) {
    survives::<WalName>(bytes, |first, second| {
        assert_eq!(first, second);
        assert_eq!(first.to_string().as_bytes(), bytes, "the only way");
    });
    let Some(name) = std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse::<WalName>().ok())
    else {
        return;
    };
    let segment = match name {
        WalName::History(_) => return,
        WalName::Segment(segment) | WalName::Partial(segment) | WalName::Backup(segment, _) => {
            segment
        }
        WalName::Piece(piece) => {
            assert!(piece.bytes() > 0 && piece.to_bytes <= 1 << 30);
            assert!(piece.covers(piece));
            piece.segment
        }
    };
    assert_eq!(name.timeline(), segment.timeline);
    for shift in 20..=30 {
        let size = SegmentBytes::new(1 << shift).expect("a size that servers have");
        let Some(start) = segment.start(size) else {
            assert_eq!(segment.next(size), None);
            continue;
        };
        let within = Lsn(start.0 + (size.get() - 1));
        for position in [start, within] {
            assert_eq!(
                SegmentName::holding(segment.timeline, position, size),
                segment
            );
        }
        match segment.next(size) {
            None => assert_eq!(within, Lsn(u64::MAX)),
            Some(next) => assert_eq!(next.start(size), Some(Lsn(within.0 + 1))),
        }
    }
}

/// The offset of the numbers here, which are small, so that pieces meet.
fn offset(bytes: [u8; 2]) -> u32 {
    u32::from(u16::from_le_bytes(bytes)) % 1024
}

/// Pieces of a segment: what of them is its beginning, how they are joined, and how a stream goes on storing them.
pub(super) fn wal_pieces(bytes: &[u8]) {
    let segment = SegmentName::holding(Timeline(1), Lsn(0), SegmentBytes::DEFAULT);
    let numbers = bytes.chunks_exact(4).take(32);
    let pieces: Vec<Piece> = numbers
        .map(|four| (offset([four[0], four[1]]), offset([four[2], four[3]])))
        .filter(|(from_bytes, to_bytes)| from_bytes < to_bytes)
        .map(|(from_bytes, to_bytes)| Piece {
            segment,
            from_bytes,
            to_bytes,
        })
        .collect();
    let chosen = beginning(&pieces);
    // In plain words: a byte is in it if it and all before it are in some piece.
    let mut reached = 0;
    while pieces
        .iter()
        .any(|piece| (piece.from_bytes..piece.to_bytes).contains(&reached))
    {
        reached += 1;
    }
    assert_eq!(chosen.last().map_or(0, |last| last.to_bytes), reached);
    assert!(chosen.iter().all(|piece| pieces.contains(piece)));
    let content = |piece: &Piece| -> Vec<u8> {
        (piece.from_bytes..piece.to_bytes)
            .map(|at| at as u8 ^ (at >> 8) as u8)
            .collect()
    };
    let mut log = Vec::new();
    for piece in &chosen {
        assert!(piece.join(&mut log, &content(piece)));
        // Others add nothing to it, or what comes next, and never a hole.
        for other in &pieces {
            let mut tried = log.clone();
            let joined = other.join(&mut tried, &content(other));
            assert_eq!(joined, other.from_bytes as usize <= log.len());
            let length = match joined {
                true => log.len().max(other.to_bytes as usize),
                false => log.len(),
            };
            assert_eq!(tried.len(), length);
            let mut wrong = content(other);
            wrong[0] ^= 1;
            assert!(!other.join(&mut tried, &wrong), "something else is there");
            wrong.pop();
            assert!(!other.join(&mut log.clone(), &wrong), "it is cut off");
        }
    }
    let whole = Piece {
        segment,
        from_bytes: 0,
        to_bytes: reached,
    };
    assert_eq!(log, content(&whole));
    let size = SegmentBytes::new(1 << 20).expect("a size that servers have");
    let full = filled(log.clone(), size).expect("it is not longer");
    assert_eq!(full.len() as u64, size.get());
    // The rest is a megabyte of the same: its beginning and its end will do.
    let (kept, zeros) = full.split_at(log.len());
    assert!(kept == log && zeros.first() == Some(&0) && zeros.last() == Some(&0));
    stored_as_it_comes(segment, bytes);
}

/// A stream that stores a segment bit by bit, each so much longer than before.
fn stored_as_it_comes(segment: SegmentName, bytes: &[u8]) {
    let (mut stored, mut at): (Vec<Piece>, u32) = (Vec::new(), 0);
    for step in bytes.iter().take(256) {
        at += 1 + (u32::from(*step) << (step % 13));
        let next = next_piece(segment, &stored, at);
        assert_eq!(next.piece.to_bytes, at);
        for gone in &next.replaced {
            assert!(stored.contains(gone) && next.piece.covers(*gone));
        }
        stored.push(next.piece);
        // When it is durable and nothing was removed yet, and when all was.
        assert_eq!(
            beginning(&stored).last().map(|last| last.to_bytes),
            Some(at)
        );
        stored.retain(|piece| !next.replaced.contains(piece));
        assert_eq!(beginning(&stored), stored);
        assert!(stored.len() <= PIECES_MAX);
    }
}

/// A message of a server that streams its log.
pub(super) fn streamed(message: &[u8]) {
    let number = |at: usize| {
        let bytes = message.get(at..at + 8)?;
        Some(Lsn(u64::from_be_bytes(bytes.try_into().ok()?)))
    };
    let expected = match message.first() {
        Some(b'w') if message.len() >= 25 => number(1).zip(number(9)).map(|(at, end)| {
            let bytes = message[25..].to_vec();
            Streamed::Log { at, end, bytes }
        }),
        Some(b'k') if message.len() >= 18 => number(1).map(|end| Streamed::Alive {
            end,
            wants_answer: message[17] != 0,
        }),
        _ => None,
    };
    assert_eq!(Streamed::parse(message.to_vec()), expected);
}

//! Every parser of bytes that others wrote, and the hot loops over them, each with what must hold whatever the bytes are.
//! Fuzzing calls these, and so does the replay of what fuzzing found. They must never ask only that nothing panics: what is read must survive.

mod postgres;
mod records;
mod server;

use std::fmt::{Debug, Display};
use std::str::FromStr;

use jiff::tz::TimeZone;
use lifeboat_format::{
    BlobKind, CompressionMode, Compressor, Config, Decompressor, FormatError, Id, IndexFile,
    KeyFile, Lock, MasterKey, PackEntry, Snapshot, Timestamp, Tree, decode_header, decode_unpacked,
    encode_header, quote, unquote,
};
use lifeboat_kernels::{
    Kernel, RabinTable, Sha256Stream, WINDOW_BYTES, sha256_beside_with, sha256_each_with,
};
use lifeboat_plan::{
    CalendarSpan, Case, KeepCount, PackSubset, Pattern, PatternSet, SnapshotPath, TagList,
    clean_path, parse_go_duration, parse_pattern_lines, parse_size, parse_time,
};

/// A parser with what must hold for it. It panics if that does not hold.
pub type Target = fn(&[u8]);

/// All of them, by the names of their corpora.
pub const TARGETS: &[(&str, Target)] = &[
    ("config", config),
    ("key_file", key_file),
    ("master_key", master_key),
    ("lock", lock),
    ("snapshot", snapshot),
    ("index_file", index_file),
    ("tree", tree),
    ("pack_header", pack_header),
    ("unpacked", unpacked),
    ("blob", blob),
    ("timestamp", timestamp),
    ("quoted", quoted),
    ("id", id),
    ("pattern", pattern),
    ("pattern_lines", pattern_lines),
    ("options", options),
    ("kernels", kernels),
    ("ustar", postgres::ustar),
    ("wal_name", postgres::wal_name),
    ("wal_pieces", postgres::wal_pieces),
    ("streamed", postgres::streamed),
    ("capture_record", records::capture),
    ("recovery_point", records::recovery_point),
    ("server", server::server),
];

/// Calls one by its name.
///
/// # Panics
/// When there is none of the name, or what must hold does not.
pub fn run(name: &str, data: &[u8]) {
    match TARGETS.iter().find(|(known, _)| *known == name) {
        Some((_, target)) => target(data),
        None => panic!("there is no parser {name:?}"),
    }
}

/// Plaintext that decompressing may give here, in bytes.
const PLAIN_MAX_BYTES: usize = 1024 * 1024;

/// What was read must be written so that it is read again, and then written the same.
fn stable<T, E: Debug>(
    json: &[u8],
    read: impl Fn(&[u8]) -> Result<T, E>,
    write: impl Fn(&T) -> Vec<u8>,
) -> Option<(T, T)> {
    let first = read(json).ok()?;
    let written = write(&first);
    let second = match read(&written) {
        Ok(second) => second,
        Err(error) => panic!(
            "{error:?} in what was written: {}",
            String::from_utf8_lossy(&written)
        ),
    };
    assert_eq!(
        String::from_utf8_lossy(&write(&second)),
        String::from_utf8_lossy(&written)
    );
    Some((first, second))
}

fn config(json: &[u8]) {
    if let Some((first, second)) = stable(json, Config::from_json, Config::to_json) {
        assert_eq!(first, second);
        assert!((Config::VERSION_MIN..=Config::VERSION_MAX).contains(&first.version));
    }
}

fn key_file(json: &[u8]) {
    if let Some((first, second)) = stable(json, KeyFile::from_json, KeyFile::to_json) {
        assert_eq!(
            (first.username, first.hostname, first.params),
            (second.username, second.hostname, second.params)
        );
        assert_eq!((first.salt, first.data), (second.salt, second.data));
    }
}

fn master_key(json: &[u8]) {
    if let Some((first, second)) = stable(json, MasterKey::from_json, MasterKey::to_json) {
        let mut sealed = vec![0; lifeboat_format::NONCE_BYTES];
        sealed.extend_from_slice(b"the same keys");
        assert!(first.seal(&[1; 16], &mut sealed).is_ok());
        assert!(
            second
                .open(&mut sealed)
                .is_ok_and(|plain| plain == b"the same keys")
        );
    }
}

fn lock(json: &[u8]) {
    if let Some((first, second)) = stable(json, Lock::from_json, Lock::to_json) {
        assert_eq!(first, second);
    }
}

fn snapshot(json: &[u8]) {
    if let Some((first, second)) = stable(json, Snapshot::from_json, Snapshot::to_json) {
        assert_eq!((&first.tree, &first.paths), (&second.tree, &second.paths));
        assert_eq!((first.parent, first.tags), (second.parent, second.tags));
        assert_eq!(first.time.confined(), second.time);
    }
}

fn index_file(json: &[u8]) {
    // The usual form has a faster way, which must not read anything else.
    match (
        IndexFile::from_json(json),
        IndexFile::from_general_json(json),
    ) {
        (Ok(read), Ok(general)) => assert_eq!(format!("{read:?}"), format!("{general:?}")),
        (Ok(_), Err(error)) => panic!("read what is no JSON of an index: {error}"),
        // Impossible places are refused after either.
        (Err(_), _) => {}
    }
    if let Some((first, second)) = stable(json, IndexFile::from_json, IndexFile::to_json) {
        assert_eq!(format!("{first:?}"), format!("{second:?}"));
    }
}

fn tree(json: &[u8]) {
    let Ok(first) = Tree::from_json(json) else {
        return;
    };
    let Ok(written) = first.to_json() else {
        assert!(first.check_order().is_err());
        return;
    };
    let again = Tree::from_json(&written);
    let again = again.unwrap_or_else(|error| {
        panic!("{error:?} in {}", String::from_utf8_lossy(&written));
    });
    assert_eq!(again.to_json().ok().as_ref(), Some(&written));
    for (node, same) in first.nodes.iter().zip(&again.nodes) {
        assert_eq!((&node.name, &node.kind), (&same.name, &same.kind));
        assert_eq!(
            (&node.content, &node.subtree),
            (&same.content, &same.subtree)
        );
        assert_eq!(node.link_target, same.link_target);
        assert_eq!((&node.xattrs, &node.generic), (&same.xattrs, &same.generic));
        assert!(again.find(&node.name) == Some(same));
    }
}

fn pack_header(plain: &[u8]) {
    // What the format says, in its plainest words.
    let mut rest = plain;
    let mut entries = Vec::new();
    let mut sum = 0u64;
    let is_whole = loop {
        let Some(tag) = rest.first().copied() else {
            break true;
        };
        let length = if tag < 2 { 37 } else { 41 };
        let (true, Some(entry)) = (tag < 4, rest.get(..length)) else {
            break false;
        };
        let number = |at: usize| {
            u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
        };
        let mut id = [0; 32];
        id.copy_from_slice(&entry[length - 32..]);
        entries.push(PackEntry {
            kind: if tag % 2 == 0 {
                BlobKind::Data
            } else {
                BlobKind::Tree
            },
            id: Id(id),
            length_bytes: number(1),
            raw_length_bytes: if tag < 2 { 0 } else { number(5) },
        });
        if number(1) < 32 || sum > u64::from(u32::MAX) {
            break false;
        }
        sum += u64::from(number(1));
        rest = &rest[length..];
    };
    let pack = Id::of(plain);
    match decode_header(plain, pack, sum) {
        Err(_) => assert!(!is_whole, "a header that is whole is refused"),
        Ok(blobs) => {
            assert!(is_whole, "a header that is not whole is taken");
            assert_eq!(blobs.len(), entries.len());
            let written = encode_header(&entries);
            let again = decode_header(&written, pack, sum);
            assert!(again.is_ok_and(|again| again == blobs));
            assert!(decode_header(plain, pack, sum + 1).is_err());
        }
    }
}

fn unpacked(plain: &[u8]) {
    let within_limit = match plain.split_first() {
        Some((2, compressed)) => {
            let got = Decompressor::default().up_to(compressed, PLAIN_MAX_BYTES, "test");
            // More than the limit is refused here and would be taken by the real limit, which costs memory.
            if matches!(got, Err(FormatError::Limit { .. })) {
                return;
            }
            got.ok()
        }
        Some((b'{' | b'[', _)) => Some(plain.to_vec()),
        _ => None,
    };
    if let Some(got) = &within_limit {
        assert!(got.len() <= PLAIN_MAX_BYTES.max(plain.len()));
    }
    assert_eq!(decode_unpacked(plain.to_vec(), "test").ok(), within_limit);
}

fn blob(input: &[u8]) {
    let Some((size, compressed)) = input.split_first_chunk::<3>() else {
        return;
    };
    let raw_bytes = u32::from_le_bytes([size[0], size[1], size[2], 0]) as usize % PLAIN_MAX_BYTES;
    let mut out = Vec::new();
    let mut decompressor = Decompressor::default();
    if decompressor
        .exactly(compressed, raw_bytes, &mut out)
        .is_err()
    {
        assert!(
            out.capacity() <= PLAIN_MAX_BYTES,
            "memory is bounded by what was asked for"
        );
        return;
    }
    assert_eq!(out.len(), raw_bytes);
    let mut again = Vec::new();
    let packed = Compressor::new(CompressionMode::Fastest)
        .and_then(|mut compressor| compressor.append(&out, &mut again));
    assert!(packed.is_ok());
    let mut back = Vec::new();
    assert!(decompressor.exactly(&again, raw_bytes, &mut back).is_ok());
    assert!(back == out);
}

fn timestamp(bytes: &[u8]) {
    survives::<Timestamp>(bytes, |first, second| {
        assert_eq!(first, second);
        assert_eq!(first.offset_seconds, second.offset_seconds);
        assert!(first.nanoseconds < 1_000_000_000);
    });
}

fn id(bytes: &[u8]) {
    survives::<Id>(bytes, |first, second| assert_eq!(first, second));
}

fn quoted(bytes: &[u8]) {
    // Any name can be written and read.
    let mut text = String::new();
    quote(bytes, &mut text);
    assert!(unquote(&text).is_ok_and(|name| name == bytes), "{text}");
    assert!(text.len() <= bytes.len() * 10);
    // And what can be read at all is a name that can be written.
    if let Some(name) = std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| unquote(text).ok())
    {
        let mut text = String::new();
        quote(&name, &mut text);
        assert!(unquote(&text).is_ok_and(|same| same == name), "{text}");
        assert!(name.len() <= bytes.len());
    }
}

fn pattern(input: &[u8]) {
    // The path comes behind the first line break.
    let at = input
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(input.len());
    let (text, path) = input.split_at(at);
    let path = path.get(1..).unwrap_or_default();
    // Backtracking is bounded by the lengths, and both come from the user, not from a repository.
    if text.len() > 200 || path.len() > 2000 {
        return;
    }
    for case in [Case::Sensitive, Case::Insensitive] {
        let Ok(pattern) = Pattern::parse(text, case) else {
            continue;
        };
        assert_eq!(pattern.text(), text);
        assert_eq!(pattern.is_negated(), text.starts_with(b"!"));
        let set = PatternSet::new(vec![pattern.clone()]);
        let decided = set.decide(path);
        assert_eq!(
            decided,
            set.decide(path),
            "the same question has the same answer"
        );
        assert!(
            !(pattern.is_negated() && decided.matched),
            "taking back matches nothing"
        );
        let is_plain = text.starts_with(b"/")
            && text.len() > 1
            && !text.iter().any(|byte| b"*?[]\\".contains(byte))
            && clean_path(text) == text;
        if is_plain && std::str::from_utf8(text).is_ok() {
            assert!(
                set.decide(text).matched,
                "a path without wildcards matches itself"
            );
            let mut below = text.to_vec();
            below.extend_from_slice(b"/x");
            assert!(set.decide(&below).matched, "and what is below it");
        }
    }
}

fn pattern_lines(text: &[u8]) {
    let variables = |name: &[u8]| (name == b"HOME").then(|| b"/root".to_vec());
    let Ok(patterns) = parse_pattern_lines(text, "file", Case::Sensitive, &variables) else {
        return;
    };
    assert!(patterns.len() <= text.len());
    for pattern in patterns {
        let again = Pattern::parse(pattern.text(), Case::Sensitive);
        assert!(again.is_ok_and(|again| again.text() == pattern.text()));
    }
}

/// The texts of options: sizes, spans, times, counts, names. Each takes the same text and sees whether it is its own.
fn options(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(size) = parse_size(text) {
        assert_eq!(parse_size(&size.to_string()), Ok(size));
        assert!(i64::try_from(size).is_ok());
    }
    if let Ok(duration) = parse_go_duration(text) {
        let again = parse_go_duration(&format!("{}ns", duration.as_nanos()));
        assert_eq!(again.ok(), Some(duration));
    }
    let now = Timestamp::utc(1_700_000_000, 5);
    if let Ok(time) = parse_time(text, now, &TimeZone::UTC) {
        let again = parse_time(&time.to_string(), now, &TimeZone::UTC);
        assert_eq!(again.ok(), Some(time), "{text:?} is {time}");
    }
    survives::<CalendarSpan>(bytes, |first, second| assert_eq!(first, second));
    survives::<KeepCount>(bytes, |first, second| assert_eq!(first, second));
    assert_eq!(
        text.parse::<TagList>(),
        text.parse::<TagList>()
            .and_then(|tags| tags.0.join(",").parse())
    );
    if let Ok(subset) = text.parse::<PackSubset>() {
        let packs: Vec<(Id, u64)> = (0..20u8).map(|n| (Id::of(&[n]), 100)).collect();
        let chosen = subset.choose(&packs, 7);
        assert!(chosen.len() <= packs.len());
        assert_eq!(chosen, subset.choose(&packs, 7));
    }
    if let Ok(path) = SnapshotPath::parse(bytes) {
        let again = SnapshotPath::parse(path.name.to_string().as_bytes());
        assert_eq!(again.ok().map(|again| again.name), Some(path.name));
    }
}

/// Boundaries and hashes are the same by every kernel.
fn kernels(bytes: &[u8]) {
    /// Enough for every stream of the widest kernel.
    const LENGTH_BYTES: usize = 40_000;
    let Some((head, content)) = bytes.split_first_chunk::<10>() else {
        return;
    };
    let [bits, offset, low @ ..] = *head;
    let mask = (1 << (4 + bits % 17)) - 1;
    let polynomial = (u64::from_le_bytes(low) & ((1 << 53) - 1)) | 1 << 53;
    let Some(table) = RabinTable::new(polynomial) else {
        panic!("{polynomial:#x} has degree 53");
    };
    let data: Vec<u8> = content.iter().copied().cycle().take(LENGTH_BYTES).collect();
    let from = WINDOW_BYTES + usize::from(offset);
    let find = |kernel| table.find_with(kernel, &data, from, mask);
    let blobs: Vec<&[u8]> = content.split(|byte| *byte == 0).collect();
    let each = |kernel| sha256_each_with(kernel, &blobs);
    let beside = |kernel| {
        let mut stream = Sha256Stream::default();
        stream.update(head);
        let hash = sha256_beside_with(kernel, &data, &mut stream, content);
        (hash, stream.finish())
    };
    for kernel in Kernel::ALL {
        assert_eq!(find(kernel), find(Kernel::Scalar), "{}", kernel.name());
        assert_eq!(each(kernel), each(Kernel::Scalar), "{}", kernel.name());
        assert_eq!(beside(kernel), beside(Kernel::Scalar), "{}", kernel.name());
    }
}

/// What a text is read as must be shown so that it is read as the same.
fn survives<T: FromStr + Display + Debug>(bytes: &[u8], compare: impl Fn(&T, &T))
where
    T::Err: Debug,
{
    let Some(first) = std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse::<T>().ok())
    else {
        return;
    };
    let shown = first.to_string();
    let second = shown.parse::<T>();
    let second =
        second.unwrap_or_else(|error| panic!("{error:?} in {shown:?}, shown for {first:?}"));
    compare(&first, &second);
    assert_eq!(second.to_string(), shown);
}

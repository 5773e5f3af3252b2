//! An `Id` is the SHA-256 of what it names: a blob, a pack, an index file, a snapshot.
//! It must never be built from anything but a hash or its own hexadecimal form.

use std::fmt;
use std::str::FromStr;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The identifier of an object in a repository: its SHA-256 (restic design document, "Terminology").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Id(pub [u8; Id::BYTES]);

impl Id {
    /// Length of an identifier in bytes.
    pub const BYTES: usize = 32;
    /// Characters shown where a short form is enough, as restic does.
    pub const SHORT_CHARS: usize = 8;

    /// The identifier of these bytes.
    #[must_use]
    pub fn of(data: &[u8]) -> Self {
        Self(lifeboat_kernels::sha256(data))
    }

    /// The identifier of these bytes, while the one of a growing object takes its next piece: both together cost less
    /// than one after the other.
    #[must_use]
    pub fn of_beside(data: &[u8], growing: &mut GrowingId, piece: &[u8]) -> Self {
        Self(lifeboat_kernels::sha256_beside(data, &mut growing.0, piece))
    }

    /// How many objects [`of_each`](Self::of_each) takes at a time: more together are no faster.
    #[must_use]
    pub fn at_once() -> usize {
        lifeboat_kernels::sha256_lanes()
    }

    /// The identifiers of several objects, which together cost less than one after the other.
    #[must_use]
    pub fn of_each(objects: &[&[u8]]) -> Vec<Self> {
        let hashes = lifeboat_kernels::sha256_each(objects);
        hashes.into_iter().map(Self).collect()
    }

    /// The first eight hexadecimal digits, as restic shows them.
    #[must_use]
    pub fn short(&self) -> String {
        let mut hex = self.to_string();
        hex.truncate(Self::SHORT_CHARS);
        hex
    }

    /// Whether all bytes are zero, which no hash is: restic's null ID.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.0 == [0; Self::BYTES]
    }

    /// The hexadecimal form, without an allocation.
    #[must_use]
    pub fn hex(&self) -> [u8; Self::BYTES * 2] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut out = [0u8; Self::BYTES * 2];
        for (pair, byte) in out.chunks_exact_mut(2).zip(self.0) {
            if let [high, low] = pair {
                *high = DIGITS[usize::from(byte >> 4)];
                *low = DIGITS[usize::from(byte & 15)];
            }
        }
        out
    }
}

/// The identifier of an object that is still growing.
#[derive(Clone, Default)]
pub struct GrowingId(lifeboat_kernels::Sha256Stream);

impl GrowingId {
    /// Takes the next piece of the object.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The identifier of all pieces.
    #[must_use]
    pub fn finish(self) -> Id {
        Id(self.0.finish())
    }
}

/// A text is no identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an ID: expected 64 hexadecimal digits")]
pub struct IdParseError(String);

impl FromStr for Id {
    type Err = IdParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_hex(text.as_bytes())
            .map(Self)
            .ok_or_else(|| IdParseError(text.chars().take(80).collect()))
    }
}

fn parse_hex(text: &[u8]) -> Option<[u8; Id::BYTES]> {
    parse_hex_digits(text.try_into().ok()?)
}

/// The bytes that hexadecimal digits stand for.
pub(crate) fn parse_hex_digits(digits: &[u8; Id::BYTES * 2]) -> Option<[u8; Id::BYTES]> {
    let mut out = [0u8; Id::BYTES];
    // All are looked up before any is judged: millions of IDs are read when an index is loaded.
    let mut seen = 0;
    for (byte, pair) in out.iter_mut().zip(digits.as_chunks::<2>().0) {
        let [high, low] = pair.map(|digit| HEX_VALUES[usize::from(digit)]);
        seen |= high | low;
        *byte = high << 4 | (low & 15);
    }
    (seen != NO_DIGIT).then_some(out)
}

/// What [`HEX_VALUES`] has for what is no digit: no value has all these bits, nor have several together.
const NO_DIGIT: u8 = 0xff;

/// The value of each hexadecimal digit.
const HEX_VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        let digit = b"0123456789abcdef"[value];
        values[digit as usize] = value as u8;
        values[digit.to_ascii_uppercase() as usize] = value as u8;
        value += 1;
    }
    values
};

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Hex;
        impl Visitor<'_> for Hex {
            type Value = Id;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("64 hexadecimal digits")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Id, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Hex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_hash_gives_the_same() {
        let objects: Vec<Vec<u8>> = (0..50u8).map(|n| vec![n; usize::from(n) * 37]).collect();
        let views: Vec<&[u8]> = objects.iter().map(Vec::as_slice).collect();
        let expected: Vec<Id> = views.iter().map(|object| Id::of(object)).collect();
        assert_eq!(Id::of_each(&views), expected);
        let mut growing = GrowingId::default();
        for (object, id) in views.iter().zip(&expected) {
            assert_eq!(Id::of_beside(object, &mut growing, object), *id);
        }
        growing.update(b"end");
        let whole = [views.concat(), b"end".to_vec()].concat();
        assert_eq!(growing.finish(), Id::of(&whole));
    }

    #[test]
    fn hexadecimal_form_survives_a_round_trip() {
        let id = Id::of(b"lifeboat");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.short().len(), Id::SHORT_CHARS);
    }

    #[test]
    fn the_empty_hash_is_the_published_one() {
        assert_eq!(
            Id::of(b"").to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        for text in ["", "e3", &"g".repeat(64), &"a".repeat(63), &"é".repeat(32)] {
            assert!(text.parse::<Id>().is_err(), "{text}");
        }
    }
}

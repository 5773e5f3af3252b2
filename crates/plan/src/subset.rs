//! Which packs `check --read-data-subset` reads.
//! It must never choose by chance of its own: the seed is passed in, so that a choice can be repeated.

use std::fmt;
use std::str::FromStr;

use lifeboat_format::Id;

use crate::size::parse_size;

/// A part of a repository's packs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PackSubset {
    /// `n/t`: the n-th of t parts, the same packs each time. Reading all parts in turn reads every pack.
    Part {
        /// Which part, from 1.
        part: u32,
        /// How many parts there are, at most [`PackSubset::PARTS_MAX`].
        parts: u32,
    },
    /// `p%`: this share of the packs, above 0 and at most 100, chosen by a seed.
    Percent(f64),
    /// A size such as `10G`: the share of packs that this many bytes are of all bytes, chosen by a seed.
    Bytes(u64),
}

impl PackSubset {
    /// Parts are told apart by the first byte of an ID, so there can't be more.
    pub const PARTS_MAX: u32 = 256;

    /// The packs to read of `packs`, which are IDs and their sizes in bytes, ordered by ID.
    ///
    /// A share that is not whole is rounded down, but at least one pack is read if there is any (restic's
    /// `selectRandomPacksByPercentage`). `Part` does not look at `seed`; the others give the same packs for the
    /// same seed, whatever the order of `packs`.
    #[must_use]
    pub fn choose(&self, packs: &[(Id, u64)], seed: u64) -> Vec<Id> {
        let mut ids: Vec<Id> = packs.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        match *self {
            Self::Part { part, parts } => {
                // Zero parts can't be parsed; built by hand, they hold nothing.
                let part_of = |id: &Id| {
                    id.0.first()
                        .and_then(|first| u32::from(*first).checked_rem(parts))
                };
                ids.retain(|id| part_of(id).is_some_and(|place| place + 1 == part));
                ids
            }
            Self::Percent(percent) => sample(ids, percent, seed),
            Self::Bytes(bytes) => {
                let all: u64 = packs
                    .iter()
                    .fold(0, |all, (_, size)| all.saturating_add(*size));
                let percent = if all == 0 {
                    100.0
                } else {
                    bytes.min(all) as f64 / all as f64 * 100.0
                };
                sample(ids, percent, seed)
            }
        }
    }
}

/// As many of `ids` as the percentage says, each equally likely, in their order.
fn sample(mut ids: Vec<Id>, percent: f64, seed: u64) -> Vec<Id> {
    let wanted = (ids.len() as f64 * (percent / 100.0)) as usize;
    let wanted = wanted.clamp(ids.len().min(1), ids.len());
    let mut state = seed;
    for at in 0..wanted {
        let left = (ids.len() - at) as u64;
        // The remainder favours small numbers by less than one in 2⁴⁰ for any number of packs that exists.
        let step = usize::try_from(split_mix(&mut state) % left).unwrap_or_default();
        ids.swap(at, at + step);
    }
    ids.truncate(wanted);
    ids.sort_unstable();
    ids
}

/// The next number of SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A text names no part of the packs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackSubsetError {
    /// It has none of the three forms.
    #[error(
        "cannot read {0:?} as a part of the packs: write n/t for the n-th of t parts, a percentage such as 2.5%, or a size with a unit such as 10G"
    )]
    Form(String),
    /// The numbers of `n/t` don't fit.
    #[error("cannot read part {0:?} of the packs: n/t needs whole numbers with n from 1 to t and t up to {max}", max = PackSubset::PARTS_MAX)]
    Part(String),
    /// The percentage is out of range.
    #[error("cannot read {0:?} of the packs: a percentage must be above 0 and at most 100")]
    Percent(String),
    /// The size is zero.
    #[error("cannot read {0:?} of the packs: the size must be above 0")]
    Bytes(String),
}

impl FromStr for PackSubset {
    type Err = PackSubsetError;

    /// As restic reads it: a whole number alone is refused, because it could mean a part as well as a size.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shown = || text.chars().take(80).collect::<String>();
        let number = |text: &str| text.parse::<u64>().ok();
        if let Some((part, parts)) = text.split_once('/') {
            let (Some(part), Some(parts)) = (number(part), number(parts)) else {
                return Err(PackSubsetError::Form(shown()));
            };
            let fits = 1 <= part && part <= parts && parts <= u64::from(Self::PARTS_MAX);
            return match (u32::try_from(part), u32::try_from(parts)) {
                (Ok(part), Ok(parts)) if fits => Ok(Self::Part { part, parts }),
                _ => Err(PackSubsetError::Part(shown())),
            };
        }
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent
                .parse()
                .map_err(|_| PackSubsetError::Form(shown()))?;
            // Written so that what is no number is refused.
            return if percent > 0.0 && percent <= 100.0 {
                Ok(Self::Percent(percent))
            } else {
                Err(PackSubsetError::Percent(shown()))
            };
        }
        match parse_size(text) {
            Ok(_) if number(text).is_some() => Err(PackSubsetError::Form(shown())),
            Ok(0) => Err(PackSubsetError::Bytes(shown())),
            Ok(bytes) => Ok(Self::Bytes(bytes)),
            Err(_) => Err(PackSubsetError::Form(shown())),
        }
    }
}

impl fmt::Display for PackSubset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Part { part, parts } => write!(f, "{part}/{parts}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Bytes(bytes) => write!(f, "{bytes}B"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn packs(number: u16) -> Vec<(Id, u64)> {
        (0..number)
            .map(|number| (Id::of(&number.to_le_bytes()), 1000))
            .collect()
    }

    #[test]
    fn the_three_forms_are_told_apart() {
        for (text, expected) in [
            ("1/1", PackSubset::Part { part: 1, parts: 1 }),
            (
                "3/256",
                PackSubset::Part {
                    part: 3,
                    parts: 256,
                },
            ),
            ("5%", PackSubset::Percent(5.0)),
            ("2.5%", PackSubset::Percent(2.5)),
            ("100%", PackSubset::Percent(100.0)),
            ("10G", PackSubset::Bytes(10 << 30)),
            ("10B", PackSubset::Bytes(10)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
            assert_eq!(expected.to_string().parse(), Ok(expected), "{text}");
        }
        let kind = |text: &str| match text.parse::<PackSubset>().unwrap_err() {
            PackSubsetError::Form(_) => "form",
            PackSubsetError::Part(_) => "part",
            PackSubsetError::Percent(_) => "percent",
            PackSubsetError::Bytes(_) => "bytes",
        };
        for text in [
            "", "10", "1/2/3", "a/2", "-1/2", "x%", "%", "1.5G", "1/2%", "/",
        ] {
            assert_eq!(kind(text), "form", "{text}");
        }
        for text in [
            "0/1",
            "1/0",
            "2/1",
            "1/257",
            "18446744073709551615/18446744073709551615",
        ] {
            assert_eq!(kind(text), "part", "{text}");
        }
        for text in ["0%", "-1%", "100.1%", "NaN%", "inf%"] {
            assert_eq!(kind(text), "percent", "{text}");
        }
        assert_eq!(kind("0K"), "bytes");
    }

    #[test]
    fn parts_are_restic_s() {
        let pack = |first: u8| {
            let mut id = Id([7; Id::BYTES]);
            id.0[0] = first;
            (id, 1)
        };
        let packs = [pack(0), pack(1), pack(2), pack(255)];
        let chosen = |part| PackSubset::Part { part, parts: 3 }.choose(&packs, 0);
        assert_eq!(chosen(1), [packs[0].0, packs[3].0]);
        assert_eq!(chosen(2), [packs[1].0]);
        assert_eq!(chosen(3), [packs[2].0]);
        assert_eq!(PackSubset::Part { part: 1, parts: 0 }.choose(&packs, 0), []);
    }

    #[test]
    fn shares_are_rounded_down_but_never_to_nothing() {
        for (number, percent, wanted) in [
            (0, 50.0, 0),
            (1, 0.1, 1),
            (9, 50.0, 4),
            (10, 100.0, 10),
            (200, 99.9, 199),
        ] {
            assert_eq!(
                PackSubset::Percent(percent).choose(&packs(number), 1).len(),
                wanted,
                "{number} {percent}"
            );
        }
        assert_eq!(PackSubset::Bytes(5_500).choose(&packs(10), 1).len(), 5);
        assert_eq!(PackSubset::Bytes(u64::MAX).choose(&packs(10), 1).len(), 10);
        assert_eq!(PackSubset::Bytes(1).choose(&[(Id([1; 32]), 0)], 1).len(), 1);
    }

    #[test]
    fn every_pack_has_the_same_chance() {
        const DRAWS: u64 = 20_000;
        let packs = packs(10);
        let mut drawn = vec![0u64; packs.len()];
        for seed in 0..DRAWS {
            for id in PackSubset::Percent(30.0).choose(&packs, seed) {
                drawn[packs.iter().position(|(pack, _)| *pack == id).unwrap()] += 1;
            }
        }
        let expected = DRAWS * 3 / 10;
        for times in drawn {
            assert!(
                times.abs_diff(expected) < expected / 20,
                "{times} of about {expected}"
            );
        }
    }

    proptest! {
        #[test]
        fn parts_together_are_everything(number in 0u16..300, parts in 1..=PackSubset::PARTS_MAX) {
            let packs = packs(number);
            let mut seen = Vec::new();
            for part in 1..=parts {
                seen.extend(PackSubset::Part { part, parts }.choose(&packs, 0));
            }
            let expected: BTreeSet<Id> = packs.iter().map(|(id, _)| *id).collect();
            prop_assert_eq!(seen.len(), expected.len());
            prop_assert_eq!(seen.into_iter().collect::<BTreeSet<Id>>(), expected);
        }

        #[test]
        fn a_seed_repeats_its_choice(number in 0u16..300, percent in 0.01f64..100.0, seed: u64) {
            let mut packs = packs(number);
            let subset = PackSubset::Percent(percent);
            let chosen = subset.choose(&packs, seed);
            packs.reverse();
            prop_assert_eq!(&subset.choose(&packs, seed), &chosen);
            prop_assert!(chosen.windows(2).all(|pair| pair[0] < pair[1]));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<PackSubset>();
        }
    }
}

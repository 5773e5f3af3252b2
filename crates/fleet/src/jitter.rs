//! By how much a run is shifted, so that not all of a fleet runs at once.
//! It is never random: the same member runs at the same minute each time, on every machine.

use std::str::FromStr;
use std::time::Duration;

use crate::refusal::Refusal;
use crate::schedule::Schedule;
use crate::time_span::TimeSpan;

/// The share of the period that `auto` shifts by at most: a sixth, ten minutes of an hour.
pub const AUTO_PERIOD_SHARE: u32 = 6;
/// The most that `auto` shifts by.
pub const AUTO_MAX: Duration = Duration::from_secs(3_600);
/// [`Jitter`] for editors.
pub(crate) const JITTER_PATTERN: &str = "^(none|auto|([0-9]+[wdhms])+)$";

/// A shift of runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    /// They begin on time.
    None,
    /// By up to a share of the period.
    Auto,
    /// By up to so long.
    UpTo(TimeSpan),
}

impl Jitter {
    /// What a schedule has if nothing is said: words are shifted, times that somebody chose are not.
    #[must_use]
    pub fn of(schedule: &Schedule) -> Self {
        if schedule.is_exact() {
            Self::None
        } else {
            Self::Auto
        }
    }

    /// The shift of what `seed` names, such as fleet, member and copy, in whole seconds and less than `period`.
    #[must_use]
    pub fn offset(self, seed: &str, period: Duration) -> Duration {
        let most = match self {
            Self::None => Duration::ZERO,
            Self::Auto => (period / AUTO_PERIOD_SHARE).min(AUTO_MAX),
            Self::UpTo(most) => most.duration(),
        };
        let most = most.min(period.saturating_sub(Duration::from_secs(1)));
        Duration::from_secs(hash(seed) % (most.as_secs() + 1))
    }
}

/// FNV-1a of 64 bits, and a last step that spreads what differs in the end only (as `SplitMix64` ends).
fn hash(text: &str) -> u64 {
    let fnv = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (fnv ^ (fnv >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl FromStr for Jitter {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        match text {
            "none" => Ok(Self::None),
            "auto" => Ok(Self::Auto),
            text => text.parse().map(Self::UpTo).map_err(|_| {
                let hint = "write `none`, `auto`, or the most that a run is shifted by: `10m`";
                Refusal::unlike(text, "jitter", hint)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn shifts_stay_the_same_and_differ_between_members() {
        let offset = |jitter: &str, seed: &str, period| {
            jitter
                .parse::<Jitter>()
                .unwrap()
                .offset(seed, period)
                .as_secs()
        };
        // Fixed for ever: a new version of this program must not move everybody's backups.
        for jitter in ["auto", "10m"] {
            assert_eq!(offset(jitter, "homelab/memos/db@nas", HOUR), 194);
        }
        assert_eq!(offset("none", "a", HOUR), 0);
        let all: Vec<u64> = (0..1000)
            .map(|member| offset("auto", &format!("homelab/app/{member}"), HOUR))
            .collect();
        assert!(all.iter().all(|seconds| *seconds <= 600));
        for minute in 0..10 {
            let within = all
                .iter()
                .filter(|seconds| **seconds / 60 == minute)
                .count();
            assert!((50..200).contains(&within), "{within} in minute {minute}");
        }
        assert!(offset("auto", "x", 24 * 30 * HOUR) <= 3_600);
        assert!((0..100).all(|seed| offset("2h", &seed.to_string(), HOUR) < 3_600));
        assert!("sometimes".parse::<Jitter>().is_err());
    }
}

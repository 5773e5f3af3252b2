//! The polynomial of a repository's chunker: irreducible over GF(2), of degree 53.
//! It must never be one that factors: then some content would have chunk boundaries far too rarely or too often.

use std::fmt;

use serde::{Deserialize, Deserializer};

/// A polynomial over GF(2); bit `i` is the coefficient of `x^i`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Polynomial(u64);

impl Polynomial {
    /// The degree of every chunker polynomial (restic design document, "Backups and Deduplication").
    pub const DEGREE: u32 = 53;

    /// Random candidates to try: about one in 53 of this degree is irreducible, so failing all has odds below 2⁻¹⁰⁰⁰.
    const CANDIDATES_MAX: usize = 100_000;

    /// Takes a polynomial that is fit for a chunker.
    #[must_use]
    pub fn new(bits: u64) -> Option<Self> {
        let polynomial = Self(bits);
        (bits.checked_ilog2() == Some(Self::DEGREE) && polynomial.is_irreducible())
            .then_some(polynomial)
    }

    /// Draws a polynomial from random numbers.
    #[must_use]
    pub fn draw(mut random: impl FnMut() -> u64) -> Option<Self> {
        // The top bit gives the degree; without the lowest bit x would be a factor.
        let shape = |bits: u64| bits & ((1 << Self::DEGREE) - 1) | 1 << Self::DEGREE | 1;
        (0..Self::CANDIDATES_MAX).find_map(|_| Self::new(shape(random())))
    }

    /// The bits.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Ben-Or's test: no factor of degree `i` if `gcd(f, x^(2^i) - x)` is one, for all `i` up to half the degree.
    fn is_irreducible(self) -> bool {
        let degree = self.0.ilog2();
        let mut power = 2u64;
        for _ in 1..=degree / 2 {
            power = multiply_modulo(power, power, self.0);
            if gcd(self.0, power ^ 2) != 1 {
                return false;
            }
        }
        true
    }
}

fn modulo(mut value: u128, by: u64) -> u64 {
    let degree = by.ilog2();
    while let Some(top) = value.checked_ilog2().filter(|top| *top >= degree) {
        value ^= u128::from(by) << (top - degree);
    }
    value as u64
}

fn multiply_modulo(a: u64, b: u64, by: u64) -> u64 {
    let product = (0..64)
        .filter(|bit| b >> bit & 1 == 1)
        .fold(0u128, |sum, bit| sum ^ u128::from(a) << bit);
    modulo(product, by)
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, modulo(u128::from(a), b));
    }
    a
}

impl fmt::Display for Polynomial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl<'de> Deserialize<'de> for Polynomial {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bits = u64::from_str_radix(&text, 16).ok();
        bits.and_then(Self::new).ok_or_else(|| {
            serde::de::Error::custom(
                "the chunker polynomial is not an irreducible one of degree 53 in hexadecimal",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_polynomials_are_judged_rightly() {
        assert!(
            Polynomial::new(0x003D_A335_8B4D_C173).is_some(),
            "the one in restic's tests"
        );
        assert!(
            Polynomial::new(0x003D_A335_8B4D_C172).is_none(),
            "x divides it"
        );
        assert!(
            Polynomial::new(0x0025_A335_8B4D_C173).is_none()
                || Polynomial::new(0x0025_A335_8B4D_C171).is_none()
        );
        assert!(Polynomial::new(3).is_none(), "degree 1");
        assert!(Polynomial::new(0).is_none());
    }

    #[test]
    fn products_are_never_irreducible() {
        let multiply = |a: u64, b: u64| {
            (0..64)
                .filter(|i| b >> i & 1 == 1)
                .fold(0u64, |s, i| s ^ a << i)
        };
        for a in (1u64 << 26)..(1 << 26) + 50 {
            let b = (1u64 << 27) + a % 97;
            assert!(Polynomial::new(multiply(a, b)).is_none());
        }
    }

    #[test]
    fn one_is_drawn_from_randomness() {
        let mut state = 88_172_645_463_325_252u64;
        let drawn = Polynomial::draw(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        });
        assert!(drawn.is_some());
        assert!(Polynomial::draw(|| 0).is_none() || Polynomial::new(1 << 53 | 1).is_some());
    }
}

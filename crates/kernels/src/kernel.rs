//! Which instructions the hot loops use: what the processor offers, or what was asked for.
//! It must never choose instructions that the processor lacks.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::sound::is_sound;

/// A set of instructions that loops were written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kernel {
    /// What every processor has, and the definition of all others.
    Scalar = 1,
    /// 32 streams by AVX2, and SHA-NI where it is there.
    Avx2 = 2,
    /// 64 streams by AVX-512 with GFNI, and SHA-256 in 16 lanes.
    Avx512 = 3,
    /// 16 streams by NEON.
    Neon = 4,
}

/// The kernel in use, 0 before the first question.
static CHOSEN: AtomicU8 = AtomicU8::new(0);

/// This processor can't run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable;

impl Kernel {
    /// All of them, the best first.
    pub const ALL: [Self; 4] = [Self::Avx512, Self::Avx2, Self::Neon, Self::Scalar];

    /// Its name, as people choose it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
        }
    }

    /// The kernel of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kernel| kernel.name() == name)
    }

    /// Whether this processor can run it.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("gfni")
                    && is_x86_feature_detected!("avx2")
            }
            #[cfg(target_arch = "aarch64")]
            Self::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            _ => false,
        }
    }

    /// This one where this processor can run it, and else the scalar one.
    pub(crate) fn or_scalar(self) -> Self {
        match self.is_available() {
            true => self,
            false => Self::Scalar,
        }
    }

    /// The kernel in use: the best that this processor can run, unless another was chosen. One that does not give what
    /// the definition gives is passed over.
    #[must_use]
    pub fn current() -> Self {
        let chosen = CHOSEN.load(Ordering::Relaxed);
        if let Some(kernel) = Self::ALL.into_iter().find(|kernel| *kernel as u8 == chosen) {
            return kernel;
        }
        let is_fit = |kernel: &Self| kernel.is_available() && is_sound(*kernel);
        let best = Self::ALL.into_iter().find(is_fit);
        let best = best.unwrap_or(Self::Scalar);
        CHOSEN.store(best as u8, Ordering::Relaxed);
        best
    }

    /// Makes this the kernel in use, for tests and support.
    ///
    /// # Errors
    /// [`Unavailable`] if this processor can't run it, or runs it wrongly; then nothing changes.
    pub fn choose(self) -> Result<(), Unavailable> {
        if !self.is_available() || !is_sound(self) {
            return Err(Unavailable);
        }
        CHOSEN.store(self as u8, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_and_scalar_is_everywhere() {
        for kernel in Kernel::ALL {
            assert_eq!(Kernel::of_name(kernel.name()), Some(kernel));
        }
        assert_eq!(Kernel::of_name("mmx"), None);
        assert!(Kernel::Scalar.is_available());
        assert!(Kernel::current().is_available());
    }
}

//! Randomness from the system, and nothing else.
//! It must never fall back to a weaker source: a repeated nonce breaks the encryption.

use lifeboat_format::Nonce;

use crate::RepoError;

/// Random bytes.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], RepoError> {
    let mut out = [0u8; N];
    getrandom::fill(&mut out).map_err(|e| RepoError::Random(e.to_string()))?;
    Ok(out)
}

/// A nonce that was never used: 128 random bits.
pub(crate) fn nonce() -> Result<Nonce, RepoError> {
    bytes()
}

//! AES-256 in counter mode with a Poly1305-AES tag: what encrypts everything in a repository.
//! It must never use a nonce twice (callers pass random ones) and must never show plaintext whose tag does not fit.

use aes::cipher::{BlockCipherEncrypt, KeyInit, KeyIvInit, StreamCipher};
use poly1305::universal_hash::UniversalHash;
use poly1305::{Block, Poly1305};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::FormatError;
use crate::go_json::{base64_bytes, push_base64};

/// Length of a nonce (the initial counter) in bytes.
pub const NONCE_BYTES: usize = 16;
/// Length of a tag in bytes.
pub const TAG_BYTES: usize = 16;
/// What encryption adds to a plaintext, in bytes.
pub const OVERHEAD_BYTES: usize = NONCE_BYTES + TAG_BYTES;

/// A nonce.
pub type Nonce = [u8; NONCE_BYTES];

type Aes256Ctr = ctr::Ctr128BE<aes::Aes256>;

/// The keys of a repository (or those derived from a password), in restic's layout.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MasterKey {
    encrypt: [u8; 32],
    mac_k: [u8; 16],
    mac_r: [u8; 16],
}

/// A nonce that must not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("refusing to encrypt with an all-zero nonce: the source of randomness is broken")]
pub struct SealError;

impl MasterKey {
    /// Length of the key material in bytes.
    pub const BYTES: usize = 64;

    /// From 64 bytes: 32 for AES, 16 for the tag's AES, 16 for `r` (as scrypt gives them, or random).
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let mut key = Self {
            encrypt: [0; 32],
            mac_k: [0; 16],
            mac_r: [0; 16],
        };
        key.encrypt.copy_from_slice(&bytes[..32]);
        key.mac_k.copy_from_slice(&bytes[32..48]);
        key.mac_r.copy_from_slice(&bytes[48..]);
        key
    }

    /// Encrypts in place: `buf` is room for the nonce, then the plaintext; the tag is appended.
    ///
    /// # Errors
    /// When the nonce is all zero.
    pub fn seal(&self, nonce: &Nonce, buf: &mut Vec<u8>) -> Result<(), SealError> {
        self.seal_from(nonce, buf, 0)
    }

    /// Encrypts in place what lies in `buf` from `start` on, and leaves alone what lies before.
    ///
    /// # Errors
    /// When the nonce is all zero, or there is no room for it.
    pub fn seal_from(
        &self,
        nonce: &Nonce,
        buf: &mut Vec<u8>,
        start: usize,
    ) -> Result<(), SealError> {
        let place = buf.get_mut(start..).and_then(<[u8]>::split_first_chunk_mut);
        let Some((head, body)) = place.filter(|_| nonce != &[0; NONCE_BYTES]) else {
            return Err(SealError);
        };
        *head = *nonce;
        Aes256Ctr::new(&self.encrypt.into(), &(*nonce).into()).apply_keystream(body);
        let tag = self.tag(nonce, body);
        buf.extend_from_slice(&tag);
        Ok(())
    }

    /// Decrypts in place and gives the plaintext within `sealed`.
    ///
    /// # Errors
    /// When it is too short or the tag does not fit; `sealed` is unchanged then.
    pub fn open<'a>(&self, sealed: &'a mut [u8]) -> Result<&'a mut [u8], FormatError> {
        let too_short = FormatError::TooShort {
            what: "encrypted data",
            got_bytes: sealed.len() as u64,
            needed_bytes: OVERHEAD_BYTES as u64,
        };
        let Some((head, rest)) = sealed.split_first_chunk_mut::<NONCE_BYTES>() else {
            return Err(too_short);
        };
        let Some((body, tag)) = rest.split_last_chunk_mut::<TAG_BYTES>() else {
            return Err(too_short);
        };
        if !same(&self.tag(head, body), tag) {
            return Err(FormatError::Unauthenticated);
        }
        Aes256Ctr::new(&self.encrypt.into(), &(*head).into()).apply_keystream(body);
        Ok(body)
    }

    /// The Poly1305-AES tag (D. J. Bernstein, "The Poly1305-AES message-authentication code"): one-time key `r ‖ AES_k(nonce)`.
    fn tag(&self, nonce: &Nonce, ciphertext: &[u8]) -> [u8; TAG_BYTES] {
        let mut pad = (*nonce).into();
        aes::Aes128::new(&self.mac_k.into()).encrypt_block(&mut pad);
        let mut one_time = [0u8; 32];
        one_time[..16].copy_from_slice(&self.mac_r);
        one_time[16..].copy_from_slice(&pad);
        let mut poly = Poly1305::new(&one_time.into());
        // Whole blocks at once are half as fast again as one by one.
        let (blocks, rest) = Block::slice_as_chunks(ciphertext);
        poly.update(blocks);
        let tag = poly.compute_unpadded(rest);
        one_time.zeroize();
        tag.into()
    }

    /// As restic writes it inside a key file.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(160);
        out.extend_from_slice(b"{\"mac\":{\"k\":");
        push_base64(&mut out, &self.mac_k);
        out.extend_from_slice(b",\"r\":");
        push_base64(&mut out, &self.mac_r);
        out.extend_from_slice(b"},\"encrypt\":");
        push_base64(&mut out, &self.encrypt);
        out.push(b'}');
        out
    }

    /// Reads what [`to_json`](Self::to_json) or restic wrote.
    ///
    /// # Errors
    /// When it is malformed, a part has a wrong length, or a part is all zero.
    pub fn from_json(json: &[u8]) -> Result<Self, FormatError> {
        #[derive(serde::Deserialize)]
        struct Mac {
            #[serde(with = "base64_bytes")]
            k: Option<Vec<u8>>,
            #[serde(with = "base64_bytes")]
            r: Option<Vec<u8>>,
        }
        #[derive(serde::Deserialize)]
        struct Keys {
            mac: Mac,
            #[serde(with = "base64_bytes")]
            encrypt: Option<Vec<u8>>,
        }
        let keys: Keys = serde_json::from_slice(json).map_err(|cause| FormatError::Json {
            what: "master key",
            cause,
        })?;
        let key = Self {
            encrypt: part(keys.encrypt)?,
            mac_k: part(keys.mac.k)?,
            mac_r: part(keys.mac.r)?,
        };
        Ok(key)
    }
}

fn part<const N: usize>(bytes: Option<Vec<u8>>) -> Result<[u8; N], FormatError> {
    let bytes = bytes.unwrap_or_default();
    let part: [u8; N] = bytes
        .try_into()
        .map_err(|bytes: Vec<u8>| FormatError::Invalid {
            what: "master key",
            why: format!("a part has {} bytes instead of {N}", bytes.len()),
        })?;
    if part == [0; N] {
        return Err(FormatError::Invalid {
            what: "master key",
            why: "a part is all zero".into(),
        });
    }
    Ok(part)
}

/// Compares without telling by time where the difference is.
fn same(a: &[u8; TAG_BYTES], b: &[u8; TAG_BYTES]) -> bool {
    std::hint::black_box(a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y))) == 0
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> MasterKey {
        MasterKey::from_bytes(&std::array::from_fn(|i| i as u8 + 1))
    }

    fn sealed(nonce: &Nonce, plain: &[u8]) -> Vec<u8> {
        let mut buf = vec![0; NONCE_BYTES];
        buf.extend_from_slice(plain);
        key().seal(nonce, &mut buf).unwrap();
        buf
    }

    #[test]
    fn a_tag_of_any_length_is_that_of_one_block_after_the_other() {
        let key = MasterKey::from_bytes(&std::array::from_fn(|at| at as u8 + 1));
        let (data, nonce) = ([0x5a; 300], [9; NONCE_BYTES]);
        for length in 0..=data.len() {
            let mut pad = nonce.into();
            aes::Aes128::new(&key.mac_k.into()).encrypt_block(&mut pad);
            let mut one_time = [0u8; 32];
            one_time[..16].copy_from_slice(&key.mac_r);
            one_time[16..].copy_from_slice(&pad);
            let plain = Poly1305::new(&one_time.into()).compute_unpadded(&data[..length]);
            assert_eq!(key.tag(&nonce, &data[..length])[..], plain[..], "{length}");
        }
    }

    #[test]
    fn the_tag_is_the_one_of_bernsteins_paper() {
        // Appendix B of "The Poly1305-AES message-authentication code", first example.
        let hex = |s: &str| -> Vec<u8> {
            (0..s.len())
                .step_by(2)
                .map(|i| u8::from_str_radix(&s[i..i + 2], 16).unwrap())
                .collect()
        };
        let mut bytes = [1u8; 64];
        bytes[32..48].copy_from_slice(&hex("ec074c835580741701425b623235add6"));
        bytes[48..].copy_from_slice(&hex("851fc40c3467ac0be05cc20404f3f700"));
        let nonce: Nonce = hex("fb447350c4e868c52ac3275cf9d4327e").try_into().unwrap();
        assert_eq!(
            MasterKey::from_bytes(&bytes)
                .tag(&nonce, &hex("f3f6"))
                .to_vec(),
            hex("f4c633c3044fc145f84f335cb81953de")
        );
    }

    #[test]
    fn what_is_sealed_opens_and_nothing_else_does() {
        let plain: Vec<u8> = (0..1000).map(|i| i as u8).collect();
        let mut buf = sealed(&[7; 16], &plain);
        assert_eq!(key().open(&mut buf.clone()).unwrap(), plain);
        for at in [0, 15, 16, 500, buf.len() - 1] {
            let mut damaged = buf.clone();
            damaged[at] ^= 1;
            assert!(
                matches!(key().open(&mut damaged), Err(FormatError::Unauthenticated)),
                "byte {at}"
            );
        }
        buf.truncate(31);
        assert!(matches!(
            key().open(&mut buf),
            Err(FormatError::TooShort { .. })
        ));
    }

    #[test]
    fn the_counter_carries_through_all_128_bits() {
        let plain = vec![0u8; 64];
        let mut high: Nonce = [0xff; 16];
        high[0] = 0;
        let stream = sealed(&high, &plain);
        let mut next: Nonce = [0; 16];
        next[0] = 1;
        let expected = sealed(&next, &plain[..16]);
        assert_eq!(
            stream[32..48],
            expected[16..32],
            "the second block's counter is the next 128-bit number"
        );
    }

    #[test]
    fn a_zero_nonce_is_refused() {
        assert_eq!(key().seal(&[0; 16], &mut vec![0; 20]), Err(SealError));
    }

    #[test]
    fn keys_survive_their_json_form() {
        let json = key().to_json();
        assert_eq!(MasterKey::from_json(&json).unwrap().to_json(), json);
        assert!(
            MasterKey::from_json(b"{\"mac\":{\"k\":\"\",\"r\":\"\"},\"encrypt\":\"\"}").is_err()
        );
    }
}

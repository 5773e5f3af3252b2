//! A key file: the repository's keys, encrypted with keys that scrypt derives from a password.
//! It must never keep a password or a derived key longer than needed, and never show one.

use serde::Deserialize;
use zeroize::Zeroize;

use crate::crypto::{MasterKey, NONCE_BYTES, Nonce};
use crate::go_json::{base64_bytes, push_base64, push_string};
use crate::{FormatError, Timestamp};

/// Length of the salt in bytes.
pub const SALT_BYTES: usize = 64;

/// The cost of scrypt (RFC 7914).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyParams {
    /// Number of rounds, a power of two.
    pub n: u32,
    /// Block size.
    pub r: u32,
    /// Independent lanes.
    pub p: u32,
}

impl KeyParams {
    /// Memory that a lane may take, in bytes: a hostile key file can't ask for more.
    const LANE_MAX_BYTES: u64 = 1024 * 1024 * 1024;
    /// Work that may be asked for, in bytes mixed: about a minute.
    const WORK_MAX_BYTES: u64 = 64 * 1024 * 1024 * 1024;

    fn check(self) -> Result<(), FormatError> {
        let what = "key file";
        let lane = u64::from(self.n) * u64::from(self.r) * 128;
        let invalid = |why: &str| FormatError::Invalid {
            what,
            why: format!("scrypt with N={}, r={}, p={} {why}", self.n, self.r, self.p),
        };
        if self.n < 2 || !self.n.is_power_of_two() || self.r == 0 || self.p == 0 {
            return Err(invalid("is not possible"));
        }
        if lane > Self::LANE_MAX_BYTES
            || lane.saturating_mul(u64::from(self.p)) > Self::WORK_MAX_BYTES
        {
            return Err(invalid("asks for more memory or time than is allowed"));
        }
        Ok(())
    }

    /// Derives the keys that open a key file.
    ///
    /// # Errors
    /// When the costs are impossible or beyond their limits.
    pub fn derive(self, password: &[u8], salt: &[u8]) -> Result<MasterKey, FormatError> {
        self.check()?;
        let invalid = |why: String| FormatError::Invalid {
            what: "key file",
            why,
        };
        let log_n = u8::try_from(self.n.trailing_zeros()).map_err(|e| invalid(e.to_string()))?;
        let params =
            scrypt::Params::new(log_n, self.r, self.p).map_err(|e| invalid(e.to_string()))?;
        let mut bytes = [0u8; MasterKey::BYTES];
        scrypt::scrypt(password, salt, &params, &mut bytes).map_err(|e| invalid(e.to_string()))?;
        let key = MasterKey::from_bytes(&bytes);
        bytes.zeroize();
        Ok(key)
    }
}

/// When, by whom and where a key is made.
#[derive(Clone, Copy, Debug)]
pub struct KeyMaking<'a> {
    /// When.
    pub created: Timestamp,
    /// By whom.
    pub username: &'a str,
    /// On which host.
    pub hostname: &'a str,
}

/// A key file.
#[derive(Clone, Debug)]
pub struct KeyFile {
    /// When it was made.
    pub created: Timestamp,
    /// By whom.
    pub username: String,
    /// On which host.
    pub hostname: String,
    /// The cost of scrypt.
    pub params: KeyParams,
    /// The salt.
    pub salt: Vec<u8>,
    /// The repository's keys as JSON, encrypted.
    pub data: Vec<u8>,
}

impl KeyFile {
    /// Reads it.
    ///
    /// # Errors
    /// When it is malformed or uses another derivation than scrypt.
    pub fn from_json(json: &[u8]) -> Result<Self, FormatError> {
        #[derive(Deserialize)]
        struct Raw {
            #[serde(default)]
            created: Option<Timestamp>,
            #[serde(default)]
            username: String,
            #[serde(default)]
            hostname: String,
            kdf: String,
            #[serde(rename = "N")]
            n: u32,
            r: u32,
            p: u32,
            #[serde(with = "base64_bytes")]
            salt: Option<Vec<u8>>,
            #[serde(with = "base64_bytes")]
            data: Option<Vec<u8>>,
        }
        let what = "key file";
        let raw: Raw =
            serde_json::from_slice(json).map_err(|cause| FormatError::Json { what, cause })?;
        if raw.kdf != "scrypt" {
            return Err(FormatError::Invalid {
                what,
                why: format!("derives by {:?}, only scrypt is known", raw.kdf),
            });
        }
        Ok(Self {
            created: raw.created.unwrap_or(Timestamp::ZERO),
            username: raw.username,
            hostname: raw.hostname,
            params: KeyParams {
                n: raw.n,
                r: raw.r,
                p: raw.p,
            },
            salt: raw.salt.unwrap_or_default(),
            data: raw.data.unwrap_or_default(),
        })
    }

    /// As restic writes it.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(700);
        out.extend_from_slice(b"{\"created\":");
        push_string(&mut out, &self.created.to_string());
        out.extend_from_slice(b",\"username\":");
        push_string(&mut out, &self.username);
        out.extend_from_slice(b",\"hostname\":");
        push_string(&mut out, &self.hostname);
        let KeyParams { n, r, p } = self.params;
        out.extend_from_slice(
            format!(",\"kdf\":\"scrypt\",\"N\":{n},\"r\":{r},\"p\":{p},\"salt\":").as_bytes(),
        );
        push_base64(&mut out, &self.salt);
        out.extend_from_slice(b",\"data\":");
        push_base64(&mut out, &self.data);
        out.push(b'}');
        out
    }

    /// Puts the repository's keys under a password.
    ///
    /// # Errors
    /// When the costs are impossible or the nonce is all zero.
    pub fn protect(
        master: &MasterKey,
        password: &[u8],
        params: KeyParams,
        salt: [u8; SALT_BYTES],
        nonce: &Nonce,
        made: KeyMaking<'_>,
    ) -> Result<Self, FormatError> {
        let mut data = vec![0; NONCE_BYTES];
        let mut json = master.to_json();
        data.extend_from_slice(&json);
        json.zeroize();
        let user = params.derive(password, &salt)?;
        user.seal(nonce, &mut data)
            .map_err(|e| FormatError::Invalid {
                what: "key file",
                why: e.to_string(),
            })?;
        Ok(Self {
            created: made.created,
            username: made.username.to_owned(),
            hostname: made.hostname.to_owned(),
            params,
            salt: salt.to_vec(),
            data,
        })
    }

    /// Takes the repository's keys out.
    ///
    /// # Errors
    /// [`FormatError::Unauthenticated`] if the password is wrong; others when the file is malformed.
    pub fn unlock(&self, password: &[u8]) -> Result<MasterKey, FormatError> {
        let user = self.params.derive(password, &self.salt)?;
        let mut data = self.data.clone();
        let master = MasterKey::from_json(user.open(&mut data)?);
        data.zeroize();
        master
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: KeyParams = KeyParams { n: 2, r: 1, p: 1 };

    #[test]
    fn the_password_opens_and_another_does_not() {
        let master = MasterKey::from_bytes(&[9; 64]);
        let file = KeyFile::protect(
            &master,
            b"secret",
            CHEAP,
            [3; 64],
            &[4; 16],
            KeyMaking {
                created: Timestamp::utc(0, 0),
                username: "me",
                hostname: "here",
            },
        )
        .unwrap();
        let file = KeyFile::from_json(&file.to_json()).unwrap();
        assert_eq!(file.unlock(b"secret").unwrap().to_json(), master.to_json());
        assert!(matches!(
            file.unlock(b"Secret"),
            Err(FormatError::Unauthenticated)
        ));
        assert!(
            !format!("{:?}", file.unlock(b"secret").unwrap()).contains("CQ"),
            "keys are not shown"
        );
    }

    #[test]
    fn absurd_costs_are_refused_at_once() {
        for (n, r, p) in [
            (0, 8, 1),
            (3, 8, 1),
            (1 << 31, 8, 1),
            (1 << 15, 8, u32::MAX),
            (1 << 15, 0, 1),
            (2, u32::MAX, 1),
        ] {
            assert!(
                KeyParams { n, r, p }.derive(b"x", &[0; 64]).is_err(),
                "{n} {r} {p}"
            );
        }
    }
}

//! A lock file: who works on a repository, since when, and whether alone.
//! It must never be judged by the clock of a machine alone: see the rules of staleness where locks are taken.

use serde::Deserialize;

use crate::go_json::{push_number, push_string};
use crate::{FormatError, Timestamp};

/// What a lock file says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Lock {
    /// When it was written or refreshed.
    pub time: Timestamp,
    /// Whether nobody else may work on the repository.
    #[serde(default)]
    pub exclusive: bool,
    /// The host.
    #[serde(default)]
    pub hostname: String,
    /// The user.
    #[serde(default)]
    pub username: String,
    /// The process on that host.
    #[serde(default)]
    pub pid: i64,
    /// The user's number.
    #[serde(default)]
    pub uid: u32,
    /// The group's number.
    #[serde(default)]
    pub gid: u32,
    /// Who this is more exactly; only Lifeboat writes it, restic ignores it.
    #[serde(default, rename = "lifeboat")]
    pub origin: Option<LockOrigin>,
}

/// What tells one process from all others, where a host's name and a process number do not: containers share both.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LockOrigin {
    /// `/proc/sys/kernel/random/boot_id`: which run of which kernel.
    pub boot_id: String,
    /// The inode of `/proc/self/ns/pid`: in which name space the process number counts.
    pub pid_namespace: u64,
    /// Field 22 of `/proc/self/stat`: when the process began, in clock ticks since boot.
    pub started_ticks: u64,
    /// Seconds without a refresh after which the holder has stopped writing for certain.
    pub lease_seconds: u32,
}

impl Lock {
    /// Reads it.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn from_json(json: &[u8]) -> Result<Self, FormatError> {
        serde_json::from_slice(json).map_err(|cause| FormatError::Json {
            what: "lock",
            cause,
        })
    }

    /// As restic writes it.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(200);
        out.extend_from_slice(b"{\"time\":");
        push_string(&mut out, &self.time.to_string());
        out.extend_from_slice(if self.exclusive {
            b",\"exclusive\":true,\"hostname\":"
        } else {
            b",\"exclusive\":false,\"hostname\":"
        });
        push_string(&mut out, &self.hostname);
        out.extend_from_slice(b",\"username\":");
        push_string(&mut out, &self.username);
        out.extend_from_slice(b",\"pid\":");
        out.extend_from_slice(self.pid.to_string().as_bytes());
        for (name, value) in [("uid", self.uid), ("gid", self.gid)] {
            if value != 0 {
                out.extend_from_slice(format!(",\"{name}\":").as_bytes());
                push_number(&mut out, u64::from(value));
            }
        }
        if let Some(origin) = &self.origin {
            out.extend_from_slice(b",\"lifeboat\":{\"boot_id\":");
            push_string(&mut out, &origin.boot_id);
            let LockOrigin {
                pid_namespace,
                started_ticks,
                lease_seconds,
                ..
            } = origin;
            let rest = format!(
                ",\"pid_namespace\":{pid_namespace},\"started_ticks\":{started_ticks},\"lease_seconds\":{lease_seconds}}}"
            );
            out.extend_from_slice(rest.as_bytes());
        }
        out.push(b'}');
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restics_form_survives() {
        for json in [
            r#"{"time":"2015-06-27T12:18:51.759239612+02:00","exclusive":false,"hostname":"kasimir","username":"fd0","pid":13607,"uid":1000,"gid":100}"#,
            r#"{"time":"2015-06-27T12:18:51Z","exclusive":true,"hostname":"","username":"root","pid":1}"#,
            r#"{"time":"2015-06-27T12:18:51Z","exclusive":true,"hostname":"","username":"root","pid":1,"lifeboat":{"boot_id":"b","pid_namespace":4026531836,"started_ticks":77,"lease_seconds":600}}"#,
        ] {
            assert_eq!(
                String::from_utf8(Lock::from_json(json.as_bytes()).unwrap().to_json()).unwrap(),
                json
            );
        }
        assert!(Lock::from_json(b"{}").is_err());
    }
}

//! Why something over SFTP failed: the server's own words, or the end of the connection and what ssh said about it.
//! It must never call a loss that needs a person (an unknown host key, a refused login) one that passes by itself.

use super::packet::Status;
use crate::backend::Trouble;

/// A request did not do what it should.
#[derive(Clone, Debug)]
pub(super) enum SftpError {
    /// The server refused it.
    Status(Status),
    /// There is no connection any more, or there never was one.
    Lost(Loss),
}

impl SftpError {
    /// The server answered what the protocol does not allow here.
    pub(super) fn odd(what: &str) -> Self {
        Self::Lost(Loss::new(
            Trouble::Protocol,
            format!("the server breaks the protocol: {what}"),
        ))
    }

    /// Whether the server says that there is no such file or folder.
    pub(super) fn is_missing(&self) -> bool {
        self.code() == Some(Status::NO_SUCH_FILE)
    }

    /// Whether the server has no such operation, or not on this file system.
    pub(super) fn is_unsupported(&self) -> bool {
        matches!(self.code(), Some(Status::UNSUPPORTED | Status::BAD_MESSAGE))
    }

    /// The server's code, if it is the server that refused.
    pub(super) fn code(&self) -> Option<u32> {
        match self {
            Self::Status(status) => Some(status.code),
            Self::Lost(_) => None,
        }
    }

    /// What kind of failure that is.
    pub(super) fn trouble(&self) -> Trouble {
        match self {
            Self::Lost(loss) => loss.trouble,
            Self::Status(status) => match status.code {
                Status::DENIED | Status::READ_ONLY => Trouble::Denied,
                Status::NO_SPACE | Status::QUOTA => Trouble::Full,
                Status::NO_CONNECTION | Status::CONNECTION_LOST => Trouble::Transient,
                Status::BAD_MESSAGE => Trouble::Protocol,
                _ => Trouble::Other,
            },
        }
    }

    /// Why, in the words of the server or ssh.
    pub(super) fn why(&self) -> String {
        match self {
            Self::Status(status) => status.shown(),
            Self::Lost(loss) => loss.why.clone(),
        }
    }
}

/// The connection ended, or did not come about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) trouble: Trouble,
    pub(super) why: String,
}

impl Loss {
    pub(super) fn new(trouble: Trouble, why: impl Into<String>) -> Self {
        Self {
            trouble,
            why: why.into(),
        }
    }
}

/// What ssh says, and what kind of failure that is. The texts are OpenSSH's, which does not translate them.
const VERDICTS: &[(&str, Trouble)] = &[
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", Trouble::HostKey),
    ("Host key verification failed", Trouble::HostKey),
    ("Permission denied (", Trouble::Credentials),
    ("Too many authentication failures", Trouble::Credentials),
    ("No more authentication methods", Trouble::Credentials),
    ("subsystem request failed", Trouble::Program),
    ("Could not resolve hostname", Trouble::Unreachable),
    ("Connection refused", Trouble::Unreachable),
    ("No route to host", Trouble::Unreachable),
    ("Network is unreachable", Trouble::Unreachable),
    ("timed out", Trouble::Unreachable),
    ("Connection reset", Trouble::Unreachable),
    ("Connection closed", Trouble::Unreachable),
    ("kex_exchange_identification", Trouble::Unreachable),
    ("not responding", Trouble::Unreachable),
    ("Broken pipe", Trouble::Unreachable),
];

/// What kind of failure it is that no connection came about, judged by what ssh said.
pub(super) fn judge(said: &[String]) -> Trouble {
    let found = VERDICTS
        .iter()
        .find(|(text, _)| said.iter().any(|line| line.contains(text)));
    // Its options, its configuration, its keys: ssh can't be used as it is called.
    found.map_or(Trouble::Program, |(_, trouble)| *trouble)
}

/// What to do about a host key; `by_hand` is how ssh is called by hand.
pub(super) fn host_key_advice(said: &[String], by_hand: &str) -> String {
    let changed = said.iter().any(|line| line.contains("HAS CHANGED"));
    if changed {
        format!(
            "the host key is not the one that is known: somebody may be in between. If the server was set up anew, \
             remove the old key with `ssh-keygen -R`, then run `{by_hand}` once and compare the fingerprint"
        )
    } else {
        format!(
            "the host key is not known: run `{by_hand}` once and compare the fingerprint, or add the key to known_hosts"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_says_is_understood() {
        for (said, trouble) in [
            ("Host key verification failed.", Trouble::HostKey),
            (
                "me@host: Permission denied (publickey,password).",
                Trouble::Credentials,
            ),
            (
                "ssh: Could not resolve hostname nas: Name or service not known",
                Trouble::Unreachable,
            ),
            (
                "ssh: connect to host nas port 22: Connection timed out",
                Trouble::Unreachable,
            ),
            ("subsystem request failed on channel 0", Trouble::Program),
            (
                "command-line: line 0: Bad configuration option: nonsense",
                Trouble::Program,
            ),
        ] {
            assert_eq!(judge(&[said.to_owned()]), trouble, "{said}");
        }
        assert_eq!(judge(&[]), Trouble::Program);
    }

    #[test]
    fn a_login_that_fails_behind_a_closed_connection_is_still_a_failed_login() {
        let said = [
            "Received disconnect from ::1: Too many authentication failures".to_owned(),
            "Connection closed by ::1".to_owned(),
        ];
        assert_eq!(judge(&said), Trouble::Credentials);
    }
}

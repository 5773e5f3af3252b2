//! The command that leads to an SFTP server: the system's ssh with what keeps it from hanging, or the user's own.
//! It must never weaken ssh's checks, and never go before what the user asked for.

use std::time::Duration;

use crate::backend::{BackendOptions, OptionError};

const COMMAND: &str = "sftp.command";
const ARGUMENTS: &str = "sftp.args";
const CONNECTIONS: &str = "sftp.connections";
/// All options that there are.
pub(in crate::backend) const OPTIONS: &[&str] = &[COMMAND, ARGUMENTS, CONNECTIONS];
/// As restic.
const CONNECTIONS_DEFAULT: usize = 5;
const CONNECTIONS_MAX: usize = 64;

/// How long a connection may take to come about, with its handshake.
const CONNECT_MAX: Duration = Duration::from_secs(30);
/// How many questions a dead peer may leave without an answer.
const ALIVE_COUNT: u64 = 3;

/// How an SFTP server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SftpCommand {
    pub(super) program: String,
    pub(super) arguments: Vec<String>,
    /// How a person would call ssh to see what is wrong.
    pub(super) by_hand: String,
    /// Whether ssh may ask a person on the terminal.
    pub(super) may_ask: bool,
    /// How many files may be under way at once.
    pub(super) connections: usize,
}

impl SftpCommand {
    /// The command for a host.
    ///
    /// # Errors
    /// When an option can't be used.
    pub(super) fn new(
        username: Option<&str>,
        host: &str,
        port: Option<u16>,
        options: &BackendOptions,
        may_ask: bool,
    ) -> Result<Self, OptionError> {
        options.only("sftp", OPTIONS)?;
        let connections = options.number(CONNECTIONS, CONNECTIONS_DEFAULT, 1..=CONNECTIONS_MAX)?;
        let given = words(options, ARGUMENTS)?;
        if let Some(command) = words(options, COMMAND)? {
            if given.is_some() {
                return Err(OptionError {
                    name: COMMAND.into(),
                    why: format!("it is the whole command, so that {ARGUMENTS} has no place in it"),
                });
            }
            let by_hand = command.join(" ");
            let mut words = command.into_iter();
            return Ok(Self {
                program: words.next().unwrap_or_default(),
                arguments: words.collect(),
                by_hand,
                may_ask,
                connections,
            });
        }
        let mut target = Vec::new();
        if let Some(port) = port {
            target.extend(["-p".to_owned(), port.to_string()]);
        }
        if let Some(user) = username {
            target.extend(["-l".to_owned(), user.to_owned()]);
        }
        let by_hand = ["ssh".to_owned()]
            .into_iter()
            .chain(given.clone().unwrap_or_default())
            .chain(target.clone())
            .chain([host.to_owned()]);
        let by_hand = by_hand.collect::<Vec<_>>().join(" ");
        // For each of its settings ssh takes the first value that it meets, so the user's come first.
        let mut arguments = given.unwrap_or_default();
        for setting in settings(options.stall, may_ask) {
            arguments.extend(["-o".to_owned(), setting]);
        }
        arguments.extend(target);
        arguments.extend(["-s".to_owned(), host.to_owned(), "sftp".to_owned()]);
        Ok(Self {
            program: "ssh".into(),
            arguments,
            by_hand,
            may_ask,
            connections,
        })
    }

    /// How long the server's greeting may take without a person who types.
    pub(super) fn greeting_max(stall: Duration) -> Duration {
        connect_max(stall) + stall
    }
}

/// What ssh is told for a transfer that nobody watches.
fn settings(stall: Duration, may_ask: bool) -> Vec<String> {
    // The first question is asked after one interval of silence, and the last one waits for another.
    let interval = (stall.as_secs() / (ALIVE_COUNT + 1)).max(1);
    let mut settings = vec![
        format!("ServerAliveInterval={interval}"),
        format!("ServerAliveCountMax={ALIVE_COUNT}"),
        format!("ConnectTimeout={}", connect_max(stall).as_secs()),
        // Nothing but the server is to be reached, and the server reaches nothing of ours.
        "ClearAllForwardings=yes".to_owned(),
        "ForwardAgent=no".to_owned(),
        "ForwardX11=no".to_owned(),
        "PermitLocalCommand=no".to_owned(),
    ];
    if !may_ask {
        settings.push("BatchMode=yes".to_owned());
    }
    settings
}

fn connect_max(stall: Duration) -> Duration {
    stall.clamp(Duration::from_secs(1), CONNECT_MAX)
}

/// The words of an option, split as a shell does.
fn words(options: &BackendOptions, name: &str) -> Result<Option<Vec<String>>, OptionError> {
    let Some(text) = options.setting(name) else {
        return Ok(None);
    };
    match shlex::split(text) {
        Some(words) if !words.is_empty() => Ok(Some(words)),
        found => Err(OptionError {
            name: name.to_owned(),
            why: match found {
                Some(_) => "it is empty".to_owned(),
                None => format!("{text:?} has a quote that does not end"),
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(settings: &[(&str, &str)]) -> Result<SftpCommand, String> {
        let mut options = BackendOptions::default();
        for (name, value) in settings {
            options
                .settings
                .insert((*name).to_owned(), (*value).to_owned());
        }
        SftpCommand::new(Some("me"), "nas", Some(2222), &options, false)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn ssh_is_called_with_limits_after_what_the_user_asked_for() {
        let made = command(&[("sftp.args", "-i 'a key' -J jump")]).unwrap();
        assert_eq!(made.program, "ssh");
        assert_eq!(
            made.arguments.join(" "),
            "-i a key -J jump -o ServerAliveInterval=30 -o ServerAliveCountMax=3 -o ConnectTimeout=30 \
             -o ClearAllForwardings=yes -o ForwardAgent=no -o ForwardX11=no -o PermitLocalCommand=no \
             -o BatchMode=yes -p 2222 -l me -s nas sftp"
        );
        assert_eq!(made.connections, 5);
        assert_eq!(made.by_hand, "ssh -i a key -J jump -p 2222 -l me nas");
        let asking = SftpCommand::new(None, "nas", None, &BackendOptions::default(), true).unwrap();
        assert!(
            !asking
                .arguments
                .iter()
                .any(|word| word.contains("BatchMode"))
        );
    }

    #[test]
    fn a_command_is_the_whole_command() {
        let made = command(&[("sftp.command", "sudo ssh -s \"my nas\" sftp")]).unwrap();
        assert_eq!(made.program, "sudo");
        assert_eq!(made.arguments, ["ssh", "-s", "my nas", "sftp"]);
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        for (settings, why) in [
            (
                vec![("sftp.arg", "-v")],
                "sftp.arg: there is no such option; known are sftp.command, sftp.args, sftp.connections",
            ),
            (
                vec![("sftp.args", "-v"), ("sftp.command", "ssh")],
                "sftp.command: it is the whole command, so that sftp.args has no place in it",
            ),
            (
                vec![("sftp.command", "ssh 'nas")],
                "sftp.command: \"ssh 'nas\" has a quote that does not end",
            ),
            (vec![("sftp.command", " ")], "sftp.command: it is empty"),
            (
                vec![("sftp.connections", "0")],
                "sftp.connections: \"0\" is no number from 1 to 64",
            ),
        ] {
            assert_eq!(command(&settings).unwrap_err(), why);
        }
        assert!(command(&[("rest.connections", "7")]).is_ok());
    }
}

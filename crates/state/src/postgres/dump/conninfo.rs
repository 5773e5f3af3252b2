//! How a program of PostgreSQL is told where to connect and as whom.
//! It must never put a password where others of this machine can read it, nor take a name for something else than a name.

use std::process::Command;

use super::super::client::{Address, Host, TlsMode};
use super::programs::ClientPrograms;

/// One of the programs, told how to connect to a database. It has nothing of our environment, in which much could change
/// what it does; the password is in its own, which nobody else can read.
pub(super) fn client(
    programs: &ClientPrograms,
    name: &str,
    address: &Address,
    database: &str,
) -> Command {
    let mut command = Command::new(programs.path(name));
    command.env_clear().env("LC_ALL", "C");
    if let Some(password) = &address.password {
        command.env("PGPASSWORD", &password.0);
    }
    let mut option = String::from("--dbname=");
    option.push_str(&conninfo(address, database));
    command.arg(option).arg("--no-password");
    command
}

/// The address as a text of keywords and values (PostgreSQL manual, "Keyword/Value Connection Strings"), without the
/// password. A name in it stays a name, whatever it looks like.
fn conninfo(address: &Address, database: &str) -> String {
    let host = match &address.host {
        Host::Tcp(host) => host.clone(),
        Host::Socket(dir) => dir.to_string_lossy().into_owned(),
    };
    let mode = match address.tls {
        TlsMode::Disable => "disable",
        TlsMode::Prefer => "prefer",
        TlsMode::Require => "require",
        TlsMode::VerifyCa => "verify-ca",
        TlsMode::VerifyFull => "verify-full",
    };
    let mut words = vec![
        ("host", host),
        ("port", address.port.to_string()),
        ("user", address.user.clone()),
        ("dbname", database.to_owned()),
        ("sslmode", mode.to_owned()),
        (
            "connect_timeout",
            address.connect_timeout.as_secs().max(1).to_string(),
        ),
    ];
    match &address.root_certificates {
        Some(file) => words.push(("sslrootcert", file.to_string_lossy().into_owned())),
        // Otherwise libpq wants a file in a home.
        None if wants_system_roots(address) => words.push(("sslrootcert", "system".to_owned())),
        None => {}
    }
    if !address.settings.is_empty() {
        let settings = address.settings.iter();
        let settings = settings.map(|(name, value)| format!("-c {name}={}", without_blanks(value)));
        words.push(("options", settings.collect::<Vec<_>>().join(" ")));
    }
    let words = words
        .iter()
        .map(|(name, value)| format!("{name}={}", quoted(value)));
    words.collect::<Vec<_>>().join(" ")
}

/// Whether the server is believed that an authority of the system vouches for.
pub(super) fn wants_system_roots(address: &Address) -> bool {
    address.tls == TlsMode::VerifyFull
        && address.root_certificates.is_none()
        && matches!(address.host, Host::Tcp(_))
}

fn quoted(value: &str) -> String {
    let escaped = value.replace('\\', r"\\").replace('\'', r"\'");
    format!("'{escaped}'")
}

/// A backslash keeps a blank from ending a word of `options`.
fn without_blanks(value: &str) -> String {
    let mut text = String::new();
    for character in value.chars() {
        if character == '\\' || character.is_whitespace() {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_a_name_and_no_password_is_told() {
        let mut address =
            Address::parse("postgresql://me:geheim@[::1]:6000/x?sslmode=require", "x").unwrap();
        address.settings = vec![("a.b".into(), "c d".into()), ("e".into(), String::new())];
        assert_eq!(
            conninfo(&address, r"-it's\ host=evil"),
            r"host='::1' port='6000' user='me' dbname='-it\'s\\ host=evil' sslmode='require' connect_timeout='30' options='-c a.b=c\\ d -c e='"
        );
    }
    #[test]
    fn whom_the_system_believes_is_believed_where_nobody_is_named() {
        let said = |url: &str| {
            let address = Address::parse(url, "x").unwrap();
            let text = conninfo(&address, "d");
            let said = text.split_once("sslmode=").map(|(_, said)| said.to_owned());
            said.unwrap()
        };
        let rest = "connect_timeout='30'";
        assert_eq!(
            said("postgresql://h/d?sslmode=verify-full"),
            format!("'verify-full' {rest} sslrootcert='system'")
        );
        assert_eq!(
            said("postgresql://h/d?sslmode=verify-full&sslrootcert=/etc/roots"),
            format!("'verify-full' {rest} sslrootcert='/etc/roots'")
        );
        for (url, mode) in [
            ("postgresql://h/d?sslmode=require", "require"),
            (
                "postgresql:///d?host=/run/postgresql&sslmode=verify-full",
                "verify-full",
            ),
        ] {
            assert_eq!(said(url), format!("'{mode}' {rest}"));
        }
    }
}

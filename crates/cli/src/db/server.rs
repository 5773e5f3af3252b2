//! Which server a command asks, and as whom.
//! It must never take a password from the command line, where every user of the machine can read it.

use std::path::{Path, PathBuf};

use clap::Args;
use lifeboat_repo::Identity;
use lifeboat_state::postgres::client::{Address, Secret, password_from};

use crate::failure::Failure;

/// The variable that may hold a URL with a password.
const URL_VARIABLE: &str = "LIFEBOAT_POSTGRES";
/// libpq's variables.
const PASSWORD_VARIABLE: &str = "PGPASSWORD";
const PASSFILE_VARIABLE: &str = "PGPASSFILE";

/// The option that names a server.
#[derive(Args)]
#[command(next_help_heading = "The server")]
pub struct ServerArgs {
    /// The server, as postgresql://USER@HOST:PORT/DATABASE or postgresql://USER@/DATABASE?host=/run/postgresql; the variable
    /// LIFEBOAT_POSTGRES may hold it with a password, otherwise PGPASSWORD, PGPASSFILE or ~/.pgpass has that
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
}

impl ServerArgs {
    /// Whether the command line names one, for a command that can do without.
    pub fn is_given(&self) -> bool {
        self.postgres.is_some()
    }

    /// Where it is and as whom to ask.
    pub fn address(&self) -> Result<Address, Failure> {
        if let Some(url) = &self.postgres {
            let hint =
                "put the URL into LIFEBOAT_POSTGRES, or the password into PGPASSWORD or ~/.pgpass";
            return address_of("--postgres", url, hint);
        }
        let from_variable = std::env::var(URL_VARIABLE)
            .ok()
            .filter(|url| !url.is_empty());
        let url = from_variable.ok_or_else(|| {
            Failure::new("nothing says which server to ask")
                .hint("give --postgres postgresql://USER@HOST/DATABASE, or set LIFEBOAT_POSTGRES")
        })?;
        parsed(URL_VARIABLE, url)
    }
}

/// Where a server is that an option names, and as whom to ask it; `hint` says where a password belongs.
pub fn address_of(option: &str, url: &str, hint: &str) -> Result<Address, Failure> {
    let address = Address::parse(url, "");
    if address.is_ok_and(|address| address.password.is_some()) {
        return Err(Failure::new(format!(
            "{option} has a password in it, and every user of this machine can read the command line"
        ))
        .hint(hint));
    }
    parsed(option, url.to_owned())
}

fn parsed(from: &str, url: String) -> Result<Address, Failure> {
    let url = with_variables(url, |name| std::env::var(name).unwrap_or_default());
    let who = Identity::of_this_process().username;
    let mut address = Address::parse(&url, &who)
        .map_err(|error| Failure::from_error(&error).while_doing(from))?;
    if address.password.is_none() {
        address.password = std::env::var(PASSWORD_VARIABLE).ok().map(Secret);
    }
    with_passfile(address)
}

/// With the password that libpq's file has for it, if nothing else has said one.
pub fn with_passfile(mut address: Address) -> Result<Address, Failure> {
    if address.password.is_none()
        && let Some(file) = passfile()
    {
        address.password = password_of(&file, &address)?;
    }
    Ok(address)
}

/// The URL with what libpq's variables say of encryption, where it says nothing itself.
fn with_variables(mut url: String, variable: impl Fn(&str) -> String) -> String {
    for (name, key) in [("PGSSLMODE", "sslmode"), ("PGSSLROOTCERT", "sslrootcert")] {
        let value = variable(name);
        if !value.is_empty() && !url.contains(&format!("{key}=")) {
            let sign = if url.contains('?') { '&' } else { '?' };
            url.push_str(&format!("{sign}{key}={}", percent_encoded(&value)));
        }
    }
    url
}

/// A value of a parameter in a URL.
fn percent_encoded(value: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let encoded = value.bytes().map(|byte| match is_plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    encoded.collect()
}

fn passfile() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    match set(PASSFILE_VARIABLE) {
        Some(file) => Some(PathBuf::from(file)),
        None => Some(PathBuf::from(set("HOME")?).join(".pgpass")),
    }
}

fn password_of(file: &Path, address: &Address) -> Result<Option<Secret>, Failure> {
    password_from(file, address).map_err(|error| Failure::from_error(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_say_what_the_url_does_not() {
        let variable = |name: &str| match name {
            "PGSSLMODE" => "verify-full".to_owned(),
            _ => "/etc/our roots".to_owned(),
        };
        let with = |url: &str| with_variables(url.to_owned(), variable);
        let roots = "sslrootcert=/etc/our%20roots";
        assert_eq!(
            with("postgresql://h/d"),
            format!("postgresql://h/d?sslmode=verify-full&{roots}")
        );
        let said = "postgresql://h/d?sslmode=disable";
        assert_eq!(with(said), format!("{said}&{roots}"));
        assert_eq!(with_variables(said.to_owned(), |_| String::new()), said);
    }
}

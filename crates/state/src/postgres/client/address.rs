//! Where a server is and as whom to ask it: a URL as libpq takes it.
//! It must never show the password that may be in it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

/// The port if none is named.
const PORT: u16 = 5432;
/// Where Debian's servers and the official images have their socket.
pub(super) const SOCKET_DIR: &str = "/var/run/postgresql";
/// How long a connection may take to be there if nobody says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Who says more wants it to take as long as it may.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// Something that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How to reach the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// By a name or number, over TCP.
    Tcp(String),
    /// By a socket in this directory.
    Socket(PathBuf),
}

/// How a connection is encrypted (libpq's `sslmode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Not.
    Disable,
    /// If the server can, whoever it is.
    Prefer,
    /// Always, whoever it is.
    Require,
    /// Always, with a server that a known authority vouches for.
    VerifyCa,
    /// The same, and for this name.
    VerifyFull,
}

/// Where and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Where.
    pub host: Host,
    /// The port; also a part of the name of a socket.
    pub port: u16,
    /// As whom.
    pub user: String,
    /// Which database; that of the user's name if none is named.
    pub database: String,
    /// The password, if it is known here.
    pub password: Option<Secret>,
    /// How it is encrypted.
    pub tls: TlsMode,
    /// Authorities to trust instead of those of the system: a file of certificates (PEM).
    pub root_certificates: Option<PathBuf>,
    /// How long the connection may take to be there.
    pub connect_timeout: Duration,
    /// Settings of the session, which count before those of its role and its database.
    pub settings: Vec<(String, String)>,
}

/// A URL that says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the URL of the server {0}")]
pub struct AddressError(pub String);

impl Address {
    /// From `postgresql://user:password@host:port/database?sslmode=require` and what libpq makes of its parts
    /// (PostgreSQL manual, "Connection URIs"). `user` is who asks if it names nobody.
    ///
    /// # Errors
    /// When it is no such URL, or says what can't be done.
    pub fn parse(url: &str, user: &str) -> Result<Self, AddressError> {
        let scheme = ["postgresql://", "postgres://"];
        let rest = scheme.iter().find_map(|scheme| url.strip_prefix(scheme));
        let rest = rest.ok_or_else(|| wrong("does not begin with postgresql://"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        // A password that is not escaped ends where a path or a question begins, and must not be told as something else.
        let is_torn = authority.contains(':') && !authority.contains('@');
        if is_torn && (database.contains('@') || query.contains('@')) {
            return Err(wrong(
                "has a / or ? in its user or password: write them as %2F and %3F",
            ));
        }
        let (who, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (name, password) = match who.split_once(':') {
            Some((name, password)) => (name, Some(Secret(decoded(password)?))),
            None => (who, None),
        };
        let (host, port) = place_of(place)?;
        let mut found = Self {
            host: host_of(&decoded(host)?),
            port,
            user: decoded(name)?,
            database: decoded(database)?,
            password,
            tls: TlsMode::Prefer,
            root_certificates: None,
            connect_timeout: CONNECT_TIMEOUT,
            settings: Vec::new(),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            found.set(&decoded(key)?, decoded(value)?)?;
        }
        if found.user.is_empty() {
            user.clone_into(&mut found.user);
        }
        if found.database.is_empty() {
            found.database.clone_from(&found.user);
        }
        Ok(found)
    }

    fn set(&mut self, key: &str, value: String) -> Result<(), AddressError> {
        match key {
            "host" => self.host = host_of(&value),
            "port" => {
                self.port = value
                    .parse()
                    .map_err(|_| wrong(&format!("has a port {value:?}")))?
            }
            "user" => self.user = value,
            "password" => self.password = Some(Secret(value)),
            "dbname" => self.database = value,
            "sslmode" => {
                self.tls = match &*value {
                    "disable" => TlsMode::Disable,
                    "allow" | "prefer" => TlsMode::Prefer,
                    "require" => TlsMode::Require,
                    "verify-ca" => TlsMode::VerifyCa,
                    "verify-full" => TlsMode::VerifyFull,
                    _ => {
                        return Err(wrong(&format!(
                            "has sslmode={value}, which libpq does not know"
                        )));
                    }
                };
            }
            "sslrootcert" => self.root_certificates = Some(PathBuf::from(value)),
            "connect_timeout" => {
                let seconds = value
                    .parse()
                    .map_err(|_| wrong(&format!("has a connect_timeout {value:?}")))?;
                self.connect_timeout = match seconds {
                    0 => CONNECT_TIMEOUT,
                    seconds => Duration::from_secs(seconds).min(CONNECT_TIMEOUT_MAX),
                };
            }
            // What others need, and nothing depends on here.
            "application_name" | "target_session_attrs" => {}
            _ => {
                return Err(wrong(&format!(
                    "has the parameter {key:?}, which is not known here"
                )));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            port,
            user,
            database,
            ..
        } = self;
        match &self.host {
            Host::Tcp(host) if host.contains(':') => write!(f, "{user}@[{host}]:{port}/{database}"),
            Host::Tcp(host) => write!(f, "{user}@{host}:{port}/{database}"),
            Host::Socket(dir) => write!(f, "{user}@{}:{port}/{database}", dir.display()),
        }
    }
}

fn wrong(why: &str) -> AddressError {
    AddressError(why.to_owned())
}

fn decoded(text: &str) -> Result<String, AddressError> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(Into::into)
        .map_err(|_| wrong("has a part that is no UTF-8"))
}

fn host_of(text: &str) -> Host {
    match text {
        "" => Host::Socket(PathBuf::from(SOCKET_DIR)),
        dir if dir.starts_with('/') => Host::Socket(PathBuf::from(dir)),
        name => Host::Tcp(name.to_owned()),
    }
}

/// Splits the port off.
fn place_of(place: &str) -> Result<(&str, u16), AddressError> {
    if place.contains(',') {
        return Err(wrong(
            "names several servers; one is captured, so name that one",
        ));
    }
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest
                .split_once(']')
                .ok_or_else(|| wrong("has a [ without a ]"))?;
            match rest.strip_prefix(':') {
                Some(port) => (host, port),
                None if rest.is_empty() => (host, ""),
                None => return Err(wrong("has something behind the ] that is no port")),
            }
        }
        None => place.split_once(':').unwrap_or((place, "")),
    };
    match port {
        "" => Ok((host, PORT)),
        text => match text.parse() {
            Ok(port) => Ok((host, port)),
            // It may be a password before a host that was forgotten.
            Err(_) => Err(wrong(
                "has a port that is no number up to 65535, or has no @HOST behind a password",
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Address {
        Address::parse(url, "me").expect(url)
    }

    #[test]
    fn a_password_that_is_not_escaped_is_not_shown() {
        for url in [
            "postgresql://u:s3cr/et@host/db",
            "postgresql://u:s3cr?et@host/db",
            "postgresql://u:1234/et@host",
            "postgresql://u:s3cret",
            "postgresql://u:s3cret/db",
        ] {
            let error = Address::parse(url, "me").expect_err(url).to_string();
            assert!(!error.contains("s3cr") && !error.contains("et@"), "{error}");
        }
    }

    #[test]
    fn parts_are_found_and_the_rest_has_defaults() {
        let full = parsed(
            "postgresql://me%40x:p%3Aw%2F@db.example:5433/app%20db?sslmode=verify-full&connect_timeout=3",
        );
        assert_eq!(full.host, Host::Tcp("db.example".into()));
        assert_eq!(
            (full.port, &*full.user, &*full.database),
            (5433, "me@x", "app db")
        );
        assert_eq!(full.password, Some(Secret("p:w/".into())));
        assert_eq!(
            (full.tls, full.connect_timeout),
            (TlsMode::VerifyFull, Duration::from_secs(3))
        );
        let bare = parsed("postgres://");
        assert_eq!(bare.host, Host::Socket(SOCKET_DIR.into()));
        assert_eq!(
            (bare.port, &*bare.user, &*bare.database),
            (5432, "me", "me")
        );
        let six = parsed("postgres://u@[::1]:6000");
        assert_eq!(
            (six.host, six.port, six.database),
            (Host::Tcp("::1".into()), 6000, "u".into())
        );
        for url in [
            "postgres://u@/d?host=/run/pg&port=7",
            "postgres://u@%2Frun%2Fpg:7/d",
        ] {
            let socket = parsed(url);
            assert_eq!(
                (socket.host, socket.port),
                (Host::Socket("/run/pg".into()), 7)
            );
        }
        assert_eq!(
            parsed("postgres://u:a@b@h/d").password,
            Some(Secret("a@b".into()))
        );
    }

    #[test]
    fn what_is_wrong_is_named_and_no_password_is_shown() {
        for (url, why) in [
            ("mysql://x", "does not begin with postgresql://"),
            (
                "postgres://a,b/x",
                "names several servers; one is captured, so name that one",
            ),
            (
                "postgres://u:geheim@h:x/d",
                "has a port that is no number up to 65535, or has no @HOST behind a password",
            ),
            (
                "postgres://h:70000",
                "has a port that is no number up to 65535, or has no @HOST behind a password",
            ),
            ("postgres://[::1", "has a [ without a ]"),
            (
                "postgres://[::1]x",
                "has something behind the ] that is no port",
            ),
            (
                "postgres://h/d?sslmode=on",
                "has sslmode=on, which libpq does not know",
            ),
            (
                "postgres://h/d?sslkey=x",
                "has the parameter \"sslkey\", which is not known here",
            ),
            ("postgres://%ff", "has a part that is no UTF-8"),
        ] {
            let error = Address::parse(url, "me").expect_err(url);
            assert_eq!(error, AddressError(why.into()));
        }
        let secret = parsed("postgres://u:geheim@h/d");
        assert_eq!(secret.to_string(), "u@h:5432/d");
        assert!(!format!("{secret:?}").contains("geheim"));
    }
}

//! Where a repository is, read from what a user writes: a path, or a URL as restic writes it.
//! It must never show a password in what it prints.

use std::fmt;
use std::path::PathBuf;

/// The schemes of restic's other backends, which this program does not have.
const FOREIGN: [&str; 4] = ["b2", "azure", "gs", "swift"];

/// What is wrong with a port; never which, see `check_port`.
const NO_PORT: &str =
    "what stands behind the host's colon is no port; in a password `/` is written as %2F";

/// Where a repository is.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// A directory of this machine.
    Local(PathBuf),
    /// A bucket of an S3 server.
    S3 {
        /// `https://s3.example.net` or with a port; no trailing slash.
        endpoint: String,
        /// The bucket.
        bucket: String,
        /// The path in the bucket without slashes at its ends; may be empty.
        prefix: String,
    },
    /// A REST server.
    Rest {
        /// `https://host:port/path/` without credentials, with a slash at its end; or `http+unix` is refused.
        url: String,
        /// The user's name in the URL.
        username: Option<String>,
        /// The password in the URL.
        password: Option<super::Secret>,
    },
    /// A directory that the system's ssh reaches.
    Sftp {
        /// The user's name, if one is given.
        username: Option<String>,
        /// The host.
        host: String,
        /// The port, if one is given.
        port: Option<u16>,
        /// The directory there; relative ones start in the user's home.
        path: String,
    },
    /// What rclone calls a remote, as `b2prod:yggdrasil/foo`.
    Rclone(String),
}

/// A location can't be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the location {shown:?} can't be used: {why}")]
pub struct LocationError {
    shown: String,
    why: String,
}

impl std::str::FromStr for Location {
    type Err = LocationError;

    /// Reads what restic reads (its documentation, "Preparing a new repository").
    fn from_str(text: &str) -> Result<Self, LocationError> {
        let (scheme, rest) = text.split_once(':').unwrap_or_default();
        let read = match scheme {
            "local" => local(rest),
            "s3" => s3(rest),
            "rest" => self::rest(rest),
            "sftp" => sftp(rest),
            "rclone" if rest.is_empty() => Err("no remote is named after `rclone:`".into()),
            "rclone" => Ok(Self::Rclone(rest.to_owned())),
            scheme if FOREIGN.contains(&scheme) => Err(format!(
                "this program has no backend for `{scheme}:`; through rclone it is reached as `rclone:REMOTE:PATH`"
            )),
            // Nobody's directory is called `https:`, and a password in it would be shown.
            "http" | "https" => Err(format!(
                "which kind of server is it? rest:{scheme}://HOST/PATH/ or s3:{scheme}://HOST/BUCKET"
            )),
            _ => local(text),
        };
        read.map_err(|why| LocationError {
            shown: without_password(text),
            why,
        })
    }
}

fn local(path: &str) -> Result<Location, String> {
    if path.is_empty() {
        return Err("it is empty".into());
    }
    Ok(Location::Local(path.into()))
}

fn s3(rest: &str) -> Result<Location, String> {
    let (scheme, rest) = match rest.split_once("://") {
        Some(("http", rest)) => ("http", rest),
        Some(("https" | "", rest)) => ("https", rest),
        Some((other, _)) => return Err(format!("`{other}://` is neither http:// nor https://")),
        None => ("https", rest.strip_prefix("//").unwrap_or(rest)),
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
    if host.is_empty() || bucket.is_empty() {
        return Err("it should be s3:HOST/BUCKET or s3:HOST/BUCKET/PATH".into());
    }
    if host.contains('@') {
        return Err("credentials in it would be shown to everybody; give them in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".into());
    }
    check_port(host)?;
    let parts: Vec<&str> = prefix
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if parts.contains(&"..") {
        return Err("`..` has no meaning in a bucket".into());
    }
    Ok(Location::S3 {
        endpoint: format!("{scheme}://{host}"),
        bucket: bucket.to_owned(),
        prefix: parts.join("/"),
    })
}

fn rest(rest: &str) -> Result<Location, String> {
    let (scheme, after) = rest
        .split_once("://")
        .filter(|(scheme, _)| matches!(*scheme, "http" | "https"))
        .ok_or("it should be rest:https://HOST/ or rest:http://HOST:PORT/PATH/")?;
    let (authority, path) = after.split_once('/').unwrap_or((after, ""));
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if host.is_empty() {
        return Err("it names no host".into());
    }
    check_port(host)?;
    let (username, password) = match user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
        None => (None, None),
        Some((name, "")) => (Some(decoded(name)?), None),
        Some((name, password)) => (
            Some(decoded(name)?),
            Some(super::Secret::new(decoded(password)?)),
        ),
    };
    let mut url = format!("{scheme}://{host}/{path}");
    if !url.ends_with('/') {
        url.push('/');
    }
    Ok(Location::Rest {
        url,
        username,
        password,
    })
}

fn sftp(rest: &str) -> Result<Location, String> {
    let (user_host, port, path) = match rest.strip_prefix("//") {
        Some(rest) => {
            let (authority, path) = rest.split_once('/').ok_or(
                "it names no directory: sftp://USER@HOST//ABSOLUTE or sftp:USER@HOST:PATH",
            )?;
            let at_host = authority.rfind('@').map_or(0, |at| at + 1);
            let colon = authority
                .rfind(':')
                .filter(|colon| *colon > at_host && !authority.ends_with(']'));
            let (host, port) = match colon {
                Some(colon) => {
                    let port = authority.get(colon + 1..).unwrap_or_default();
                    let port = port.parse().map_err(|_| NO_PORT)?;
                    (authority.get(..colon).unwrap_or_default(), Some(port))
                }
                None => (authority, None),
            };
            (host, port, path)
        }
        None => {
            // An address of version 6 has colons itself, and stands in brackets.
            let from = rest.rfind(']').unwrap_or(0);
            let colon = rest
                .get(from..)
                .and_then(|tail| tail.find(':'))
                .map(|at| at + from)
                .ok_or("it should be sftp:USER@HOST:PATH or sftp://USER@HOST:PORT/PATH")?;
            (
                rest.get(..colon).unwrap_or_default(),
                None,
                rest.get(colon + 1..).unwrap_or_default(),
            )
        }
    };
    let (username, host) = match user_host.rsplit_once('@') {
        Some((user, host)) => (Some(user.to_owned()), host),
        None => (None, user_host),
    };
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if host.is_empty() {
        return Err("it names no host".into());
    }
    if host.starts_with('-') || username.as_ref().is_some_and(|user| user.starts_with('-')) {
        return Err("a host or user that begins with `-` would be an option of ssh".into());
    }
    if path.is_empty() {
        return Err("it names no directory".into());
    }
    if path.starts_with('~') {
        return Err("servers do not know `~`; a relative path starts in the home directory".into());
    }
    Ok(Location::Sftp {
        username,
        host: host.to_owned(),
        port,
        path: path.to_owned(),
    })
}

/// Refuses what stands behind the host's colon and is no port: it would be looked up as a part of the name. It is not
/// shown, because it may be a password with a slash in it, or one behind which the host is missing.
fn check_port(host: &str) -> Result<(), String> {
    let port = match host.rsplit_once(':') {
        Some((_, port)) if !host.ends_with(']') => port,
        _ => return Ok(()),
    };
    match port.parse::<u16>() {
        Ok(_) => Ok(()),
        Err(_) => Err(NO_PORT.into()),
    }
}

fn decoded(text: &str) -> Result<String, String> {
    percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| "its user or password is no UTF-8".to_owned())
}

/// What a user wrote, with all replaced that may be the password of a URL.
fn without_password(text: &str) -> String {
    let Some((head, slashes, rest)) = ["://", ":"]
        .into_iter()
        .find_map(|end| text.split_once(end).map(|(head, rest)| (head, end, rest)))
    else {
        return text.to_owned();
    };
    let authority = rest.split('/').next().unwrap_or_default();
    // A password may have a slash in it, which ends what comes before the path for everybody but its user.
    for before_at in [authority, rest] {
        let user = before_at
            .rfind('@')
            .and_then(|at| Some((before_at.get(..at)?.split_once(':')?.0, at)));
        if let Some((user, at)) = user {
            let tail = rest.get(at..).unwrap_or_default();
            return format!("{head}{slashes}{user}:***{tail}");
        }
    }
    // Or the host is missing behind it. What SFTP has behind the colon is a path, but in a URL.
    let is_url = slashes == "://" || matches!(head, "rest" | "s3");
    match authority.rsplit_once(':') {
        Some((host, port)) if is_url && !port.ends_with(']') && port.parse::<u16>().is_err() => {
            let tail = rest.get(authority.len()..).unwrap_or_default();
            format!("{head}{slashes}{host}:***{tail}")
        }
        _ => text.to_owned(),
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::S3 {
                endpoint,
                bucket,
                prefix,
            } => {
                let slash = if prefix.is_empty() { "" } else { "/" };
                write!(f, "s3:{endpoint}/{bucket}{slash}{prefix}")
            }
            Self::Rest {
                url,
                username,
                password,
            } => {
                let Some(user) = username else {
                    return write!(f, "rest:{url}");
                };
                let hidden = if password.is_some() { ":***" } else { "" };
                let (scheme, rest) = url.split_once("://").unwrap_or_default();
                write!(f, "rest:{scheme}://{user}{hidden}@{rest}")
            }
            Self::Sftp {
                username,
                host,
                port,
                path,
            } => {
                let user = username.as_deref().map(|user| format!("{user}@"));
                let user = user.unwrap_or_default();
                match port {
                    Some(port) => write!(f, "sftp://{user}{host}:{port}/{path}"),
                    None => write!(f, "sftp:{user}{host}:{path}"),
                }
            }
            Self::Rclone(remote) => write!(f, "rclone:{}", super::rclone::shown(remote)),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match text.parse::<Location>() {
            Ok(location) => location.to_string(),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn what_restic_writes_is_understood() {
        for (text, as_shown) in [
            ("/srv/restic", "/srv/restic"),
            ("local:a:b", "a:b"),
            (
                "s3:s3.amazonaws.com/bucket",
                "s3:https://s3.amazonaws.com/bucket",
            ),
            (
                "s3://host:9000/bucket/a//b/",
                "s3:https://host:9000/bucket/a/b",
            ),
            (
                "s3:http://[::1]:3900/bucket/p",
                "s3:http://[::1]:3900/bucket/p",
            ),
            ("rest:https://host:8000", "rest:https://host:8000/"),
            (
                "rest:http://me:p%40ss@host/repo",
                "rest:http://me:***@host/repo/",
            ),
            ("sftp:me@host:/srv/repo", "sftp:me@host:/srv/repo"),
            ("sftp:me@realm@host:repo", "sftp:me@realm@host:repo"),
            (
                "sftp://me@host:2222//srv/repo",
                "sftp://me@host:2222//srv/repo",
            ),
            ("sftp://host/repo", "sftp:host:repo"),
            ("sftp:[fe80::1]:repo", "sftp:fe80::1:repo"),
            ("rclone:b2:bucket/path", "rclone:b2:bucket/path"),
            (
                "rclone::s3,access_key_id=id,secret_access_key=secret:bucket",
                "rclone::s3,access_key_id=***,secret_access_key=***:bucket",
            ),
        ] {
            assert_eq!(shown(text), as_shown, "{text}");
        }
    }

    #[test]
    fn what_can_not_be_is_refused_without_its_password() {
        for text in [
            "",
            "s3:host",
            "s3:ftp://host/bucket",
            "s3:http://key:secret@host/bucket",
            "s3:host/bucket/../other",
            "rest:me:secret@host",
            "rest:ftp://me:secret@host/",
            "rest:https://me:secret@host:99999/",
            "rest:https://me:se/secret@host/",
            "rest:https://me:secret/secret@host/",
            "rest:https:/me:secret@host/",
            "rest:https://me:secret",
            "rest:https://me:secret/path",
            "rest:https://me:secret@/path",
            "rest:me:secret/path",
            "s3:https://key:secret/secret@host/bucket",
            "s3:key:secret/bucket",
            "sftp://me:secret/repo",
            "https://me:secret/path",
            "s3:https://host:port/bucket",
            "https://me:secret@host/",
            "rest:http:///path",
            "sftp:host",
            "sftp://host",
            "sftp:-oProxyCommand=x:repo",
            "sftp:host:~/repo",
            "sftp://host:port/repo",
            "rclone:",
            "b2:bucket:path",
        ] {
            let said = shown(text);
            assert!(said.starts_with("error: "), "{text}: {said}");
            assert!(!said.contains("secret"), "{said}");
        }
        let location: Location = "rest:http://me:secret@host/".parse().unwrap();
        assert!(!format!("{location:?}").contains("secret"));
    }
}

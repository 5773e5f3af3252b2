//! Where a repository lies, as a template that may have the names of fleet and app in it.
//! It never takes credentials, and never guesses a kind of backend.

use std::str::FromStr;

use crate::credentials::holds_password;
use crate::refusal::Refusal;

/// Backends besides directories, as restic names them.
const KINDS: [&str; 5] = ["local", "s3", "rest", "sftp", "rclone"];
/// Backends that restic has and this program reaches through rclone.
const FOREIGN: [&str; 4] = ["azure", "b2", "gs", "swift"];
const CREDENTIALS_HINT: &str = "give them in `env:`, such as `env: { AWS_SECRET_ACCESS_KEY: { file: PATH } }` or `{ RESTIC_REST_PASSWORD: { file: PATH } }`";

/// The location of a repository, with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryUrl {
    template: String,
}

impl RepositoryUrl {
    /// The location for an app of a fleet.
    #[must_use]
    pub fn of(&self, fleet: &str, app: &str) -> String {
        // Names have no braces, so that one replacement never makes work for the other.
        self.template
            .replace("{fleet}", fleet)
            .replace("{app}", app)
    }

    /// As it was written.
    #[must_use]
    pub fn template(&self) -> &str {
        &self.template
    }

    /// Whether each app has a repository of its own.
    #[must_use]
    pub fn is_of_app(&self) -> bool {
        self.template.contains("{app}")
    }

    /// The directory that it lies in on this machine, without what follows the first placeholder; none if it lies elsewhere.
    #[must_use]
    pub fn local_dir(&self) -> Option<&str> {
        let path = match self.template.split_once(':') {
            Some(("local", path)) => path,
            Some((kind, _)) if KINDS.contains(&kind) => return None,
            _ => &self.template,
        };
        match path.split_once('{') {
            None => Some(path),
            Some((before, _)) => Some(before.rsplit_once('/').map_or("", |(dir, _)| dir)),
        }
    }
}

impl FromStr for RepositoryUrl {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let (kind, rest) = text.split_once(':').unwrap_or_default();
        let is_path = kind.is_empty() || kind.contains('/') || kind.contains('{');
        // `sftp://` is a URL as a whole, `rest:https://` has one in it.
        let url = if rest.starts_with("//") { text } else { rest };
        if !is_path
            && (matches!(kind, "rest" | "s3" | "sftp" | "http" | "https"))
            && holds_password(url)
        {
            return Err(Refusal::new(
                "credentials do not belong into a URL, where everybody sees them",
                CREDENTIALS_HINT,
            ));
        }
        match kind {
            _ if is_path => {}
            "http" | "https" => {
                let hint = format!("write `rest:{kind}://HOST/PATH/` or `s3:{kind}://HOST/BUCKET`");
                return Err(Refusal::new(
                    "it is not said which kind of server this is",
                    hint,
                ));
            }
            kind if FOREIGN.contains(&kind) => {
                let what = format!("there is no backend for `{kind}:`");
                return Err(Refusal::new(
                    what,
                    "through rclone it is reached as `rclone:REMOTE:PATH`",
                ));
            }
            kind if !KINDS.contains(&kind) => {
                let hint = "write a directory, or one of s3:, rest:, sftp:, rclone:, local:";
                return Err(Refusal::new("this kind of repository is not known", hint));
            }
            _ => {}
        }
        if !is_path && rest.trim_matches('/').is_empty() {
            return Err(Refusal::new(
                "this says no place",
                "write it as restic does: `s3:https://HOST/BUCKET`",
            ));
        }
        check_placeholders(text)?;
        let template = text.to_owned();
        Ok(Self { template })
    }
}

fn check_placeholders(text: &str) -> Result<(), Refusal> {
    let hint = "known are: {app}, {fleet}";
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let from = rest.get(at..).unwrap_or_default();
        let known = ["{app}", "{fleet}"]
            .iter()
            .find(|known| from.starts_with(**known));
        let Some(known) = known else {
            let name = from.split_inclusive('}').next().unwrap_or_default();
            return Err(Refusal::unlike(name, "placeholder", hint));
        };
        rest = from.get(known.len()..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_restic_s() {
        for text in [
            "/srv/restic",
            "backup/{app}",
            "local:/a:b",
            "s3:https://s3.example.net/bucket/{app}",
            "s3:host/bucket",
            "rest:https://host:8000/",
            "rest:https://user@host/x",
            "sftp:me@host:/srv/a@b",
            "sftp://me@host:2222//srv",
            "rclone:b2:bucket/{fleet}/{app}",
            "/srv/a:b",
        ] {
            assert!(text.parse::<RepositoryUrl>().is_ok(), "{text}");
        }
        for text in [
            "rest:https://user:hunter2@host/",
            "s3:https://key:hunter2@host/bucket",
            "sftp:me:hunter2@host:/srv",
            "sftp://me:hunter2@host/srv",
            "rest:https://user:hunter/2@host/",
            "https://user:hunter2@host/x",
            "ftp://hunter2@host",
            "b2:hunter2",
            "hunter2:x",
        ] {
            let refusal = text.parse::<RepositoryUrl>().unwrap_err();
            assert!(!format!("{refusal:?}").contains("hunter2"), "{refusal:?}");
        }
        for text in [
            "/srv/{ap}",
            "/srv/{app",
            "/srv/app}",
            "s3:",
            "rest:",
            "/srv/{app}{}",
        ] {
            assert!(text.parse::<RepositoryUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn placeholders_are_replaced() {
        let url: RepositoryUrl = "s3:host/{fleet}/{app}-{app}".parse().unwrap();
        assert_eq!(url.of("home", "wiki"), "s3:host/home/wiki-wiki");
        let dir = |text: &str| {
            text.parse::<RepositoryUrl>()
                .unwrap()
                .local_dir()
                .map(str::to_owned)
        };
        assert_eq!(dir("/srv/restic").as_deref(), Some("/srv/restic"));
        assert_eq!(dir("local:/srv/x/{app}").as_deref(), Some("/srv/x"));
        assert_eq!(dir("/srv/x/a-{app}").as_deref(), Some("/srv/x"));
        assert_eq!(dir("s3:host/bucket"), None);
    }
}

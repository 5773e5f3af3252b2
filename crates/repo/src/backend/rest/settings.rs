//! What a `rest:` location and its options say: the URL, the credentials, the number of connections.
//! It must never send credentials to a user that they are not for.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::backend::{BackendOptions, Location, OptionError, Secret};

/// Requests at once, if nobody says otherwise. restic has 5.
const CONNECTIONS_DEFAULT: usize = 10;
/// Requests at once that may be asked for.
pub(in crate::backend) const CONNECTIONS_MAX: usize = 64;

const CONNECTIONS: &str = "rest.connections";
/// All options that there are.
pub(in crate::backend) const OPTIONS: &[&str] = &[CONNECTIONS];
const USERNAME: &str = "RESTIC_REST_USERNAME";
const PASSWORD: &str = "RESTIC_REST_PASSWORD";

/// How to speak to a server.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The repository's URL without credentials, with a slash at its end.
    pub(super) url: String,
    /// The header `Authorization`.
    pub(super) authorization: Option<Secret>,
    /// Requests at once.
    pub(super) connections: usize,
}

impl Settings {
    pub(super) fn read(location: &Location, options: &BackendOptions) -> Result<Self, OptionError> {
        let Location::Rest {
            url,
            username,
            password,
        } = location
        else {
            return Err(OptionError {
                name: location.to_string(),
                why: "it is no REST server".into(),
            });
        };
        options.only("rest", OPTIONS)?;
        let connections = options.number(CONNECTIONS, CONNECTIONS_DEFAULT, 1..=CONNECTIONS_MAX)?;
        Ok(Self {
            url: url.clone(),
            authorization: credentials(username.as_deref(), password.as_ref(), options)
                .map(|(username, password)| basic(&username, &password)),
            connections,
        })
    }
}

/// User and password: those of the URL, else the variables. A user in the URL without a password takes the variable's,
/// unless that is another user's.
fn credentials(
    username: Option<&str>,
    password: Option<&Secret>,
    options: &BackendOptions,
) -> Option<(String, Secret)> {
    let variable = |name| options.variable(name).map(Secret::reveal);
    let none = || Secret::new("");
    match (username, password) {
        (name, Some(password)) => Some((name.unwrap_or_default().to_owned(), password.clone())),
        (Some(name), None) => {
            let is_theirs = variable(USERNAME).is_none_or(|user| user == name);
            let password = options.variable(PASSWORD).filter(|_| is_theirs);
            Some((name.to_owned(), password.cloned().unwrap_or_else(none)))
        }
        (None, None) => {
            let (name, password) = (variable(USERNAME), options.variable(PASSWORD));
            (name.is_some() || password.is_some()).then(|| {
                let name = name.unwrap_or_default().to_owned();
                (name, password.cloned().unwrap_or_else(none))
            })
        }
    }
}

fn basic(username: &str, password: &Secret) -> Secret {
    let pair = Secret::new(format!("{username}:{}", password.reveal()));
    let coded = Secret::new(STANDARD.encode(pair.reveal()));
    Secret::new(format!("Basic {}", coded.reveal()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorization(location: &str, variables: &[(&str, &str)]) -> Option<String> {
        let mut options = BackendOptions::default();
        for (name, value) in variables {
            let value = Secret::new(*value);
            options.variables.insert((*name).to_owned(), value);
        }
        let settings = Settings::read(&location.parse().unwrap(), &options).unwrap();
        let header = settings.authorization?;
        let coded = header.reveal().strip_prefix("Basic ").unwrap().to_owned();
        Some(String::from_utf8(STANDARD.decode(coded).unwrap()).unwrap())
    }

    #[test]
    fn the_url_goes_before_the_variables() {
        let both = [(USERNAME, "me"), (PASSWORD, "of me")];
        for (location, variables, expected) in [
            ("rest:http://host/", &[][..], None),
            ("rest:http://host/", &both, Some("me:of me")),
            ("rest:http://you:a%3Ab@host/", &both, Some("you:a:b")),
            ("rest:http://me@host/", &both, Some("me:of me")),
            ("rest:http://you@host/", &both, Some("you:")),
            ("rest:http://you@host/", &both[1..], Some("you:of me")),
        ] {
            let found = authorization(location, variables);
            assert_eq!(found.as_deref(), expected, "{location} {variables:?}");
        }
    }

    #[test]
    fn options_that_do_nothing_are_refused() {
        let location = "rest:http://host/".parse().unwrap();
        let read = |name: &str, value: &str| {
            let mut options = BackendOptions::default();
            options.settings.insert(name.into(), value.into());
            Settings::read(&location, &options).map_err(|error| error.to_string())
        };
        assert_eq!(read("rest.connections", "64").unwrap().connections, 64);
        assert!(read("s3.region", "x").is_ok(), "another backend's");
        assert_eq!(
            read("rest.connection", "5").unwrap_err(),
            "rest.connection: there is no such option; known are rest.connections"
        );
        for wrong in ["0", "65", "many", ""] {
            let error = read("rest.connections", wrong).unwrap_err();
            assert!(error.contains("is no number from 1 to 64"), "{error}");
        }
    }
}

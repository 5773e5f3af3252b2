//! What a fleet needs from outside its file: secrets, open repositories and addresses of servers.
//! It must never keep a secret longer than it takes to use it, nor show one.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use lifeboat_fleet::{Database, Engine, Environment, Fleet, Repository as Place, SecretRef};
use lifeboat_protect::{Outside, OutsideError, Store};
use lifeboat_repo::backend::{Location, Secret};
use lifeboat_repo::{Identity, KeyCost, LockGuard, LockRequest, LockTiming, Repository};
use lifeboat_state::postgres::client::{Address, Secret as PgSecret};

use super::FleetGlobal;
use crate::args::Global;
use crate::db::server::with_passfile;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::repo::access::{password_of_command, password_of_file, small_text};
use crate::repo::connect::{Caching, connect, with_cache};
use crate::repo::session::retry_for;
use crate::ui::Ui;

/// Opens what a fleet is kept in. A repository is opened once, and locked each time; one that can't be had is not waited for
/// again for each app.
pub struct World<'a> {
    fleet: &'a Fleet,
    dir: &'a Path,
    global: Global,
    ui: &'a Ui,
    /// Whether repositories that are not there are made.
    makes: bool,
    /// What came of opening each place.
    open: Mutex<HashMap<String, Result<Arc<Repository>, Failure>>>,
}

impl<'a> World<'a> {
    /// The world of a fleet whose file lies in `dir`.
    pub fn new(fleet: &'a Fleet, dir: &'a Path, global: &FleetGlobal, ui: &'a Ui) -> Self {
        Self {
            fleet,
            dir,
            global: global.global(),
            ui,
            makes: false,
            open: Mutex::default(),
        }
    }

    /// The same, and makes repositories that are not there.
    #[must_use]
    pub fn making(self, makes: bool) -> Self {
        Self { makes, ..self }
    }

    /// The repository of an app, to look into it; none if it is not there, and will be made.
    pub fn known_repository(
        &self,
        place: &Place,
        app: &str,
    ) -> Result<Option<Arc<Repository>>, Failure> {
        match self.repository(place, app, false) {
            Err(failure) if failure.exit == Exit::NoRepository && self.makes => Ok(None),
            found => found.map(Some),
        }
    }

    fn repository(
        &self,
        place: &Place,
        app: &str,
        writes: bool,
    ) -> Result<Arc<Repository>, Failure> {
        let text = self.location(place, app);
        let lock = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().get(&text).cloned();
        match known {
            // It may be made now.
            Some(Err(failure)) if failure.exit == Exit::NoRepository => {}
            Some(known) => return known,
            None => {}
        }
        let opened = self.opened(place, &text, writes);
        lock().insert(text, opened.clone());
        opened
    }

    fn opened(&self, place: &Place, text: &str, writes: bool) -> Result<Arc<Repository>, Failure> {
        let parsed = text.parse::<Location>();
        let location = parsed.map_err(|error| Failure::from_error(&error))?;
        let variables = self.variables(place)?;
        let backend = connect(&location, &self.global, &variables, self.ui)?;
        let password = self.secret(&place.password)?;
        if password.is_empty() {
            return Err(Failure::new(format!(
                "the password of {} is empty, and that protects nothing",
                place.name.value
            )));
        }
        let opened = Repository::open(Arc::clone(&backend), password.as_bytes(), None);
        let repository = match opened.map_err(Failure::from) {
            Err(failure) if failure.exit == Exit::NoRepository && self.makes && writes => {
                let who = Identity::of_this_process();
                let cost = KeyCost::Calibrated;
                let made = Repository::init(backend, password.as_bytes(), 2, None, &who, cost)?;
                let (name, location) = (&place.name.value, made.backend().location());
                self.ui
                    .say(format_args!("created the repository {name} at {location}"));
                made
            }
            Err(failure) if failure.exit == Exit::NoRepository => {
                return Err(failure.hint(
                    "check `url`; `lifeboat backup --init` makes repositories that are not there, and it never happens by itself",
                ));
            }
            opened => opened?,
        };
        let caching = Caching::Kept;
        let (repository, _) = with_cache(repository, &location, &self.global, self.ui, caching);
        Ok(Arc::new(repository))
    }

    /// Where the repository of an app lies; a relative path begins at the fleet file.
    pub fn location(&self, place: &Place, app: &str) -> String {
        let text = place.url.value.of(&self.fleet.name, app);
        match place.url.value.local_dir() {
            Some(_) => {
                let path = text.strip_prefix("local:").unwrap_or(&text);
                self.dir.join(path).to_string_lossy().into_owned()
            }
            None => text,
        }
    }

    fn variables(&self, place: &Place) -> Result<BTreeMap<String, Secret>, Failure> {
        match &place.env {
            None => Ok(BTreeMap::new()),
            Some(Environment::Variables(variables)) => {
                let read = variables
                    .iter()
                    .map(|(name, secret)| Ok((name.clone(), Secret::new(self.secret(secret)?))));
                read.collect()
            }
            Some(Environment::File(file)) => {
                let path = self.dir.join(file);
                let text = small_text(&path, "variables from")?;
                variables_in(&text).map_err(|line| {
                    Failure::new(format!(
                        "{}:{line}: this is not of the form NAME=VALUE",
                        path.display()
                    ))
                })
            }
        }
    }

    /// A secret, as it is now: passwords change.
    fn secret(&self, secret: &SecretRef) -> Result<String, Failure> {
        match secret {
            SecretRef::File(file) => password_of_file(&self.dir.join(file)),
            SecretRef::Env(name) => std::env::var(name)
                .map_err(|_| Failure::new(format!("the variable {name} is not set, or no text"))),
            SecretRef::Command(command) => password_of_command(command, "a secret", Some(self.dir)),
        }
    }

    fn store(&self, place: &Place, app: &str, writes: bool) -> Result<Store, Failure> {
        let repository = self.repository(place, app, writes)?;
        let request = LockRequest {
            exclusive: false,
            retry_for: retry_for(&self.global)?,
            timing: LockTiming::default(),
            early: true,
            reads: !writes,
        };
        let who = Identity::of_this_process();
        let lock = LockGuard::take(&repository, &who, request, self.ui, &self.ui.wish)?;
        lock.tell(self.ui.notes());
        Ok(Store {
            repository,
            lock: Some(lock),
        })
    }
}

impl Outside for World<'_> {
    fn open(&self, place: &Place, app: &str, writes: bool) -> Result<Store, OutsideError> {
        self.store(place, app, writes).map_err(outside)
    }

    fn address(&self, database: &Database) -> Result<Address, OutsideError> {
        let Engine::Postgres(url) = &database.engine;
        let who = Identity::of_this_process().username;
        let address = Address::parse(&url.value.text, &who)
            .map_err(|error| outside(Failure::from_error(&error)))?;
        match &database.password {
            None => with_passfile(address).map_err(outside),
            Some(secret) => Ok(Address {
                password: Some(PgSecret(self.secret(secret).map_err(outside)?)),
                ..address
            }),
        }
    }
}

fn outside(failure: Failure) -> OutsideError {
    let is_wish = failure.exit == Exit::Interrupted;
    let message = match failure.hint {
        None => failure.message,
        Some(hint) => format!("{} ({hint})", failure.message),
    };
    OutsideError { message, is_wish }
}

/// The variables of a file with a line `NAME=value` for each; empty lines, and those that begin with `#`, are left out, and
/// `export ` before a name as well as quotes around a value are those of a shell.
///
/// # Errors
/// The number of the first line that is none of this.
fn variables_in(text: &str) -> Result<BTreeMap<String, Secret>, usize> {
    let mut found = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or(number)?;
        let name = name.trim();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(is_name) {
            return Err(number);
        }
        let value = value.trim();
        let quoted = ['"', '\'']
            .iter()
            .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
        found.insert(
            name.to_owned(),
            Secret::new(quoted.unwrap_or(value).to_owned()),
        );
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_as_a_shell_would() {
        let text = "# keys\nexport A=1\n\nB = 'two words' \nC=\"x=y\"\nD=\n";
        let found = variables_in(text).unwrap();
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["A", "B", "C", "D"]);
        let expected = ["1", "two words", "x=y", ""];
        for (value, expected) in found.values().zip(expected) {
            assert_eq!(value.reveal(), expected);
        }
        assert_eq!(variables_in("A=1\nnothing").unwrap_err(), 2);
        assert_eq!(variables_in("=1").unwrap_err(), 1);
    }
}

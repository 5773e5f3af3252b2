//! The programs that dump and restore, `pg_dump` and its siblings, of a version that fits.
//! It must never take one that is older than what it is to read: what it does not know, it would leave out.

use std::io;
use std::path::{Path, PathBuf};

use super::super::client::Address;
use super::super::verify::{known_dirs, listed, major_of, version_of};
use super::conninfo::wants_system_roots;

/// How many later versions are looked for.
const LATER_MAX: u32 = 10;
/// The one that is asked for its version; the others lie beside it.
const ASKED: &str = "pg_dump";
/// From this version on libpq can believe whom the system believes (PostgreSQL 16 release notes, `sslrootcert=system`).
const WITH_SYSTEM_ROOTS: u32 = 16;

/// The programs of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPrograms {
    dir: PathBuf,
    major: u32,
    version: String,
}

/// There are none that fit.
#[derive(Debug, thiserror::Error)]
pub enum ClientProgramsError {
    /// None at all.
    #[error(
        "there is no pg_dump in {}; install the client programs of PostgreSQL {major} or newer (Debian: \
         postgresql-client-{major}), or name their directory with --programs",
        listed(looked_in)
    )]
    Missing {
        /// The major version that is needed at least.
        major: u32,
        /// Where it was looked for.
        looked_in: Vec<PathBuf>,
    },
    /// All that are there are older.
    #[error(
        "{} is of version {version}, and {needed_by} is of {major}: an older one can't read it; install the client \
         programs of PostgreSQL {major} or newer (Debian: postgresql-client-{major}), or name their directory with --programs",
        program.display()
    )]
    Old {
        /// The newest of them.
        program: PathBuf,
        /// Its version.
        version: String,
        /// The major version that is needed at least.
        major: u32,
        /// What needs it: `the server` or `the dump`.
        needed_by: &'static str,
    },
    /// They can't tell whose server it is as we can.
    #[error(
        "pg_dump and pg_restore {version} know no authorities of the system, which sslmode=verify-full asks without \
         sslrootcert; name a file of authorities in the URL (Debian: sslrootcert=/etc/ssl/certs/ca-certificates.crt), or \
         install the client programs of PostgreSQL {WITH_SYSTEM_ROOTS} or newer"
    )]
    NoAuthorities {
        /// Their version.
        version: String,
    },
    /// The one that was named says nothing.
    #[error("ask {} for its version", program.display())]
    Ask {
        /// Which.
        program: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

/// What the programs must be able to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needed {
    /// The major version that they have at least.
    pub at_least: u32,
    /// The one that fits best.
    pub best: u32,
    /// What asks for it: `the server` or `the dump`.
    pub by: &'static str,
}

impl ClientPrograms {
    /// Looks for them: in the directory that somebody named and nowhere else, or else where packages put them, the best
    /// version first, and then in `others`, such as those of `PATH`.
    ///
    /// # Errors
    /// When none are there, or only older ones.
    pub fn find(
        needed: Needed,
        named: Option<&Path>,
        others: &[PathBuf],
    ) -> Result<Self, ClientProgramsError> {
        let Needed { at_least, best, by } = needed;
        let looked_in: Vec<PathBuf> = match named {
            Some(dir) => vec![dir.to_owned()],
            None => std::iter::once(best)
                .filter(|best| *best >= at_least)
                .chain(at_least..=at_least.saturating_add(LATER_MAX))
                .flat_map(known_dirs)
                .chain(others.iter().cloned())
                .collect(),
        };
        let mut older: Option<(u32, PathBuf, String)> = None;
        for dir in &looked_in {
            let program = dir.join(ASKED);
            let version = match version_of(&program) {
                Ok(version) => version,
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => continue,
                Err(cause) if named.is_some() => {
                    return Err(ClientProgramsError::Ask { program, cause });
                }
                Err(_) => continue,
            };
            let major = major_of(&version).unwrap_or(0);
            if major >= at_least {
                return Ok(Self {
                    dir: dir.clone(),
                    major,
                    version,
                });
            }
            if older.as_ref().is_none_or(|(newest, ..)| major > *newest) {
                older = Some((major, program, version));
            }
        }
        Err(match older {
            Some((_, program, version)) => ClientProgramsError::Old {
                program,
                version,
                major: at_least,
                needed_by: by,
            },
            None => ClientProgramsError::Missing {
                major: at_least,
                looked_in: match named {
                    Some(_) => looked_in,
                    None => known_dirs(at_least)
                        .into_iter()
                        .chain(others.to_vec())
                        .collect(),
                },
            },
        })
    }

    /// Whether they can connect as strictly as the address asks for.
    ///
    /// # Errors
    /// When they would look for authorities elsewhere than we do.
    pub fn can_reach(&self, address: &Address) -> Result<(), ClientProgramsError> {
        match self.major < WITH_SYSTEM_ROOTS && wants_system_roots(address) {
            true => Err(ClientProgramsError::NoAuthorities {
                version: self.version.clone(),
            }),
            false => Ok(()),
        }
    }

    /// The path of one of them, whether it is there or not.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The major version.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The version in their words, such as `15.18`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_know_no_authorities_of_the_system_are_refused_where_nobody_names_others() {
        let of = |major: u32, url: &str| {
            let programs = ClientPrograms {
                dir: PathBuf::new(),
                major,
                version: format!("{major}.1"),
            };
            programs.can_reach(&Address::parse(url, "x").unwrap())
        };
        let strict = "postgresql://h/d?sslmode=verify-full";
        let error = of(15, strict).unwrap_err().to_string();
        assert!(
            error.contains("15.1") && error.contains("sslrootcert=/"),
            "{error}"
        );
        assert!(of(16, strict).is_ok());
        assert!(of(15, &format!("{strict}&sslrootcert=/etc/roots")).is_ok());
        assert!(of(15, "postgresql://h/d?sslmode=require").is_ok());
    }
}

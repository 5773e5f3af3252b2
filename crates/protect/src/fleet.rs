//! The identity of a fleet in its repository: a UUID that captures carry, and the epoch of who writes for it.
//! It must never give two fleets of one name in one repository, nor a new identity while there is one.

use lifeboat_flow::Timestamp;
use lifeboat_format::Id;
use lifeboat_repo::backend::{LogName, LogNameError};
use lifeboat_repo::{LogError, Repository};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The version of the record that is written.
pub const FLEET_VERSION: u32 = 1;
/// The folder of the log that holds fleets: `fleet/NAME/EPOCH`, the name as the first half of its hash.
const FOLDER: &str = "fleet";
/// Hexadecimal digits of a name's hash: it need not be a secret, only a name for what may be any text.
const NAME_HASH_DIGITS: usize = 32;
/// A fleet is founded once more if somebody else removes what he founded in between.
const TRIES_MAX: usize = 3;

/// A fleet, as its repository knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    /// [`FLEET_VERSION`] of its time.
    pub version: u32,
    /// What tells it from all others, also of the same name.
    pub fleet: Uuid,
    /// Its name: the host of its snapshots.
    pub name: String,
    /// Who writes for it is of this epoch; who finds a later one has been replaced.
    pub epoch: u32,
    /// The machine that began the epoch.
    pub host: String,
    /// When it did.
    pub since: Timestamp,
}

/// The identity of a fleet can't be had.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The repository failed.
    #[error("look up the fleet {name} in the repository")]
    Log {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        cause: LogError,
    },
    /// Its record is none.
    #[error("the record of the fleet {name} in the repository can't be read")]
    Form {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        cause: serde_json::Error,
    },
    /// It was written by a later program.
    #[error(
        "the record of the fleet {name} has version {version}, and this program knows {FLEET_VERSION}: use a newer one"
    )]
    Version {
        /// Its name.
        name: String,
        /// What it says.
        version: u32,
    },
    /// It came and went.
    #[error("the record of the fleet {name} in the repository was removed while it was read")]
    Removed {
        /// Its name.
        name: String,
    },
    /// No name in a log can be made of it.
    #[error(transparent)]
    LogName(#[from] LogNameError),
}

impl Fleet {
    /// The fleet of this name in its newest epoch, if the repository knows one.
    ///
    /// # Errors
    /// When the repository can't be asked, or its answer not be read: then nobody knows.
    pub fn find(repository: &Repository, name: &str) -> Result<Option<Self>, FleetError> {
        let failed = |cause| FleetError::Log {
            name: name.to_owned(),
            cause,
        };
        let entries = repository.log().list(Some(&folder(name)?));
        // Epochs have as many digits each, so that the last name is the newest.
        let Some(newest) = entries.map_err(failed)?.pop() else {
            return Ok(None);
        };
        let json = repository.log().read(&newest.name).map_err(failed)?;
        Self::parse(name, &json).map(Some)
    }

    /// A fleet that nobody knows yet, of this machine.
    #[must_use]
    pub fn new(name: &str, host: &str, now: Timestamp) -> Self {
        Self {
            version: FLEET_VERSION,
            fleet: Uuid::new_v4(),
            name: name.to_owned(),
            epoch: 1,
            host: host.to_owned(),
            since: now,
        }
    }

    /// The fleet of this name; if there is none it is founded by this machine. Of several who do that at once, one does it.
    ///
    /// # Errors
    /// As [`Fleet::find`], and when it can't be stored.
    pub fn find_or_found(
        repository: &Repository,
        name: &str,
        host: &str,
        now: Timestamp,
    ) -> Result<Self, FleetError> {
        Self::find_or_take(repository, &Self::new(name, host, now))
    }

    /// The fleet of the name of `new`; if the repository knows none, `new` is written down in it: one that another repository
    /// of the same fleet knows has one identity in both.
    ///
    /// # Errors
    /// As [`Fleet::find_or_found`].
    pub fn find_or_take(repository: &Repository, new: &Self) -> Result<Self, FleetError> {
        let name = new.name.as_str();
        for _ in 0..TRIES_MAX {
            if let Some(found) = Self::find(repository, name)? {
                return Ok(found);
            }
            let json = serde_json::to_vec(new).map_err(|cause| FleetError::Form {
                name: name.to_owned(),
                cause,
            })?;
            let place: LogName = format!("{}/{:08}", folder(name)?, new.epoch).parse()?;
            match repository.log().append(&place, &json) {
                Ok(_) => return Ok(new.clone()),
                // Somebody else was faster: it is his.
                Err(LogError::Different { .. }) => {}
                Err(cause) => {
                    return Err(FleetError::Log {
                        name: name.to_owned(),
                        cause,
                    });
                }
            }
        }
        Err(FleetError::Removed {
            name: name.to_owned(),
        })
    }

    fn parse(name: &str, json: &[u8]) -> Result<Self, FleetError> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Beginning {
            version: u32,
        }
        let form = |cause| FleetError::Form {
            name: name.to_owned(),
            cause,
        };
        let beginning: Beginning = serde_json::from_slice(json).map_err(form)?;
        if beginning.version != FLEET_VERSION {
            return Err(FleetError::Version {
                name: name.to_owned(),
                version: beginning.version,
            });
        }
        serde_json::from_slice(json).map_err(form)
    }
}

/// Where the epochs of a fleet lie. A name may hold what no name of the log may.
fn folder(name: &str) -> Result<LogName, LogNameError> {
    let hash = Id::of(name.as_bytes()).to_string();
    let digits: String = hash.chars().take(NAME_HASH_DIGITS).collect();
    format!("{FOLDER}/{digits}").parse()
}

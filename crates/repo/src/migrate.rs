//! Changes of a whole repository to a newer form, under the names that restic gives them.
//! It must never leave a repository without a config that can be opened: the old one stays until the new one is stored, or
//! is put back.

use lifeboat_format::Config;

use crate::backend::{BackendError, FileName, Trouble};
use crate::{LockGuard, RepoError, Repository};

/// A change of the whole repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migration {
    /// From format version 1 to 2, which can hold compressed blobs.
    UpgradeRepoV2,
}

/// Whether a migration can be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MigrationState {
    /// It can.
    Applicable,
    /// It can't, for this reason.
    NotApplicable(String),
}

impl Migration {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::UpgradeRepoV2];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::UpgradeRepoV2 => "upgrade_repo_v2",
        }
    }

    /// What it does.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::UpgradeRepoV2 => "upgrade the repository to format version 2, which compresses",
        }
    }

    /// The migration of a name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// Whether it can be applied.
    #[must_use]
    pub fn state(self, config: &Config) -> MigrationState {
        match self {
            Self::UpgradeRepoV2 if config.version == 1 => MigrationState::Applicable,
            Self::UpgradeRepoV2 => MigrationState::NotApplicable(format!(
                "the repository has version {} already",
                config.version
            )),
        }
    }
}

impl Repository {
    /// Applies a migration. The repository should have been checked before, and be opened anew afterwards.
    ///
    /// # Errors
    /// [`RepoError::Refused`] if it can't be applied, [`RepoError::ConfigNotReplaced`] if it failed.
    pub fn migrate(&self, migration: Migration, lock: &LockGuard) -> Result<(), RepoError> {
        if let MigrationState::NotApplicable(why) = migration.state(self.config()) {
            return Err(RepoError::Refused(format!(
                "{} can't be applied: {why}",
                migration.name()
            )));
        }
        let json = match migration {
            Migration::UpgradeRepoV2 => Config::with_version(&self.config_json, 2),
        };
        let json = json.map_err(|cause| self.damaged(FileName::CONFIG, cause))?;
        self.replace_config(&json, lock)
    }

    /// The config as it was when the repository was opened, to be stored: what a place says that it holds is not to be
    /// kept or put back unseen.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn sealed_config(&self) -> Result<Vec<u8>, RepoError> {
        self.seal(&self.config_json)
    }

    fn replace_config(&self, json: &[u8], lock: &LockGuard) -> Result<(), RepoError> {
        let (old, new) = (self.sealed_config()?, self.seal(json)?);
        lock.ensure()?;
        let replaced = self.save_config(&new, json).or_else(|error| {
            // Some servers never overwrite. Between these two there is no config, so the caller keeps a copy.
            if never_overwrites(&error) && self.has_config(&self.config_json) {
                self.backend().remove(FileName::CONFIG)?;
                return self.save_config(&new, json);
            }
            Err(error)
        });
        let Err(cause) = replaced else {
            return Ok(());
        };
        if self.has_config(json) {
            // Its answer was lost, and it is there.
            return Ok(());
        }
        let is_old =
            self.has_config(&self.config_json) || self.save_config(&old, &self.config_json).is_ok();
        Err(RepoError::ConfigNotReplaced {
            location: self.backend().location(),
            is_old,
            cause: Box::new(cause),
        })
    }

    /// Writes a config and reads it back.
    fn save_config(&self, sealed: &[u8], json: &[u8]) -> Result<(), RepoError> {
        self.backend().save(FileName::CONFIG, &[sealed])?;
        if self.load_json(FileName::CONFIG)? == json {
            Ok(())
        } else {
            Err(RepoError::Refused(
                "the config is not what was written".into(),
            ))
        }
    }

    fn has_config(&self, json: &[u8]) -> bool {
        let stored = self.load_json(FileName::CONFIG);
        stored.is_ok_and(|stored| stored == json)
    }
}

/// Whether a place may have refused only because there is a config already.
fn never_overwrites(error: &RepoError) -> bool {
    match error {
        RepoError::Backend(BackendError::Remote { trouble, .. }) => {
            matches!(
                trouble,
                Trouble::Denied | Trouble::Protocol | Trouble::Other
            )
        }
        RepoError::Backend(BackendError::Io { cause, .. }) => {
            cause.kind() == std::io::ErrorKind::AlreadyExists
        }
        _ => false,
    }
}

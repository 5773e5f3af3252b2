//! What a restore of a capture does, in order: which directory of it goes where, what is linked, what is written.
//! It must never lead into a place that holds something, nor let the control file come before anything else.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use lifeboat_state::postgres::recovery::{RECOVERY_SIGNAL, Recovery, SettingError};
use lifeboat_state::postgres::{BASE_DIR, CONFIG_DIR, Member, WAL_DIR};

/// Where the server keeps links to tablespaces.
const SPACES_DIR: &str = "pg_tblspc";
/// Where the server looks for its log.
const SERVER_WAL_DIR: &str = "pg_wal";
/// What the server reads after all other configuration; what is added to it counts.
const AUTO_CONF: &str = "postgresql.auto.conf";
/// The server's configuration.
const MAIN_CONF: &str = "postgresql.conf";
/// Who may connect, and as whom.
const ACCESS_FILES: [&str; 2] = ["pg_hba.conf", "pg_ident.conf"];
/// What would act on others as the original did: its archive, which two servers would damage, its standbys, the server that it
/// followed, the servers that it subscribed to, and whatever its commands do.
const LEAVE_ALONE: [(&str, &str); 7] = [
    ("archive_mode", "off"),
    ("archive_cleanup_command", ""),
    ("recovery_end_command", ""),
    ("primary_conninfo", ""),
    ("primary_slot_name", ""),
    ("synchronous_standby_names", ""),
    ("max_logical_replication_workers", "0"),
];
/// Targets that a server may have been told of before; it takes only one.
const TARGETS: [&str; 5] = [
    "recovery_target",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_xid",
];
/// Settings without which the server replays no log of one that had more, or does not read it at all.
const NEEDED: [&str; 7] = [
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
    "shared_preload_libraries",
    "wal_level",
];

/// Where a cluster is to go, and what becomes of it there.
#[derive(Clone, Debug)]
pub struct ClusterTarget {
    /// The data directory that is made.
    pub data: PathBuf,
    /// Other places for tablespaces, by where they were.
    pub spaces: BTreeMap<PathBuf, PathBuf>,
    /// A directory for all tablespaces that have no other place.
    pub spaces_below: Option<PathBuf>,
    /// How far the server replays when it starts; without it nothing is written that would start a recovery.
    pub recovery: Option<Recovery>,
}

/// What is at a path of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or an empty directory.
    Nothing,
    /// Something.
    Something,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A directory of the capture goes into a directory here, without these entries of it.
    Files {
        /// The directory in the capture.
        from: Vec<String>,
        /// Where it goes.
        to: PathBuf,
        /// What comes later, or not at all.
        without: Vec<String>,
    },
    /// A link to a tablespace.
    Link(Link),
    /// A file is written, or added to.
    Write(Written),
    /// The control file: from here on a server starts here.
    Control {
        /// The data directory.
        data: PathBuf,
    },
}

/// A link to a tablespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The link.
    pub at: PathBuf,
    /// Where it leads.
    pub to: PathBuf,
}

/// A file that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Which.
    pub path: PathBuf,
    /// What goes to its end.
    pub text: String,
    /// Only if there is no such file.
    pub only_if_absent: bool,
}

/// What a restore does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterPlan {
    /// In this order.
    pub steps: Vec<Step>,
}

/// A restore that can't be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterPlanError {
    /// A place is taken.
    #[error("{} is not empty: a cluster is restored only into a place of its own", .0.display())]
    Taken(PathBuf),
    /// A place of a tablespace is taken.
    #[error("{} is not empty, and the tablespace {oid} would go there", .path.display())]
    SpaceTaken {
        /// The tablespace.
        oid: u32,
        /// Its place.
        path: PathBuf,
    },
    /// Two parts of the cluster would be in one place, or one within the other.
    #[error("{} and {} can't both hold parts of the cluster", .0.display(), .1.display())]
    Overlap(PathBuf, PathBuf),
    /// A place is named for a tablespace that the capture does not have.
    #[error("the capture has no tablespace at {}; it has {}", .wrong.display(), listed(.known))]
    UnknownSpace {
        /// The one that was named.
        wrong: PathBuf,
        /// Those that there are.
        known: Vec<PathBuf>,
    },
    /// A path is not absolute, and the server would look for it elsewhere.
    #[error("{} is not an absolute path", .0.display())]
    Relative(PathBuf),
    /// A setting can't be written.
    #[error(transparent)]
    Setting(#[from] SettingError),
}

fn listed(paths: &[PathBuf]) -> String {
    match paths {
        [] => "none".to_owned(),
        paths => {
            let paths: Vec<String> = paths
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            paths.join(", ")
        }
    }
}

/// Decides. `look` tells what is at a path now.
///
/// # Errors
/// When a place is taken, or can't be one.
pub fn plan(
    member: &Member,
    target: &ClusterTarget,
    look: impl Fn(&Path) -> Found,
) -> Result<ClusterPlan, ClusterPlanError> {
    let capture = &member.postgres;
    let known: Vec<PathBuf> = capture
        .tablespaces
        .iter()
        .map(|space| space.location.clone())
        .collect();
    if let Some(wrong) = target.spaces.keys().find(|space| !known.contains(space)) {
        return Err(ClusterPlanError::UnknownSpace {
            wrong: wrong.clone(),
            known,
        });
    }
    let mut places = vec![target.data.clone()];
    let mut spaces = Vec::new();
    for space in &capture.tablespaces {
        let below = target
            .spaces_below
            .as_ref()
            .map(|dir| dir.join(space.oid.to_string()));
        let place = target.spaces.get(&space.location).cloned().or(below);
        let place = place.unwrap_or_else(|| space.location.clone());
        if look(&place) == Found::Something {
            return Err(ClusterPlanError::SpaceTaken {
                oid: space.oid,
                path: place,
            });
        }
        places.push(place.clone());
        spaces.push((space.oid, place));
    }
    if let Some(relative) = places.iter().find(|place| place.is_relative()) {
        return Err(ClusterPlanError::Relative(relative.clone()));
    }
    if look(&target.data) == Found::Something {
        return Err(ClusterPlanError::Taken(target.data.clone()));
    }
    for (number, one) in places.iter().enumerate() {
        let others = places.iter().skip(number + 1);
        if let Some(other) = others
            .into_iter()
            .find(|other| one.starts_with(other) || other.starts_with(one))
        {
            return Err(ClusterPlanError::Overlap(one.clone(), other.clone()));
        }
    }
    let data = &target.data;
    let mut without = vec!["global/pg_control".to_owned(), "tablespace_map".to_owned()];
    without.extend(spaces.iter().map(|(oid, _)| format!("{SPACES_DIR}/{oid}")));
    let mut steps = vec![Step::Files {
        from: vec![BASE_DIR.to_owned()],
        to: data.clone(),
        without,
    }];
    for (oid, place) in &spaces {
        steps.push(Step::Files {
            from: vec![BASE_DIR.to_owned(), SPACES_DIR.to_owned(), oid.to_string()],
            to: place.clone(),
            without: Vec::new(),
        });
    }
    steps.push(Step::Files {
        from: vec![WAL_DIR.to_owned()],
        to: data.join(SERVER_WAL_DIR),
        without: Vec::new(),
    });
    if !capture.config_files.is_empty() {
        steps.push(Step::Files {
            from: vec![CONFIG_DIR.to_owned()],
            to: data.join("restored_config"),
            without: Vec::new(),
        });
    }
    for (oid, place) in spaces {
        steps.push(Step::Link(Link {
            at: data.join(SPACES_DIR).join(oid.to_string()),
            to: place,
        }));
    }
    steps.extend(configuration(member, target)?.into_iter().map(Step::Write));
    steps.push(Step::Control { data: data.clone() });
    Ok(ClusterPlan { steps })
}

/// What the server needs to start at its new place.
fn configuration(
    member: &Member,
    target: &ClusterTarget,
) -> Result<Vec<Written>, ClusterPlanError> {
    use lifeboat_state::postgres::recovery::quoted;
    let mut main = String::from(
        "# The server's own configuration was not in its data directory; what was captured of it lies in restored_config/.\n",
    );
    for name in NEEDED {
        if let Some(value) = member.postgres.settings.get(name) {
            let value = quoted(value).ok_or(SettingError(name))?;
            main.push_str(&format!("{name} = {value}\n"));
        }
    }
    let mut written = vec![Written {
        path: target.data.join(MAIN_CONF),
        text: main,
        only_if_absent: true,
    }];
    for name in ACCESS_FILES {
        let text = match name {
            "pg_hba.conf" => {
                "# Only who is on this machine, as the user of the same name.\nlocal all all peer\n"
            }
            _ => "",
        };
        written.push(Written {
            path: target.data.join(name),
            text: text.to_owned(),
            only_if_absent: true,
        });
    }
    let mut auto = String::from(
        "\n# Written by a restore: what the original did to others, this server must not do.\n",
    );
    for (name, value) in LEAVE_ALONE {
        auto.push_str(&format!("{name} = '{value}'\n"));
    }
    if let Some(recovery) = &target.recovery {
        for name in TARGETS {
            auto.push_str(&format!("{name} = ''\n"));
        }
        auto.push_str(&recovery.settings()?);
        written.push(Written {
            path: target.data.join(RECOVERY_SIGNAL),
            text: String::new(),
            only_if_absent: false,
        });
    }
    written.push(Written {
        path: target.data.join(AUTO_CONF),
        text: auto,
        only_if_absent: false,
    });
    Ok(written)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files { from, to, .. } => {
                write!(f, "restore {} to {}", from.join("/"), to.display())
            }
            Self::Link(Link { at, to }) => write!(f, "link {} to {}", at.display(), to.display()),
            Self::Write(Written {
                path,
                only_if_absent: true,
                ..
            }) => write!(f, "write {} if the capture has none", path.display()),
            Self::Write(Written { path, text, .. }) if text.is_empty() => {
                write!(f, "make {}", path.display())
            }
            Self::Write(Written { path, .. }) => write!(f, "add to {}", path.display()),
            Self::Control { data } => write!(
                f,
                "restore {}, which lets a server start there",
                data.join("global/pg_control").display()
            ),
        }
    }
}

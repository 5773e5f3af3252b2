//! Restores dumps into a server as their plan says: each into a database of its own, which gets its name when it is whole.
//! It must never leave half a database under a name that somebody uses.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use lifeboat_flow::{Cancel, Cancelled, Counters, chain};
use lifeboat_format::{Id, Node, NodeKind};
use lifeboat_repo::{BlobReader, Index, Repository};
use lifeboat_state::postgres::client::{Address, Connection, PgError, Session};
use lifeboat_state::postgres::dump::{
    ClientPrograms, DUMPS_DIR, DumpRecord, FillError, Filling, GLOBALS_FILE, Globals,
    RoleStatement, fill, list_without_view_rows, name,
};

use super::super::parts::subtree;
use super::plan::{DumpPlan, DumpStep};
use super::pour::pour;
use crate::backup::ProtectError;
use crate::record::content;

/// How long the server may think about one statement; making a database copies a template.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);
/// A longer file holds no roles.
const GLOBALS_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// A restore of dumps that runs once.
pub struct DumpRestore<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// Its index.
    pub index: &'a Index,
    /// The tree of the capture.
    pub tree: Id,
    /// The server; the database that is connected with comes from the plan.
    pub address: &'a Address,
    /// The programs that restore.
    pub programs: &'a ClientPrograms,
    /// Memory for what is fetched, in bytes.
    pub memory_bytes: usize,
    /// Where progress is counted.
    pub counters: &'a Counters,
    /// Who is told what is done now.
    pub stage: &'a (dyn Fn(&DumpStep) + Sync),
    /// A directory for tables of contents, if nothing may be done that could lead to other servers: materialised views
    /// are not filled and subscriptions left out.
    pub secluded: Option<&'a Path>,
    /// The wish to stop.
    pub cancel: &'a Cancel,
}

/// What it did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DumpRestored {
    /// The databases, by their names.
    pub databases: Vec<String>,
    /// Dumps that were read, in bytes.
    pub bytes: u64,
    /// Materialised views that were not filled.
    pub views_left_out: u64,
}

/// A restore did not come to its end. What has its name is whole.
#[derive(Debug, thiserror::Error)]
pub enum DumpRestoreError {
    /// Reading the repository failed.
    #[error(transparent)]
    Protect(#[from] ProtectError),
    /// The capture lacks a part.
    #[error("the capture has no {0}")]
    NoPart(String),
    /// The server can't be asked.
    #[error("restore into the server")]
    Server(#[from] PgError),
    /// A role can't be made. The server's words have no password, and the statement would.
    #[error("make the role {role:?}: {words}")]
    Role {
        /// Which.
        role: String,
        /// What the server says.
        words: String,
    },
    /// A database can't be made.
    #[error("make the database for {database:?}")]
    Create {
        /// Whose.
        database: String,
        /// Why.
        #[source]
        cause: PgError,
    },
    /// A dump was not restored.
    #[error("restore the dump of {database:?}")]
    Fill {
        /// Whose.
        database: String,
        /// Why.
        #[source]
        cause: Box<FillError<ProtectError>>,
    },
    /// What belongs to a database can't be given to it.
    #[error("give {database:?} its settings, owner and rights")]
    Complete {
        /// Which.
        database: String,
        /// Why.
        #[source]
        cause: PgError,
    },
    /// All of a database is there, and can't have its name.
    #[error("give {temporary:?} the name {name:?}; all of it is there under the first name")]
    Name {
        /// The name that it has.
        temporary: String,
        /// The one that it should have.
        name: String,
        /// Why.
        #[source]
        cause: PgError,
    },
    /// It failed, and what there is of a database can't be removed.
    #[error("the database {temporary:?} is not whole, and could not be removed: {words}")]
    Left {
        /// Its name.
        temporary: String,
        /// Why it could not be removed.
        words: String,
        /// What failed first.
        cause: Box<DumpRestoreError>,
    },
    /// A table of contents can't be kept.
    #[error("write {}", .path.display())]
    List {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
}

impl From<Cancelled> for DumpRestoreError {
    fn from(stop: Cancelled) -> Self {
        Self::Protect(stop.into())
    }
}

/// The roles and tablespaces of a capture.
///
/// # Errors
/// When they can't be read.
pub fn globals_of(reader: &BlobReader<'_>, root: Id) -> Result<Globals, DumpRestoreError> {
    let tree = reader.tree(root).map_err(ProtectError::from)?;
    let node = tree.find(GLOBALS_FILE.as_bytes());
    let node = node.filter(|node| node.size_bytes <= GLOBALS_MAX_BYTES);
    let node = node.ok_or_else(|| DumpRestoreError::NoPart(GLOBALS_FILE.to_owned()))?;
    let text = content(reader, node).map_err(ProtectError::from)?;
    Ok(Globals::parse(&String::from_utf8_lossy(&text)))
}

impl DumpRestore<'_> {
    /// Does what the plan says.
    ///
    /// # Errors
    /// When anything of it can't be done. Databases that have their names are whole; what was begun is removed, or named in
    /// the error if it is whole too or can't be removed.
    pub fn run(&self, plan: &DumpPlan) -> Result<DumpRestored, DumpRestoreError> {
        let reader = BlobReader::new(self.repository, self.index);
        let mut done = DumpRestored::default();
        let mut begun = None;
        let worked = plan.steps.iter().try_for_each(|step| {
            self.cancel.check()?;
            (self.stage)(step);
            self.step(plan, step, &reader, &mut begun, &mut done)
        });
        match (worked, begun) {
            (Ok(()), _) => Ok(done),
            (Err(error), None) => Err(error),
            (Err(error), Some(temporary)) => Err(match self.remove(plan, temporary) {
                Ok(()) => error,
                Err(cause) => DumpRestoreError::Left {
                    temporary: temporary.to_owned(),
                    words: chain(&cause),
                    cause: Box::new(error),
                },
            }),
        }
    }

    /// Removes a database that is not whole. Somebody may wish to stop, and this is a part of it.
    fn remove(&self, plan: &DumpPlan, temporary: &str) -> Result<(), PgError> {
        let cancel = Cancel::new();
        let mut connection = self.connect(plan, &cancel)?;
        let drop = format!("drop database if exists {} with (force)", name(temporary));
        say(&mut connection, &drop, &cancel)
    }

    /// Does one step; `begun` is the database that is not whole yet.
    fn step<'p>(
        &self,
        plan: &'p DumpPlan,
        step: &'p DumpStep,
        reader: &BlobReader<'_>,
        begun: &mut Option<&'p str>,
        done: &mut DumpRestored,
    ) -> Result<(), DumpRestoreError> {
        let cancel = self.cancel;
        match step {
            DumpStep::Roles(statements) => self.roles(plan, statements),
            DumpStep::Create { dump, temporary } => {
                let mut connection = self.connect(plan, cancel)?;
                let sql = dump.database.create(temporary, plan.version);
                let made = say(&mut connection, &sql, cancel);
                // What the server refuses to make may be there, and somebody else's.
                if !matches!(made, Err(PgError::Refused { .. })) {
                    *begun = Some(temporary);
                }
                made.map_err(|cause| DumpRestoreError::Create {
                    database: dump.database.name.clone(),
                    cause,
                })
            }
            DumpStep::Fill { dump, temporary } => self.fill(plan, dump, temporary, reader, done),
            DumpStep::Complete { dump, temporary } => {
                let mut connection = self.connect(plan, cancel)?;
                let mut all = dump
                    .database
                    .properties(temporary, !plan.no_owner)
                    .into_iter();
                let said = all.try_for_each(|sql| say(&mut connection, &sql, cancel));
                said.map_err(|cause| DumpRestoreError::Complete {
                    database: dump.database.name.clone(),
                    cause: without_statement(cause),
                })
            }
            DumpStep::Name {
                temporary,
                name: wanted,
                aside,
            } => {
                *begun = None;
                let renamed = |from: &str, to: &str| {
                    format!("alter database {} rename to {}", name(from), name(to))
                };
                let mut all = vec!["begin".to_owned()];
                all.extend(aside.as_ref().map(|aside| renamed(wanted, aside)));
                all.push(renamed(temporary, wanted));
                all.push("commit".to_owned());
                let named = self.connect(plan, cancel).and_then(|mut connection| {
                    all.iter()
                        .try_for_each(|sql| say(&mut connection, sql, cancel))
                });
                named.map_err(|cause| DumpRestoreError::Name {
                    temporary: temporary.clone(),
                    name: wanted.clone(),
                    cause,
                })?;
                done.databases.push(wanted.clone());
                self.counters.files_done.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    fn connect(&self, plan: &DumpPlan, cancel: &Cancel) -> Result<Connection, PgError> {
        let mut address = self.address.clone();
        address.database.clone_from(&plan.home);
        Connection::open(&address, Session::Queries, cancel)
    }

    /// Makes roles, all or none: one that is there is left as it is the next time.
    fn roles(&self, plan: &DumpPlan, statements: &[RoleStatement]) -> Result<(), DumpRestoreError> {
        let mut connection = self.connect(plan, self.cancel)?;
        say(&mut connection, "begin", self.cancel)?;
        for RoleStatement { role, sql, .. } in statements {
            match say(&mut connection, sql, self.cancel) {
                // Its own text would begin with the statement.
                Err(PgError::Refused { cause, .. }) => {
                    return Err(DumpRestoreError::Role {
                        role: role.clone(),
                        words: chain(&cause),
                    });
                }
                other => other?,
            }
        }
        Ok(say(&mut connection, "commit", self.cancel)?)
    }

    fn fill(
        &self,
        plan: &DumpPlan,
        dump: &DumpRecord,
        temporary: &str,
        reader: &BlobReader<'_>,
        done: &mut DumpRestored,
    ) -> Result<(), DumpRestoreError> {
        let node = self.node(reader, dump)?;
        let ids = node.content.unwrap_or_default();
        let counters = self.counters;
        let count = |bytes| {
            counters.bytes_done.fetch_add(bytes, Ordering::Relaxed);
        };
        let failed = |error| match error {
            FillError::Cancelled(stop) => stop.into(),
            error => DumpRestoreError::Fill {
                database: dump.database.name.clone(),
                cause: Box::new(error),
            },
        };
        let list = match self.secluded {
            None => None,
            Some(dir) => {
                let feed = |out: &mut dyn Write| {
                    pour(reader, &ids, self.memory_bytes, self.cancel, out, &|_| {})
                };
                let (list, views) =
                    list_without_view_rows(self.programs, feed, self.cancel).map_err(failed)?;
                done.views_left_out += views;
                let path = dir.join(format!("{temporary}.list"));
                let written = File::options()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&path)
                    .and_then(|mut file| file.write_all(list.as_bytes()));
                match written {
                    Ok(()) => Some(path),
                    Err(cause) => return Err(DumpRestoreError::List { path, cause }),
                }
            }
        };
        let filling = Filling {
            no_owner: plan.no_owner,
            no_tablespaces: !plan.missing_tablespaces.is_empty(),
            no_subscriptions: self.secluded.is_some(),
            list: list.as_deref(),
        };
        let feed =
            |out: &mut dyn Write| pour(reader, &ids, self.memory_bytes, self.cancel, out, &count);
        let filled = fill(
            self.programs,
            self.address,
            temporary,
            &filling,
            feed,
            self.cancel,
        );
        filled.map_err(failed)?;
        done.bytes += node.size_bytes;
        Ok(())
    }

    /// The file of a dump.
    fn node(&self, reader: &BlobReader<'_>, dump: &DumpRecord) -> Result<Node, DumpRestoreError> {
        let missing = || DumpRestoreError::NoPart(format!("{DUMPS_DIR}/{}", dump.file));
        let dir = subtree(reader, self.tree, &[DUMPS_DIR]).map_err(ProtectError::from)?;
        let dir = reader
            .tree(dir.ok_or_else(missing)?)
            .map_err(ProtectError::from)?;
        let node = dir.find(dump.file.as_bytes());
        node.filter(|node| node.kind == NodeKind::File)
            .cloned()
            .ok_or_else(missing)
    }
}

fn say(connection: &mut Connection, sql: &str, cancel: &Cancel) -> Result<(), PgError> {
    connection
        .query(sql, Some(ANSWER_TIMEOUT), cancel)
        .map(drop)
}

/// The error without the statement that it is of: settings may hold secrets.
fn without_statement(error: PgError) -> PgError {
    match error {
        PgError::Refused { cause, .. } => PgError::Refused {
            doing: "give it its settings and rights".to_owned(),
            cause,
        },
        other => other,
    }
}

//! Proves a logical capture: all of it is restored into an empty cluster of our own and compared with what was dumped.
//! It must never reach a live server, nor call a capture bad because something of this machine was in the way.

use std::path::{Path, PathBuf};
use std::time::Instant;

use lifeboat_flow::{Cancel, Counters, chain};
use lifeboat_format::Id;
use lifeboat_repo::{BlobReader, Index, Repository};
use lifeboat_state::postgres::client::{Connection, PgError, Session};
use lifeboat_state::postgres::dump::{
    ClientPrograms, FillError, LogicalMember, Needed, TargetFacts,
};
use lifeboat_state::postgres::verify::{
    Baseline, Check, Closeness, Found, Preload, Programs, Progress, Proof, Report, ScratchOptions,
    ScratchServer, Verdict, is_not_of_the_capture, major_of, make_cluster, measure,
};

use super::super::verify::{ROOM_BYTES, SUPERUSER, free_bytes, is_damage, not_recoverable};
use super::plan::{DumpRequest, plan_dumps};
use super::restore::{DumpRestore, DumpRestoreError, DumpRestored, globals_of};
use crate::backup::ProtectError;

/// The database that the scratch server is asked with.
const HOME: &str = "template1";
/// What says nothing of the dumps: an extension that wants to be loaded when the server starts, and a server that was ended.
const SAYS_NOTHING: [&str; 3] = [
    "shared_preload_libraries",
    "server closed the connection",
    "transaction_timeout",
];
/// Views that were not filled have no rows.
const EMPTY_VIEWS: &str = "select n.nspname, c.relname from pg_catalog.pg_class c \
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relkind = 'm' and not c.relispopulated";

/// A verification that runs once.
pub struct DumpVerification<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// Its index.
    pub index: &'a Index,
    /// The tree of the capture.
    pub tree: Id,
    /// Its record.
    pub member: &'a LogicalMember,
    /// An empty directory that everything goes into; whoever made it removes it.
    pub scratch: &'a Path,
    /// The directory of PostgreSQL's programs, if somebody named one.
    pub programs: Option<&'a Path>,
    /// Directories to look for them in after those that are known.
    pub other_dirs: &'a [PathBuf],
    /// Libraries that somebody vouches for, beside those that are needed.
    pub vouched: &'a [String],
    /// Memory for what is fetched, in bytes.
    pub memory_bytes: usize,
    /// Where progress is counted.
    pub counters: &'a Counters,
    /// The wish to stop.
    pub cancel: &'a Cancel,
}

/// Why a verification came to an end before its end.
enum End {
    Verdict(Verdict),
    Failed(ProtectError),
}

impl From<ProtectError> for End {
    fn from(error: ProtectError) -> Self {
        Self::Failed(error)
    }
}

fn undetermined(why: impl Into<String>) -> End {
    End::Verdict(Verdict::Undetermined { why: why.into() })
}

/// By the words of a server or program.
fn by_words(words: String) -> End {
    let says_nothing = SAYS_NOTHING.iter().any(|part| words.contains(part));
    match says_nothing || is_not_of_the_capture(&words) {
        true => undetermined(words),
        false => End::Verdict(not_recoverable(words).verdict),
    }
}

impl DumpVerification<'_> {
    /// Runs it. What happened is told as a verdict.
    ///
    /// # Errors
    /// When somebody wishes to stop, or the repository can't be used at all.
    pub fn run(&self) -> Result<Proof, ProtectError> {
        let mut report = Report::default();
        let verdict = match self.prove(&mut report) {
            Ok(()) => report.verdict(),
            // What was interrupted fails in many ways, and says nothing of the capture.
            Err(End::Verdict(verdict)) => {
                self.cancel.check()?;
                verdict
            }
            Err(End::Failed(error)) => return Err(error),
        };
        Ok(Proof { verdict, report })
    }

    fn prove(&self, report: &mut Report) -> Result<(), End> {
        let empty = Baseline::default();
        let baseline = self.member.baseline.as_ref().unwrap_or(&empty);
        report.skipped.clone_from(&baseline.skipped);
        self.has_room(baseline)?;
        let (programs, clients) = self.programs()?;
        report.server_version = Some(programs.version().to_owned());
        let preload = Preload::choose(&baseline.preload_libraries, self.vouched);
        report.libraries_left_out.clone_from(&preload.left_out);
        let missing = programs.missing(&preload.loaded, &baseline.extensions());
        if !missing.is_empty() {
            return Err(undetermined(format!(
                "{} can't be found here: install what the databases use for PostgreSQL {}",
                missing.join(", "),
                programs.major()
            )));
        }
        let superuser = Some(baseline.superuser.as_str()).filter(|name| !name.is_empty());
        let superuser = superuser.unwrap_or(SUPERUSER).to_owned();
        let server = self.start(&programs, superuser, preload)?;
        let began = Instant::now();
        let restored = self.restore(&server, &clients)?;
        made(report, "restore", began, Found::Nothing);
        if restored.views_left_out > 0 {
            let views = match restored.views_left_out {
                1 => "1 materialised view was".to_owned(),
                count => format!("{count} materialised views were"),
            };
            let why = format!("{views} not filled: a query could lead to other servers");
            made(report, "views", Instant::now(), Found::Unknown(why));
        }
        let began = Instant::now();
        let wanted = self.without_views(&server, baseline)?;
        let found = measure(server.address(), u64::MAX, self.cancel).map_err(end_of_asking)?;
        made(
            report,
            "baseline",
            began,
            wanted.compare(&found, Closeness::Same),
        );
        let stopped = server.stop(self.cancel);
        self.cancel.check().map_err(ProtectError::from)?;
        stopped.map_err(|error| undetermined(chain(&error)))
    }

    /// The databases had this size with their dead rows; without them and with what a restore writes they have hardly more.
    fn has_room(&self, baseline: &Baseline) -> Result<(), End> {
        let sizes = baseline
            .databases
            .iter()
            .map(|database| database.size_bytes);
        let needed = sizes
            .sum::<u64>()
            .max(self.member.bytes)
            .saturating_add(ROOM_BYTES);
        match free_bytes(self.scratch) {
            Ok(free) if free < needed => Err(undetermined(format!(
                "{} has {free} bytes free, and the databases need {needed}",
                self.scratch.display()
            ))),
            _ => Ok(()),
        }
    }

    /// A server of the version that was dumped, and programs that can read the dumps.
    fn programs(&self) -> Result<(Programs, ClientPrograms), End> {
        let untold = || undetermined("the record of the capture does not tell its versions");
        let major = major_of(&self.member.engine_version).ok_or_else(untold)?;
        let dumped = major_of(&self.member.logical.dump_version).ok_or_else(untold)?;
        let programs = Programs::find(major, self.programs, self.other_dirs)
            .map_err(|error| undetermined(chain(&error)))?;
        let needed = Needed {
            at_least: dumped,
            best: major,
            by: "the dump",
        };
        let clients = ClientPrograms::find(needed, self.programs, self.other_dirs)
            .map_err(|error| undetermined(chain(&error)))?;
        Ok((programs, clients))
    }

    /// Starts a server on an empty cluster.
    fn start(
        &self,
        programs: &Programs,
        superuser: String,
        preload: Preload,
    ) -> Result<ScratchServer, End> {
        let data = self.scratch.join("data");
        make_cluster(programs, &data, &superuser).map_err(|error| undetermined(chain(&error)))?;
        let options = ScratchOptions {
            data,
            run: self.scratch.join("run"),
            within: self.scratch.to_path_buf(),
            superuser,
            user: None,
            preload,
            environment: Vec::new(),
        };
        let started = ScratchServer::start(programs, &options, None, None);
        let mut server = started.map_err(|error| undetermined(chain(&error)))?;
        let waited = server.wait(None, &Progress::default(), self.cancel);
        self.cancel.check().map_err(ProtectError::from)?;
        waited.map_err(|error| undetermined(chain(&error)))?;
        Ok(server)
    }

    /// Restores all of the capture on the way of every restore.
    fn restore(
        &self,
        server: &ScratchServer,
        clients: &ClientPrograms,
    ) -> Result<DumpRestored, End> {
        let reader = BlobReader::new(self.repository, self.index);
        let globals = globals_of(&reader, self.tree).map_err(end_of_restore)?;
        let mut connection = server.connect(HOME, self.cancel).map_err(end_of_asking)?;
        let target = TargetFacts::ask(&mut connection, self.cancel)
            .map_err(|error| undetermined(chain(&error)))?;
        drop(connection);
        let request = DumpRequest {
            databases: &[],
            rename: None,
            globals: true,
            no_owner: false,
            // The new cluster has a database `postgres`, which is empty.
            replace: true,
            connected: HOME,
            now: self.member.instant,
        };
        let plan = plan_dumps(self.member, &globals, &request, &target)
            .map_err(|error| undetermined(chain(&error)))?;
        let restore = DumpRestore {
            repository: self.repository,
            index: self.index,
            tree: self.tree,
            address: server.address(),
            programs: clients,
            memory_bytes: self.memory_bytes,
            counters: self.counters,
            stage: &|_| {},
            secluded: Some(self.scratch),
            cancel: self.cancel,
        };
        restore.run(&plan).map_err(end_of_restore)
    }

    /// What must be there: all but what is in views that were not filled.
    fn without_views(&self, server: &ScratchServer, baseline: &Baseline) -> Result<Baseline, End> {
        let mut wanted = baseline.clone();
        for database in &mut wanted.databases {
            let mut address = server.address().clone();
            address.database.clone_from(&database.name);
            let asked = Connection::open(&address, Session::Queries, self.cancel);
            let views = asked
                .and_then(|mut connection| connection.query(EMPTY_VIEWS, None, self.cancel))
                .map_err(end_of_asking)?;
            database.largest.retain(|table| {
                let is_it = |row: &Vec<Option<String>>| {
                    let [Some(schema), Some(name)] = row.as_slice() else {
                        return false;
                    };
                    *schema == table.schema && *name == table.name
                };
                !views.iter().any(is_it)
            });
        }
        Ok(wanted)
    }
}

fn made(report: &mut Report, name: &'static str, began: Instant, found: Found) {
    report.checks.push(Check {
        name,
        seconds: began.elapsed().as_secs_f64(),
        found,
    });
}

fn end_of_asking(error: PgError) -> End {
    match error {
        PgError::Cancelled(stop) => End::Failed(stop.into()),
        error => undetermined(chain(&error)),
    }
}

fn end_of_restore(error: DumpRestoreError) -> End {
    let words = chain(&error);
    match error {
        DumpRestoreError::Protect(error) => end_of_reading(error, words),
        DumpRestoreError::NoPart(_) => End::Verdict(not_recoverable(words).verdict),
        DumpRestoreError::Role { .. }
        | DumpRestoreError::Complete {
            cause: PgError::Refused { .. },
            ..
        } => by_words(words),
        DumpRestoreError::Fill { cause, .. } => match *cause {
            FillError::Refused { .. } => by_words(words),
            FillError::Lost(error) => end_of_reading(error, words),
            FillError::Program { .. } | FillError::Killed(_) | FillError::Cancelled(_) => {
                undetermined(words)
            }
        },
        // The scratch goes as a whole.
        DumpRestoreError::Left { cause, .. } => end_of_restore(*cause),
        // A locale, most often, that this machine does not have, or a server that went away.
        DumpRestoreError::Create { .. }
        | DumpRestoreError::Complete { .. }
        | DumpRestoreError::Server(_)
        | DumpRestoreError::Name { .. }
        | DumpRestoreError::List { .. } => undetermined(words),
    }
}

/// What is damaged or gone can't be restored; a place that does not answer says nothing of the capture.
fn end_of_reading(error: ProtectError, words: String) -> End {
    match error {
        ProtectError::Repo(error) if is_damage(&error) => {
            End::Verdict(not_recoverable(words).verdict)
        }
        error @ (ProtectError::Repo(_) | ProtectError::Cancelled(_)) => End::Failed(error),
        _ => undetermined(words),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lifeboat_flow::Cancelled;
    use lifeboat_state::postgres::client::ServerError;

    use super::*;

    #[test]
    fn only_what_a_server_refuses_is_judged_by_its_words() {
        let of = |cause| {
            let database = "app".to_owned();
            match end_of_restore(DumpRestoreError::Complete { database, cause }) {
                End::Verdict(verdict) => verdict,
                End::Failed(error) => panic!("{error}"),
            }
        };
        let refused = |message: &str| PgError::Refused {
            doing: "give it its settings and rights".into(),
            cause: ServerError {
                message: message.into(),
                ..ServerError::default()
            },
        };
        let verdict = of(refused("role \"x\" does not exist"));
        assert!(
            matches!(verdict, Verdict::NotRecoverable { .. }),
            "{verdict:?}"
        );
        for cause in [
            refused("could not load library"),
            PgError::Cancelled(Cancelled),
            PgError::Silent(Duration::ZERO),
            PgError::Protocol("x".into()),
        ] {
            let verdict = of(cause);
            assert!(
                matches!(verdict, Verdict::Undetermined { .. }),
                "{verdict:?}"
            );
        }
    }
}

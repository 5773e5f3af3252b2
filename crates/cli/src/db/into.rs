//! `lifeboat db restore` of a logical capture: its dumps become files, or new databases of a server that runs.
//! It must never fill a database that is there, nor give one its name before it is whole.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::Id;
use lifeboat_protect::postgres::{
    DumpPlan, DumpRequest, DumpRestore, DumpRestoreError, DumpStep, Found, globals_of, plan_dumps,
};
use lifeboat_protect::{Overwrite, Restore, RestoreOptions, SelectPath, Selected};
use lifeboat_repo::{BlobReader, Index};
use lifeboat_state::postgres::client::{Connection, Session as Sort};
use lifeboat_state::postgres::dump::{
    ClientPrograms, DUMPS_DIR, GLOBALS_FILE, LogicalMember, Needed, TargetFacts,
};
use lifeboat_state::postgres::verify::major_of;
use lifeboat_state::{TargetOptions, VolumeTarget};
use serde_json::json;

use super::restore::look;
use super::server::address_of;
use super::verify::path_dirs;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::progress::{self, Shown, workers};
use crate::repo::session::Session;
use crate::ui::Ui;

/// The options for a logical capture.
#[derive(Args)]
#[command(next_help_heading = "Where dumps go (logical captures)")]
pub struct IntoArgs {
    /// The server that gets the databases, as --postgres of a capture names it; its password comes from PGPASSWORD,
    /// PGPASSFILE or ~/.pgpass
    #[arg(long, value_name = "URL", conflicts_with = "target")]
    into: Option<String>,
    /// A database to restore, instead of all; several by repeating it
    #[arg(long, value_name = "NAME")]
    database: Vec<String>,
    /// Another name for the one database
    #[arg(long = "as", value_name = "NAME", requires = "into")]
    rename: Option<String>,
    /// Make the roles of the capture that the server lacks, with their passwords; those that are there stay as they are
    #[arg(long, requires = "into")]
    globals: bool,
    /// Leave out who owns what and who may do what: all of it belongs to who restores
    #[arg(long, requires = "into", conflicts_with = "globals")]
    no_owner: bool,
    /// Take the names of databases that are there; each of those is kept under the name NAME_before_TIME
    #[arg(long, requires = "into")]
    replace: bool,
    /// The directory of pg_restore, if it is in no usual place
    #[arg(long, value_name = "DIR", requires = "into")]
    programs: Option<PathBuf>,
}

/// What is restored.
pub struct Restoring<'a> {
    pub session: &'a Session,
    pub index: &'a Index,
    pub id: Id,
    pub tree: Id,
    pub member: &'a LogicalMember,
    pub memory_bytes: usize,
    pub dry_run: bool,
}

impl IntoArgs {
    /// Whether anything is said that concerns dumps alone.
    pub fn is_used(&self) -> bool {
        self.into.is_some() || !self.database.is_empty() || self.is_for_server()
    }

    /// Whether anything is said that concerns a server alone.
    fn is_for_server(&self) -> bool {
        self.globals
            || self.no_owner
            || self.replace
            || self.rename.is_some()
            || self.programs.is_some()
    }

    pub fn run(&self, restoring: &Restoring<'_>, target: Option<&Path>, ui: &Ui) -> Outcome {
        let member = restoring.member;
        if !ui.json {
            ui.say(format_args!(
                "capture of {}/{} as of {}: PostgreSQL {}, {}",
                member.app,
                member.member,
                format::time(member.instant),
                member.engine_version,
                format::count(member.logical.databases.len() as u64, "database")
            ));
        }
        match (&self.into, target) {
            (Some(url), _) => self.to_server(url, restoring, ui),
            (None, Some(target)) => self.to_files(target, restoring, ui),
            (None, None) => Err(Failure::new("nothing says where to restore to")),
        }
    }

    fn to_server(&self, url: &str, restoring: &Restoring<'_>, ui: &Ui) -> Outcome {
        let Restoring {
            session, member, ..
        } = restoring;
        let address = address_of(
            "--into",
            url,
            "put the password into PGPASSWORD or ~/.pgpass",
        )?;
        let cancel = &session.cancel;
        let target = facts(&address, cancel)?;
        let untold = || Failure::new("the record of the capture does not tell its versions");
        let needed = Needed {
            at_least: major_of(&member.logical.dump_version).ok_or_else(untold)?,
            best: target.major(),
            by: "the dump",
        };
        let programs = ClientPrograms::find(needed, self.programs.as_deref(), &path_dirs())
            .and_then(|programs| programs.can_reach(&address).map(|()| programs))
            .map_err(|error| Failure::of_database(&error))?;
        let reader = BlobReader::new(&session.repository, restoring.index);
        let globals = globals_of(&reader, restoring.tree)?;
        let request = DumpRequest {
            databases: &self.database,
            rename: self.rename.as_deref(),
            globals: self.globals,
            no_owner: self.no_owner,
            replace: self.replace,
            connected: &address.database,
            now: lifeboat_repo::now(),
        };
        let plan = plan_dumps(member, &globals, &request, &target)
            .map_err(|error| Failure::of_database(&error))?;
        say_plan(ui, member, &plan, restoring.dry_run);
        if restoring.dry_run {
            return Ok(Exit::Done);
        }
        let counters = Counters::default();
        let stage = |step: &DumpStep| {
            if let DumpStep::Fill { dump, .. } = step {
                ui.say(format_args!(
                    "restoring {}, {}, as of {}",
                    dump.database.name,
                    format::bytes(dump.bytes),
                    format::time(dump.instant)
                ));
            }
        };
        let restore = DumpRestore {
            repository: &session.repository,
            index: restoring.index,
            tree: restoring.tree,
            address: &address,
            programs: &programs,
            memory_bytes: restoring.memory_bytes,
            counters: &counters,
            stage: &stage,
            secluded: None,
            cancel,
        };
        let shown = Shown {
            noun: "databases",
            stored: false,
            totals_known: false,
        };
        let began = Instant::now();
        let done = progress::during(ui, &counters, shown, || restore.run(&plan)).map_err(failed)?;
        let elapsed = began.elapsed();
        if ui.json {
            ui.object(&json!({
                "message_type": "summary", "into": address.to_string(), "snapshot_id": restoring.id.to_string(), "instant": member.instant,
                "databases": done.databases, "total_bytes": done.bytes, "seconds_elapsed": elapsed.as_secs_f64(),
            }));
            return Ok(Exit::Done);
        }
        ui.line(format_args!(
            "restored {} with {} in {}: {}",
            format::count(done.databases.len() as u64, "database"),
            format::bytes(done.bytes),
            format::duration(elapsed),
            done.databases.join(", ")
        ));
        ui.say("`vacuumdb --analyze-in-stages` lets the server plan its queries well again");
        Ok(Exit::Done)
    }

    fn to_files(&self, target: &Path, restoring: &Restoring<'_>, ui: &Ui) -> Outcome {
        let Restoring {
            session, member, ..
        } = restoring;
        if self.is_for_server() {
            return Err(Failure::new(
                "--as, --globals, --no-owner, --replace and --programs are for a restore into a server, and --target is a directory",
            )
            .hint("name the server with --into"));
        }
        let dumps = &member.logical.databases;
        let known = |name: &&String| dumps.iter().any(|dump| dump.database.name == **name);
        if let Some(name) = self.database.iter().find(|name| !known(name)) {
            return Err(Failure::new(format!(
                "the capture has no database {name:?}"
            )));
        }
        let is_wanted = |name: &String| self.database.is_empty() || self.database.contains(name);
        let wanted: Vec<_> = dumps
            .iter()
            .filter(|dump| is_wanted(&dump.database.name))
            .collect();
        if look(target) == Found::Something {
            return Err(Failure::new(format!("{} is not empty", target.display()))
                .hint("name a directory that is empty or not there"));
        }
        if restoring.dry_run {
            for dump in &wanted {
                let path = target.join(DUMPS_DIR).join(&dump.file);
                ui.line(format_args!(
                    "restore {} to {}",
                    dump.database.name,
                    path.display()
                ));
            }
            let path = target.join(GLOBALS_FILE);
            ui.line(format_args!("restore the roles to {}", path.display()));
            return Ok(Exit::Done);
        }
        let files: Vec<String> = wanted
            .iter()
            .map(|dump| format!("{DUMPS_DIR}/{}", dump.file))
            .collect();
        let select: SelectPath<'_> = &|path, _| {
            let is_dump = path.0.starts_with(format!("{DUMPS_DIR}/").as_bytes());
            let is_in = !is_dump || files.iter().any(|file| file.as_bytes() == path.0);
            Selected {
                restore: is_in,
                descend: is_in,
            }
        };
        let counters = Counters::default();
        let place = VolumeTarget::create(target, &TargetOptions::default())
            .map_err(|error| Failure::from_error(&error))?;
        let restore = Restore {
            repository: &session.repository,
            index: restoring.index,
            target: &place,
            options: RestoreOptions {
                overwrite: Overwrite::Always,
                delete: false,
                verify: false,
                dry_run: false,
                select: Some(select),
                workers: workers(),
                memory_bytes: restoring.memory_bytes,
            },
            counters: &counters,
            events: ui,
            cancel: &session.cancel,
        };
        let shown = Shown {
            noun: "files",
            stored: false,
            totals_known: true,
        };
        let done = progress::during(ui, &counters, shown, || restore.run(restoring.tree))?;
        if ui.json {
            ui.object(&json!({
                "message_type": "summary", "target": target.to_string_lossy(), "snapshot_id": restoring.id.to_string(),
                "instant": member.instant, "total_files": done.entries_restored, "total_bytes": done.bytes_restored,
                "problems": done.problems,
            }));
        } else {
            ui.say(format_args!(
                "restored {}, {} to {}",
                format::count(wanted.len() as u64, "dump"),
                format::bytes(done.bytes_restored),
                target.display()
            ));
            ui.line(format_args!(
                "roles: psql -f {} postgres",
                quoted(&target.join(GLOBALS_FILE))
            ));
            for dump in &wanted {
                // Every cluster has this one.
                let create = match &*dump.database.name {
                    "postgres" => "",
                    _ => "--create ",
                };
                ui.line(format_args!(
                    "{}: pg_restore {create}--exit-on-error --dbname postgres {}",
                    dump.database.name,
                    quoted(&target.join(DUMPS_DIR).join(&dump.file))
                ));
            }
        }
        match done.problems {
            0 => Ok(Exit::Done),
            problems => Err(Failure::new(format!(
                "{} not be restored",
                match problems {
                    1 => "1 file could".to_owned(),
                    problems => format!("{problems} files could"),
                }
            ))),
        }
    }
}

/// Why a restore ended, and what there is of the database that it was at.
fn failed(error: DumpRestoreError) -> Failure {
    let said = error.to_string();
    match error {
        // Whoever wished to stop must know of it too.
        DumpRestoreError::Left { cause, .. } => Failure::from(*cause).while_doing(said),
        error @ (DumpRestoreError::Fill { .. } | DumpRestoreError::Complete { .. }) => {
            let mut failure = Failure::from(error);
            failure.message += "; what there was of it is removed";
            failure
        }
        error => error.into(),
    }
}

fn facts(
    address: &lifeboat_state::postgres::client::Address,
    cancel: &Cancel,
) -> Result<TargetFacts, Failure> {
    let mut connection = Connection::open(address, Sort::Queries, cancel)
        .map_err(|error| Failure::of_database(&error))?;
    TargetFacts::ask(&mut connection, cancel).map_err(|error| Failure::of_database(&error))
}

fn say_plan(ui: &Ui, member: &LogicalMember, plan: &DumpPlan, dry_run: bool) {
    if ui.json {
        if dry_run {
            let steps: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
            ui.object(
                &json!({ "message_type": "plan", "instant": member.instant, "steps": steps }),
            );
        }
        return;
    }
    for space in &plan.missing_tablespaces {
        ui.warn(format_args!(
            "the server has no tablespace {space}: everything goes into the default one"
        ));
    }
    for database in &plan.left {
        let without = match database.has_properties() {
            true => ", without the settings, rights and limit of connections that it had",
            false => "",
        };
        ui.say(format_args!(
            "{} is there, and nothing of its own was in it: it is left as it is{without}",
            database.name
        ));
    }
    for step in plan.steps.iter().filter(|_| dry_run) {
        ui.line(step);
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    shlex::try_quote(&text).map_or_else(|_| text.to_string(), Into::into)
}

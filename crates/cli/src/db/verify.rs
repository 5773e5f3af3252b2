//! `lifeboat db verify`: a capture is restored into a scratch directory, started by a real server, and looked at.
//! It must never say that a capture comes back which was not seen to come back, and leaves nothing behind.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use lifeboat_flow::{Counters, Timestamp};
use lifeboat_plan::parse_go_duration;
use lifeboat_protect::postgres::{ClusterRestore, DumpVerification, Verification, record_of};
use lifeboat_repo::{BlobReader, PackListing};
use lifeboat_state::postgres::dump::Record;
use lifeboat_state::postgres::verify::{Found, Progress, Proof, Report, Verdict};
use serde_json::json;

use super::which::WhichArgs;
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::progress::{self, Shown, workers};
use crate::repo::session::{Locking, Session};
use crate::ui::Ui;

/// Prove that a captured PostgreSQL cluster, or its dumps, come back
///
/// The capture is restored into a scratch directory, recovered by a server of its version that nobody else can reach, and
/// checked: tables and indexes (pg_amcheck), page checksums, and what was in it when it was captured. Dumps are restored into
/// an empty cluster there, and what is in it must be what was dumped. The live server is not touched, and the scratch is removed. Exit status 20 says that it does not come back, 22 that it could not be determined.
///
/// Example: lifeboat db verify --name memos/db --scratch /srv/scratch
#[derive(Args)]
pub struct Verify {
    #[command(flatten)]
    which: WhichArgs,
    /// Where there is room for the whole cluster; the system's directory for temporary files if not given
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// The directory of PostgreSQL's programs, if they are in no usual place
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// A library that the scratch server loads as the live one did: it must do nothing by itself; several by repeating it
    #[arg(long, value_name = "LIBRARY")]
    preload: Vec<String>,
    /// Give up when the recovery makes no progress for so long, as 10m
    #[arg(long, value_name = "DURATION")]
    stuck_after: Option<String>,
}

impl Verify {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let stuck_after = self.stuck_after()?;
        let memory_bytes = global.memory_bytes()?;
        let session = Session::open_early(global, ui, Locking::Read)?;
        ui.enter("verify");
        let found = self.which.find(&session, ui, None)?;
        let (index, _) = session.index(ui, PackListing::Skip)?;
        let reader = BlobReader::new(&session.repository, &index);
        let record = record_of(&reader, found.snapshot.tree)?;
        let instant = match &record {
            Record::Physical(member) => member.instant,
            Record::Logical(member) => member.instant,
        };
        session.ensure()?;
        let scratch = self.scratch()?;
        ui.say(format_args!(
            "restoring {} as of {} into {}",
            self.which.name,
            format::time(instant),
            scratch.path().display()
        ));
        let counters = Counters::default();
        let recovery = Progress::default();
        let began = Instant::now();
        let shown = Shown {
            noun: "files",
            stored: false,
            totals_known: true,
        };
        let other_dirs = path_dirs();
        let prove = || match &record {
            Record::Physical(member) => Verification {
                restore: ClusterRestore {
                    repository: &session.repository,
                    index: &index,
                    tree: found.snapshot.tree,
                    workers: workers(),
                    memory_bytes,
                    counters: &counters,
                    events: ui,
                    cancel: &session.cancel,
                },
                member,
                scratch: scratch.path(),
                programs: self.programs.clone(),
                other_dirs: other_dirs.clone(),
                vouched: &self.preload,
                stuck_after,
                progress: &recovery,
            }
            .run(),
            Record::Logical(member) => DumpVerification {
                repository: &session.repository,
                index: &index,
                tree: found.snapshot.tree,
                member,
                scratch: scratch.path(),
                programs: self.programs.as_deref(),
                other_dirs: &other_dirs,
                vouched: &self.preload,
                memory_bytes,
                counters: &counters,
                cancel: &session.cancel,
            }
            .run(),
        };
        let proof = progress::during(ui, &counters, shown, prove);
        // Whatever came of it: a cluster is not left lying about.
        let removed = scratch.close();
        let proof = proof?;
        self.report(ui, instant, &proof, began.elapsed());
        removed.map_err(|error| {
            Failure::from_error(&error).while_doing("remove the scratch directory")
        })?;
        Ok(match proof.verdict {
            Verdict::Recoverable => Exit::Done,
            Verdict::NotRecoverable { .. } => Exit::NotRecoverable,
            Verdict::Undetermined { .. } => Exit::Undetermined,
        })
    }

    fn stuck_after(&self) -> Result<Option<Duration>, Failure> {
        let parsed = self
            .stuck_after
            .as_deref()
            .map(parse_go_duration)
            .transpose();
        parsed.map_err(|error| Failure::from_error(&error).while_doing("--stuck-after"))
    }

    fn scratch(&self) -> Result<tempfile::TempDir, Failure> {
        let base = self.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let made = std::path::absolute(&base).and_then(|base| {
            let made = tempfile::Builder::new()
                .prefix("lifeboat-verify-")
                .tempdir_in(base)?;
            // The server runs as somebody else if we are root, and must get through; what is in it is closed.
            let mode = std::fs::Permissions::from_mode(0o711);
            std::fs::set_permissions(made.path(), mode)?;
            Ok(made)
        });
        made.map_err(|error| {
            Failure::from_error(&error)
                .while_doing(format_args!(
                    "make a scratch directory in {}",
                    base.display()
                ))
                .hint("name a directory with room for the whole cluster: --scratch DIR")
        })
    }

    fn report(&self, ui: &Ui, instant: Timestamp, proof: &Proof, elapsed: Duration) {
        if ui.json {
            ui.object(&json!({
                "message_type": "summary", "name": self.which.name.to_string(), "instant": instant,
                "verdict": proof.verdict, "report": proof.report, "seconds_elapsed": elapsed.as_secs_f64(),
            }));
            return;
        }
        say_report(ui, &proof.report);
        match &proof.verdict {
            Verdict::Recoverable => ui.line(format_args!(
                "recoverable: {} as of {}, in {}",
                self.which.name,
                format::time(instant),
                format::duration(elapsed)
            )),
            Verdict::NotRecoverable { words } => ui.line(format_args!("NOT recoverable: {words}")),
            Verdict::Undetermined { why } => {
                ui.line(format_args!("could not be determined: {why}"))
            }
        }
    }
}

fn say_report(ui: &Ui, report: &Report) {
    if let (Some(version), Some(seconds)) = (&report.server_version, report.recovery_seconds) {
        ui.say(format_args!(
            "PostgreSQL {version} had recovered it after {seconds:.1} s"
        ));
    }
    if let (Some(position), Some(timeline)) = (report.position, report.timeline) {
        ui.say(format_args!("it came to {position} on timeline {timeline}"));
    }
    for library in &report.libraries_left_out {
        ui.say(format_args!(
            "without the library {library}, which nobody vouched for (--preload)"
        ));
    }
    for check in &report.checks {
        match &check.found {
            Found::Nothing => ui.say(format_args!(
                "{}: good, in {:.1} s",
                check.name, check.seconds
            )),
            Found::Wrong { findings, more } => {
                for finding in findings {
                    ui.warn(format_args!("{}: {finding}", check.name));
                }
                if *more > 0 {
                    ui.warn(format_args!(
                        "{}: and {}",
                        check.name,
                        format::count(*more, "more finding")
                    ));
                }
            }
            Found::Unknown(why) => ui.warn(format_args!("{}: not looked at: {why}", check.name)),
        }
    }
    for skipped in &report.skipped {
        ui.warn(format_args!(
            "the database {} was not looked into: {}",
            skipped.name, skipped.why
        ));
    }
}

/// Where the shell looks for programs.
pub fn path_dirs() -> Vec<PathBuf> {
    std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default()
}

//! A verification: a restored cluster is recovered by a real server, compared with what was asked for, and checked.
//! It must never take its own troubles for those of the capture, nor the other way round.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lifeboat_flow::{Cancel, Cancelled, chain};

use super::super::client::PgError;
use super::super::control::ControlError;
use super::super::lsn::Lsn;
use super::super::recovery::{Action, Recovery, RecoveryTarget, RecoveryTimeline};
use super::amcheck;
use super::baseline::{Baseline, Closeness};
use super::check::{Check, Found};
use super::measure::measure;
use super::pages::{self, PagesError};
use super::programs::Programs;
use super::recovery_end::{Progress, Recovered, WaitError};
use super::scratch::{ScratchError, ScratchOptions, ScratchServer, read_control};
use super::server_log::is_not_of_the_capture;
use super::verdict::{Proof, Report, Verdict};

/// How often a server is started anew because the log asks for one that is set up for more: once for each such setting.
const RESTARTS_MAX: usize = 5;
/// Classes of SQLSTATE of what a server finds wrong with its own files (PostgreSQL manual, "PostgreSQL Error Codes").
const DAMAGED: [&str; 2] = ["58", "XX"];

/// What is to be verified.
#[derive(Clone, Debug)]
pub struct Request {
    /// The directory of PostgreSQL's programs, if somebody named one.
    pub programs: Option<PathBuf>,
    /// Directories to look for them in after those that are known.
    pub other_dirs: Vec<PathBuf>,
    /// The restored cluster, and how its server is run.
    pub options: ScratchOptions,
    /// How it is recovered; what is said there to happen at the target is not done, but always a promotion.
    pub recovery: Recovery,
    /// The position that must be reached at least: where the capture ends.
    pub at_least: Option<Lsn>,
    /// What it must hold. One that was taken later than the instant that is recovered to says nothing.
    pub baseline: Option<Baseline>,
    /// How long a recovery may make no progress; for ever if nothing is said.
    pub stuck_after: Option<Duration>,
    /// Whether tables and indexes are checked, which reads them all.
    pub amcheck: bool,
    /// Whether the checksums of all pages are checked.
    pub checksums: bool,
}

/// Why a verification came to an end before its end.
enum End {
    NotRecoverable(String),
    Undetermined(String),
    Cancelled(Cancelled),
}

impl From<Cancelled> for End {
    fn from(cancelled: Cancelled) -> Self {
        Self::Cancelled(cancelled)
    }
}

/// Recovers and checks.
///
/// # Errors
/// Only when somebody wishes to stop. All else is a verdict.
pub fn verify(request: &Request, progress: &Progress, cancel: &Cancel) -> Result<Proof, Cancelled> {
    let mut report = Report::default();
    let verdict = match run(request, &mut report, progress, cancel) {
        Ok(()) => report.verdict(),
        Err(End::NotRecoverable(words)) => Verdict::NotRecoverable { words },
        Err(End::Undetermined(why)) => Verdict::Undetermined { why },
        Err(End::Cancelled(cancelled)) => return Err(cancelled),
    };
    Ok(Proof { verdict, report })
}

fn run(
    request: &Request,
    report: &mut Report,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<(), End> {
    let data = &request.options.data;
    let major = major_of(data)?;
    let programs = Programs::find(major, request.programs.as_deref(), &request.other_dirs);
    let programs = programs.map_err(|error| End::Undetermined(chain(&error)))?;
    report.server_version = Some(programs.version().to_owned());
    let preload = &request.options.preload;
    report.libraries_left_out.clone_from(&preload.left_out);
    let extensions = request
        .baseline
        .as_ref()
        .map(Baseline::extensions)
        .unwrap_or_default();
    let missing = programs.missing(&preload.loaded, &extensions);
    if !missing.is_empty() {
        let missing = missing.join(", ");
        let why = format!(
            "{missing} can't be found here: install what the cluster uses for PostgreSQL {major}"
        );
        return Err(End::Undetermined(why));
    }
    let server = recover(request, &programs, report, progress, cancel)?;
    let databases = compare(request, &server, report, cancel)?;
    if request.amcheck {
        let began = Instant::now();
        let found = amcheck::check(&programs, &server, &databases, cancel)?;
        report.checks.push(made("amcheck", began, found));
    }
    // A server that fell over what it was asked to read was not recovered, whatever the checks could not see any more.
    let mut server = server;
    if server.has_ended().map_err(end_of_start)? {
        return Err(end_of_words(server.words()));
    }
    let stopped = server.stop(cancel);
    cancel.check()?;
    stopped.map_err(|error| match error {
        ScratchError::Unclean(words) => end_of_words(words),
        other => end_of_start(other),
    })?;
    if request.checksums {
        let began = Instant::now();
        let found = checksums(data, progress, cancel)?;
        report.checks.push(made("checksums", began, found));
    }
    Ok(())
}

/// What the last words of a server mean.
fn end_of_words(words: String) -> End {
    match is_not_of_the_capture(&words) {
        true => End::Undetermined(words),
        false => End::NotRecoverable(words),
    }
}

/// The major version that a data directory was made by.
fn major_of(data: &Path) -> Result<u32, End> {
    let path = data.join("PG_VERSION");
    let failed = |why: String| format!("read {}: {why}", path.display());
    let text = fs::read_to_string(&path).map_err(|cause| match cause.kind() {
        std::io::ErrorKind::NotFound => End::NotRecoverable(failed(cause.to_string())),
        _ => End::Undetermined(failed(cause.to_string())),
    })?;
    text.trim()
        .parse()
        .map_err(|_| End::NotRecoverable(failed(format!("{text:?} is no version"))))
}

/// Starts a server, and waits until it has recovered what was asked for.
fn recover(
    request: &Request,
    programs: &Programs,
    report: &mut Report,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<ScratchServer, End> {
    let recovery = Recovery {
        action: Action::Promote,
        ..request.recovery.clone()
    };
    let (began, mut limits) = (Instant::now(), None);
    for _ in 0..=RESTARTS_MAX {
        let started = ScratchServer::start(programs, &request.options, Some(&recovery), limits);
        let mut server = started.map_err(end_of_start)?;
        let before = server.began.duration_since(began).as_secs_f64();
        match server.wait(request.stuck_after, progress, cancel) {
            Ok(recovered) => {
                report.accepting_seconds = Some(before + recovered.accepting_seconds);
                report.recovery_seconds = Some(before + recovered.ended_seconds);
                report.position = Some(recovered.position);
                report.timeline = Some(recovered.timeline);
                report.last_transaction = recovered.last_transaction;
                reached(request, &recovered)?;
                return Ok(server);
            }
            Err(WaitError::Limits(wanted)) => limits = Some(wanted),
            Err(error) => return Err(end_of_wait(error)),
        }
    }
    Err(End::Undetermined(format!(
        "the server asked {RESTARTS_MAX} times for other limits"
    )))
}

fn end_of_start(error: ScratchError) -> End {
    match &error {
        ScratchError::Cancelled(cancelled) => End::Cancelled(*cancelled),
        // What is damaged or not there was not restored.
        ScratchError::Control {
            cause: ControlError::Checksum,
            ..
        } => End::NotRecoverable(chain(&error)),
        ScratchError::Prepare {
            doing: "read",
            cause,
            ..
        } if cause.kind() == std::io::ErrorKind::NotFound => End::NotRecoverable(chain(&error)),
        _ => End::Undetermined(chain(&error)),
    }
}

fn end_of_wait(error: WaitError) -> End {
    match error {
        WaitError::Cancelled(cancelled) | WaitError::Asked(PgError::Cancelled(cancelled)) => {
            End::Cancelled(cancelled)
        }
        WaitError::Ended(words) => end_of_words(words),
        WaitError::Asked(error) => {
            let words = chain(&error);
            let is_damaged = error
                .server()
                .is_some_and(|server| DAMAGED.iter().any(|class| server.code.starts_with(class)));
            if is_damaged && !is_not_of_the_capture(&words) {
                End::NotRecoverable(words)
            } else {
                End::Undetermined(words)
            }
        }
        other => End::Undetermined(chain(&other)),
    }
}

/// Whether a recovery came to where it should: a server that finds no more of the log believes that this was all.
fn reached(request: &Request, recovered: &Recovered) -> Result<(), End> {
    let Recovered {
        position, timeline, ..
    } = recovered;
    let recovery = &request.recovery;
    let wanted = match recovery.target {
        RecoveryTarget::Lsn(target) if recovery.is_inclusive => Some(target).max(request.at_least),
        _ => request.at_least,
    };
    if let Some(wanted) = wanted.filter(|wanted| position < wanted) {
        return Err(End::NotRecoverable(format!(
            "the recovery ended at {position} on timeline {timeline}, and should have come to {wanted} at least"
        )));
    }
    match (&recovery.target, recovery.timeline) {
        (RecoveryTarget::Latest, RecoveryTimeline::Numbered(wanted)) if wanted != *timeline => {
            Err(End::NotRecoverable(format!(
                "the recovery ended on timeline {timeline}, and should have come to timeline {wanted}"
            )))
        }
        _ => Ok(()),
    }
}

/// Compares what is there with what was captured; gives the databases that are there.
fn compare(
    request: &Request,
    server: &ScratchServer,
    report: &mut Report,
    cancel: &Cancel,
) -> Result<Vec<String>, End> {
    let began = Instant::now();
    // A table that was just small enough must be counted again, though it may be a little larger now.
    let exact = request
        .baseline
        .as_ref()
        .map_or(0, |baseline| baseline.exact_up_to_bytes.saturating_mul(2));
    let (found, databases) = match measure(&server.address, exact, cancel) {
        Ok(restored) => {
            report.skipped.clone_from(&restored.skipped);
            let found = request
                .baseline
                .as_ref()
                .map(|baseline| baseline.compare(&restored, Closeness::Near));
            (
                found,
                restored
                    .databases
                    .into_iter()
                    .map(|database| database.name)
                    .collect(),
            )
        }
        Err(error) => return Err(end_of_wait(WaitError::Asked(error))),
    };
    report
        .checks
        .extend(found.map(|found| made("baseline", began, found)));
    Ok(databases)
}

fn checksums(data: &Path, progress: &Progress, cancel: &Cancel) -> Result<Found, Cancelled> {
    let control = match read_control(data) {
        Ok(control) => control,
        Err(error) => return Ok(Found::Unknown(chain(&error))),
    };
    match pages::check(data, &control, progress, cancel) {
        Ok(found) => Ok(found),
        Err(PagesError::Cancelled(cancelled)) => Err(cancelled),
        Err(error) => Ok(Found::Unknown(chain(&error))),
    }
}

fn made(name: &'static str, began: Instant, found: Found) -> Check {
    Check {
        name,
        seconds: began.elapsed().as_secs_f64(),
        found,
    }
}

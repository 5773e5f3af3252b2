//! Proves a capture: restored into a scratch directory on the way of every restore, started, checked, and removed.
//! It must never touch a live cluster, nor call a capture bad because something of this machine was in the way.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lifeboat_flow::chain;
use lifeboat_repo::RepoError;
use lifeboat_state::postgres::recovery::{Action, Recovery, RecoveryTarget, RecoveryTimeline};
use lifeboat_state::postgres::verify::{
    Preload, Progress, Proof, Report, Request, ScratchOptions, Verdict, verify,
};
use lifeboat_state::postgres::{LsnError, Member};

use super::restore::{ClusterRestore, ClusterRestoreError};
use super::restore_plan::{ClusterTarget, Found, plan};
use crate::backup::ProtectError;

/// The superuser that nearly every cluster has, where the capture does not say.
pub(super) const SUPERUSER: &str = "postgres";
/// The setting that names libraries.
const PRELOAD: &str = "shared_preload_libraries";
/// What a restored cluster needs beside its files: log that a recovery writes, and some air. In bytes.
pub(super) const ROOM_BYTES: u64 = 256 * 1024 * 1024;

/// A verification that runs once.
pub struct Verification<'a> {
    /// How the capture is restored.
    pub restore: ClusterRestore<'a>,
    /// Its record.
    pub member: &'a Member,
    /// An empty directory that everything goes into; whoever made it removes it.
    pub scratch: &'a Path,
    /// The directory of PostgreSQL's programs, if somebody named one.
    pub programs: Option<PathBuf>,
    /// Directories to look for them in after those that are known.
    pub other_dirs: Vec<PathBuf>,
    /// Libraries that somebody vouches for, beside those that are needed.
    pub vouched: &'a [String],
    /// How long a recovery may make no progress.
    pub stuck_after: Option<Duration>,
    /// Where the recovery tells how far it is.
    pub progress: &'a Progress,
}

impl Verification<'_> {
    /// Runs it. What happened is told as a verdict.
    ///
    /// # Errors
    /// When somebody wishes to stop, or the repository can't be used at all.
    pub fn run(&self) -> Result<Proof, ProtectError> {
        let undetermined = |why: String| {
            Ok(Proof {
                verdict: Verdict::Undetermined { why },
                report: Report::default(),
            })
        };
        let needed_bytes = self.member.bytes.saturating_add(ROOM_BYTES);
        match free_bytes(self.scratch) {
            Ok(free_bytes) if free_bytes < needed_bytes => {
                return undetermined(format!(
                    "{} has {free_bytes} bytes free, and the cluster needs {needed_bytes}",
                    self.scratch.display()
                ));
            }
            _ => {}
        }
        let data = self.scratch.join("data");
        let target = ClusterTarget {
            data: data.clone(),
            spaces: Default::default(),
            spaces_below: Some(self.scratch.join("spaces")),
            recovery: None,
        };
        // The scratch is new: nothing is there.
        let plan = match plan(self.member, &target, |_| Found::Nothing) {
            Ok(plan) => plan,
            Err(error) => return undetermined(chain(&error)),
        };
        match self.restore.run(&plan) {
            Ok(_) => {}
            Err(ClusterRestoreError::Protect(ProtectError::Repo(error))) if is_damage(&error) => {
                return Ok(not_recoverable(chain(&error)));
            }
            Err(ClusterRestoreError::Protect(
                error @ (ProtectError::Repo(_) | ProtectError::Cancelled(_)),
            )) => {
                return Err(error);
            }
            Err(
                error @ (ClusterRestoreError::Incomplete { is_lost: true, .. }
                | ClusterRestoreError::NoPart(_)),
            ) => {
                return Ok(not_recoverable(chain(&error)));
            }
            Err(error) => return undetermined(chain(&error)),
        }
        let postgres = &self.member.postgres;
        let at_least = match postgres.stop_lsn.parse() {
            Ok(position) => Some(position),
            Err(LsnError(text)) => {
                return Ok(not_recoverable(format!("its end {text:?} is no position")));
            }
        };
        let baseline = self.member.baseline.clone();
        let of_baseline = baseline.as_ref().map(|baseline| &baseline.superuser);
        let superuser = [Some(&postgres.superuser), of_baseline]
            .into_iter()
            .flatten()
            .find(|name| !name.is_empty());
        let libraries = postgres.settings.get(PRELOAD).map_or("", String::as_str);
        let request = Request {
            programs: self.programs.clone(),
            other_dirs: self.other_dirs.clone(),
            options: ScratchOptions {
                data,
                run: self.scratch.join("run"),
                within: self.scratch.to_path_buf(),
                superuser: superuser.map_or(SUPERUSER, String::as_str).to_owned(),
                user: None,
                preload: Preload::choose(libraries, self.vouched),
                environment: Vec::new(),
            },
            recovery: Recovery {
                target: RecoveryTarget::Immediate,
                is_inclusive: true,
                timeline: RecoveryTimeline::Current,
                action: Action::Promote,
                restore_command: None,
            },
            at_least,
            baseline,
            stuck_after: self.stuck_after,
            amcheck: true,
            checksums: postgres.page_checksums,
        };
        Ok(verify(&request, self.progress, self.restore.cancel)?)
    }
}

pub(super) fn not_recoverable(words: String) -> Proof {
    Proof {
        verdict: Verdict::NotRecoverable { words },
        report: Report::default(),
    }
}

/// Whether what is stored is damaged or gone, rather than out of reach.
pub(super) fn is_damage(error: &RepoError) -> bool {
    match error {
        RepoError::BlobDamaged { cause, .. } => match &**cause {
            RepoError::Backend(cause) => cause.is_missing(),
            _ => true,
        },
        RepoError::Damaged { .. } | RepoError::BlobUnknown { .. } => true,
        _ => false,
    }
}

pub(super) fn free_bytes(dir: &Path) -> std::io::Result<u64> {
    let found = rustix::fs::statvfs(dir)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

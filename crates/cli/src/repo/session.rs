//! An open repository with the lock that a command needs and the wish of the user to stop.
//! It must never ask for a password where nobody can answer, and never show one.

use std::io::IsTerminal;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use lifeboat_flow::Cancel;
use lifeboat_format::{Id, Snapshot};
use lifeboat_plan::parse_go_duration;
use lifeboat_repo::backend::{Backend, LocalBackend};
use lifeboat_repo::{
    Identity, Index, IndexReport, LockGuard, LockRequest, LockTiming, PackListing, RepoError,
    Repository,
};

use crate::args::Global;
use crate::failure::Failure;
use crate::signals::cancel_on_signal;
use crate::ui::Ui;

/// Longest file that is read for a password or location, in bytes.
const SMALL_TEXT_MAX_BYTES: u64 = 64 * 1024;

/// How a command locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locking {
    /// It only reads; `--no-lock` allows to do so without a lock.
    Read,
    /// It adds.
    Shared,
    /// It removes what others may rely on.
    Exclusive,
    /// It needs none.
    None,
}

/// An open repository. The lock is released when this is dropped.
pub struct Session {
    /// The lock.
    pub lock: Option<LockGuard>,
    /// The repository.
    pub repository: Arc<Repository>,
    /// The wish to stop.
    pub cancel: Cancel,
}

impl Session {
    /// Opens the repository that the options name.
    pub fn open(global: &Global, ui: &Ui, locking: Locking) -> Result<Self, Failure> {
        let retry_for = retry_for(global)?;
        let cancel = ui.wish.clone();
        cancel_on_signal(&cancel);
        let backend = backend(global)?;
        // Where nothing is, a password need not be asked for.
        match backend.size(lifeboat_repo::backend::FileName::CONFIG) {
            Err(error) if error.is_missing() => {
                let what = "the file config".to_owned();
                return Err(
                    RepoError::from(lifeboat_repo::backend::BackendError::NoRepository {
                        location: backend.location(),
                        what,
                    })
                    .into(),
                );
            }
            other => other.map_err(RepoError::from)?,
        };
        let password = password(global, "password for the repository: ")?;
        let repository = Arc::new(Repository::open(
            backend,
            password.as_bytes(),
            global.key_hint.as_deref(),
        )?);
        let needs_lock = match locking {
            Locking::None => false,
            Locking::Read => !global.no_lock,
            Locking::Shared | Locking::Exclusive if global.no_lock => {
                return Err(Failure::new(
                    "--no-lock is for commands that only read; this one writes",
                ));
            }
            Locking::Shared | Locking::Exclusive => true,
        };
        let request = LockRequest {
            exclusive: locking == Locking::Exclusive,
            retry_for,
            timing: LockTiming::default(),
        };
        let lock = if needs_lock {
            Some(LockGuard::take(
                &repository,
                &Identity::of_this_process(),
                request,
                ui,
                &cancel,
            )?)
        } else {
            None
        };
        Ok(Self {
            lock,
            repository,
            cancel,
        })
    }

    /// The index; what is wrong with it is told.
    pub fn index(&self, ui: &Ui, listing: PackListing) -> Result<(Index, IndexReport), Failure> {
        let (index, report) = self.repository.load_index(listing, &self.cancel)?;
        for (id, error) in &report.damaged {
            ui.warn(format_args!(
                "index file {} can't be used: {}",
                id.short(),
                lifeboat_repo::chain(error)
            ));
        }
        if let Some(first) = report.missing_packs.first() {
            ui.warn(format_args!("{} that the index names are missing, the first is {first}; what they held is stored again if it is still there", crate::format::count(report.missing_packs.len() as u64, "pack")));
        }
        Ok((index, report))
    }

    /// All snapshots, oldest first; damaged ones are told.
    pub fn snapshots(&self, ui: &Ui) -> Result<Vec<(Id, Snapshot)>, Failure> {
        let snapshots = self.repository.snapshots()?;
        for (id, error) in &snapshots.damaged {
            ui.warn(format_args!(
                "snapshot {} can't be read: {}",
                id.short(),
                lifeboat_repo::chain(error)
            ));
        }
        Ok(snapshots.all)
    }
}

/// How long to wait for a lock.
pub fn retry_for(global: &Global) -> Result<Duration, Failure> {
    match &global.retry_lock {
        None => Ok(Duration::ZERO),
        Some(text) => parse_go_duration(text)
            .map_err(|error| Failure::from_error(&error).while_doing("--retry-lock")),
    }
}

/// The backend that the options name.
pub fn backend(global: &Global) -> Result<Arc<dyn Backend>, Failure> {
    let location = match (&global.repo, &global.repository_file) {
        (Some(_), Some(_)) => {
            return Err(Failure::new(
                "--repo and --repository-file both say where the repository is; give one of them",
            ));
        }
        (Some(location), None) => location.clone(),
        (None, Some(file)) => small_text(file, "the location of the repository from")?
            .trim()
            .to_owned(),
        (None, None) => {
            return Err(Failure::new("nothing says where the repository is")
                .hint("give it with --repo or in the variable RESTIC_REPOSITORY"));
        }
    };
    let path = location.strip_prefix("local:").unwrap_or(&location);
    if path.is_empty() {
        return Err(Failure::new("the location of the repository is empty"));
    }
    let scheme = path
        .split_once(':')
        .map(|(scheme, _)| scheme)
        .filter(|scheme| path == location && REMOTE.contains(scheme));
    if let Some(scheme) = scheme {
        return Err(Failure::new(format!(
            "repositories behind `{scheme}:` are not supported yet"
        ))
        .hint("this version works on local directories"));
    }
    Ok(Arc::new(LocalBackend::new(path)))
}

/// The schemes of restic's other backends.
const REMOTE: [&str; 9] = [
    "s3", "rest", "sftp", "rclone", "b2", "azure", "gs", "swift", "s3-http",
];

/// The password that the options name, or that somebody at a terminal types.
pub fn password(global: &Global, prompt: &str) -> Result<String, Failure> {
    const WAYS: &str =
        "give one with --password-file, --password-command or in the variable RESTIC_PASSWORD";
    let (password, from) = match (&global.password_file, &global.password_command) {
        (Some(_), Some(_)) => {
            return Err(Failure::new(
                "--password-file and --password-command both say what the password is; give one of them",
            ));
        }
        (Some(file), None) => (password_of_file(file)?, file.display().to_string()),
        (None, Some(command)) => (
            password_of_command(command)?,
            "the command of --password-command".to_owned(),
        ),
        (None, None) => match std::env::var("RESTIC_PASSWORD") {
            Ok(password) => (password, "RESTIC_PASSWORD".to_owned()),
            Err(_) if std::io::stdin().is_terminal() => {
                let typed = rpassword::prompt_password(prompt).map_err(|error| {
                    Failure::from_error(&error).while_doing("read the password")
                })?;
                (typed, "the terminal".to_owned())
            }
            Err(_) => {
                return Err(Failure::new(
                    "nothing says what the password is, and nobody is there to type it",
                )
                .hint(WAYS));
            }
        },
    };
    if password.is_empty() {
        return Err(Failure::new(format!(
            "the password from {from} is empty, and that protects nothing"
        ))
        .hint(WAYS));
    }
    Ok(password)
}

/// A password from a file. As with restic, white space at both ends is taken for an accident.
pub fn password_of_file(file: &Path) -> Result<String, Failure> {
    Ok(small_text(file, "the password from")?.trim().to_owned())
}

/// A new password, typed twice.
pub fn new_password(global: &Global, prompt: &str) -> Result<String, Failure> {
    let password = password(global, prompt)?;
    let typed = global.password_file.is_none()
        && global.password_command.is_none()
        && std::env::var_os("RESTIC_PASSWORD").is_none();
    if typed {
        typed_again(&password)?;
    }
    Ok(password)
}

/// Asks for the same password once more.
pub fn typed_again(password: &str) -> Result<(), Failure> {
    let again = rpassword::prompt_password("the same again: ")
        .map_err(|error| Failure::from_error(&error).while_doing("read the password"))?;
    if again == password {
        Ok(())
    } else {
        Err(Failure::new("the two passwords differ"))
    }
}

fn password_of_command(command: &str) -> Result<String, Failure> {
    let words = shlex::split(command).filter(|words| !words.is_empty());
    let words = words.ok_or_else(|| {
        Failure::new("--password-command is empty or has a quote that does not end")
    })?;
    let (program, arguments) = words
        .split_first()
        .map(|(program, arguments)| (program.as_str(), arguments))
        .unwrap_or_default();
    let doing = "run the command of --password-command";
    let run = Command::new(program)
        .args(arguments)
        .stdin(Stdio::inherit())
        .stderr(Stdio::inherit())
        .output();
    let output = run.map_err(|error| {
        Failure::from_error(&error).while_doing(format_args!("{doing}: {program}"))
    })?;
    if !output.status.success() {
        return Err(Failure::new(format!(
            "{doing}: it ended with {}",
            output.status
        )));
    }
    let text = String::from_utf8(output.stdout)
        .map_err(|_| Failure::new(format!("{doing}: it printed bytes that are no UTF-8")))?;
    Ok(text.trim().to_owned())
}

fn small_text(file: &Path, what: &str) -> Result<String, Failure> {
    let doing = format!("read {what} {}", file.display());
    let failed = |error: std::io::Error| Failure::from_error(&error).while_doing(&doing);
    let size = std::fs::metadata(file).map_err(failed)?.len();
    if size > SMALL_TEXT_MAX_BYTES {
        return Err(Failure::new(format!(
            "{doing}: it has {size} bytes, at most {SMALL_TEXT_MAX_BYTES} can be meant"
        )));
    }
    std::fs::read_to_string(file).map_err(failed)
}

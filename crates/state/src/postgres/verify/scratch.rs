//! A real server on a restored data directory: for us alone, cut off from the world, and gone when we are.
//! It must never start where it could write to anything but the scratch copy, nor with a setting of the live cluster.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use lifeboat_flow::{Cancel, Cancelled};

use super::super::client::{Address, Connection, Host, PgError, Session, TlsMode};
use super::super::closing::{self, ControlFileError};
use super::super::control::{Control, ControlError, ServerLimits};
use super::super::recovery::{RECOVERY_SIGNAL, Recovery, SettingError};
use super::holder::{Holder, remove_run};
use super::preload::Preload;
use super::programs::Programs;
use super::server_log::ServerLog;
use super::settings::{CONFIG_FILE, HBA, HBA_FILE, IDENT_FILE, SOCKET_PORT, Setup, of_sessions};

/// How long a connection over the socket may take to be there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest path of a socket, in bytes, on the systems that there are (104 on macOS, with its zero).
const SOCKET_PATH_MAX_BYTES: usize = 103;
/// What `ALTER SYSTEM` wrote on the live cluster; a server reads it after its own configuration.
const AUTO_CONFIG: &str = "postgresql.auto.conf";
/// What becomes of it, for whoever wants to look.
const AUTO_CONFIG_ASIDE: &str = "postgresql.auto.conf.captured";
/// What would let it follow the live cluster for ever.
const STANDBY_SIGNAL: &str = "standby.signal";
/// What a server was started with; it notes that each time.
const OPTIONS_FILE: &str = "postmaster.opts";
/// What a running server has in its directory. No capture has it.
const LOCK_FILE: &str = "postmaster.pid";
/// The status of a server that could not go on.
const FAILED: i32 = 1;
/// The links that a server makes at the beginning of a recovery.
const TABLESPACE_MAP: &str = "tablespace_map";

/// On what and how a scratch server runs.
#[derive(Clone, Debug)]
pub struct ScratchOptions {
    /// The restored data directory. Its `postgresql.auto.conf` is put aside, and it is changed by the server.
    pub data: PathBuf,
    /// A directory that does not exist yet, for its socket and configuration; it is gone when the server is. Sockets need
    /// short paths.
    pub run: PathBuf,
    /// The directory that holds all that was restored: nothing outside it may be a part of the cluster.
    pub within: PathBuf,
    /// The name of a superuser of the cluster.
    pub superuser: String,
    /// Who runs it (user and group) if we are root; the owner of the data directory if nobody is named.
    pub user: Option<(u32, u32)>,
    /// The libraries that it loads.
    pub preload: Preload,
    /// The environment of the `restore_command`; nothing of ours is handed on.
    pub environment: Vec<(OsString, OsString)>,
}

/// A scratch server could not be started, or not be stopped.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// Something could not be prepared.
    #[error("{doing} {}", path.display())]
    Prepare {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// What was restored says nothing of itself.
    #[error("read {}", path.display())]
    Control {
        /// The control file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: ControlError,
    },
    /// A part of the cluster lies elsewhere: perhaps the live one's.
    #[error("{} leads to {}, which is not below {}: a scratch server would write there", link.display(), to.display(), within.display())]
    Outside {
        /// The link, or the file that names one.
        link: PathBuf,
        /// Where it leads.
        to: PathBuf,
        /// Where it should lead.
        within: PathBuf,
    },
    /// Somebody may use what is there.
    #[error("a server may run on what was restored: there is {}; remove it if none does", .0.display())]
    InUse(PathBuf),
    /// PostgreSQL does not run as root.
    #[error("{} belongs to root, and PostgreSQL does not run as root: give it to another user, or name one", .0.display())]
    Root(PathBuf),
    /// A path that can't be used.
    #[error("the directory {} can't be used for a server: {why}", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// A setting can't be written.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The process could not be started, or not be waited for.
    #[error("{doing} {}", program.display())]
    Process {
        /// What was being done.
        doing: &'static str,
        /// To which.
        program: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Somebody stopped it, or the system did for want of memory. A `restore_command` that runs just then ends by itself.
    #[error("the server was stopped, and not by Lifeboat: {0}")]
    Stopped(ExitStatus),
    /// It did not stop as it should, and was ended.
    #[error("the server did not shut down as it should: {0}")]
    Unclean(String),
    /// Somebody wishes to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// A running server. Dropped, it ends where it is.
#[derive(Debug)]
pub struct ScratchServer {
    holder: Holder,
    pub(super) log: ServerLog,
    pub(super) began: Instant,
    pub(super) data: PathBuf,
    pub(super) limits: ServerLimits,
    pub(super) recovers: bool,
    /// Its socket and its superuser; the database is one that is there, once that is known.
    pub(super) address: Address,
    program: PathBuf,
    user: Option<(u32, u32)>,
}

impl ScratchServer {
    /// Starts it, to recover as it is told, or as it would by itself. It may end at once: whoever waits for it hears why.
    /// `limits` are raised beyond what the cluster itself asks for where somebody knows that it will ask for more.
    ///
    /// # Errors
    /// When it can't be started safely, or not at all.
    pub fn start(
        programs: &Programs,
        options: &ScratchOptions,
        recovery: Option<&Recovery>,
        limits: Option<ServerLimits>,
    ) -> Result<Self, ScratchError> {
        let ScratchOptions { data, run, .. } = options;
        let data = fs::canonicalize(data).map_err(failed("find", data))?;
        let control = read_control(&data)?;
        all_within(&data, &options.within)?;
        let lock = data.join(LOCK_FILE);
        if fs::symlink_metadata(&lock).is_ok() {
            return Err(ScratchError::InUse(lock));
        }
        let user = user_of(&data, options.user)?;
        neutralise(&data, recovery.is_some(), user)?;
        let setup = Setup {
            major: programs.major(),
            data: &data,
            run,
            limits: limits.unwrap_or(control.limits),
            preload: &options.preload,
            recovery,
        };
        prepare(&setup, user)?;
        let program = programs.path("postgres");
        let mut config = OsString::from("config_file=");
        config.push(run.join(CONFIG_FILE));
        let command = [program.clone().into(), "-c".into(), config];
        let began = Instant::now();
        let (holder, log) = Holder::start(&command, run, &lock, user, &options.environment)
            .map_err(|cause| {
                remove_run(run);
                ScratchError::Process {
                    doing: "start",
                    program: program.clone(),
                    cause,
                }
            })?;
        let limits = setup.limits;
        Ok(Self {
            holder,
            log: ServerLog::read(log),
            began,
            data,
            limits,
            recovers: recovery.is_some(),
            address: address(run, &options.superuser, programs.major()),
            program,
            user,
        })
    }

    /// Connects to one of its databases.
    ///
    /// # Errors
    /// When it does not take connections yet, or not to this one.
    pub fn connect(&self, database: &str, cancel: &Cancel) -> Result<Connection, PgError> {
        let mut address = self.address.clone();
        database.clone_into(&mut address.database);
        Connection::open(&address, Session::Queries, cancel)
    }

    /// How it is reached, and as its superuser; the database is one that is there, once it was waited for.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// As whom it runs, if not as we do.
    pub(super) fn user(&self) -> Option<(u32, u32)> {
        self.user
    }

    /// Whether it has ended by itself.
    ///
    /// # Errors
    /// When it was stopped by somebody else, or can't be asked.
    pub fn has_ended(&mut self) -> Result<bool, ScratchError> {
        let ended = self.holder.ended().map_err(self.process("wait for"))?;
        match ended {
            None => Ok(false),
            Some(status) if status.code() == Some(FAILED) => Ok(true),
            Some(status) => Err(ScratchError::Stopped(status)),
        }
    }

    /// Why it ended, in its own words, or else the last that it said.
    #[must_use]
    pub fn words(&self) -> String {
        self.log.words()
    }

    /// Stops it as it should be, so that its files are whole.
    ///
    /// # Errors
    /// When it had to be ended instead; it does not run any more then either.
    pub fn stop(mut self, cancel: &Cancel) -> Result<(), ScratchError> {
        let is_clean = self.holder.stop(cancel).map_err(self.process("stop"))?;
        cancel.check()?;
        if !is_clean {
            self.log.finish();
            return Err(ScratchError::Unclean(self.log.words()));
        }
        Ok(())
    }

    fn process(&self, doing: &'static str) -> impl FnOnce(io::Error) -> ScratchError + use<> {
        let program = self.program.clone();
        move |cause| ScratchError::Process {
            doing,
            program,
            cause,
        }
    }
}

/// What the control file of a data directory says.
///
/// # Errors
/// When it is not there, or can't be believed.
pub(super) fn read_control(data: &Path) -> Result<Control, ScratchError> {
    // Nobody writes it, so that there is nobody to wait for.
    let read = closing::read_control(data, &Cancel::new());
    read.map(|(control, _)| control)
        .map_err(|error| match error {
            ControlFileError::Read { path, cause } => failed("read", &path)(cause),
            ControlFileError::Content { path, cause } => ScratchError::Control { path, cause },
        })
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ScratchError + use<> {
    let path = path.to_owned();
    move |cause| ScratchError::Prepare { doing, path, cause }
}

fn address(run: &Path, superuser: &str, major: u32) -> Address {
    Address {
        host: Host::Socket(run.to_owned()),
        port: SOCKET_PORT,
        user: superuser.to_owned(),
        database: String::new(),
        password: None,
        tls: TlsMode::Disable,
        root_certificates: None,
        connect_timeout: CONNECT_TIMEOUT,
        settings: of_sessions(major),
    }
}

/// Who runs the server, if it is not us.
fn user_of(data: &Path, named: Option<(u32, u32)>) -> Result<Option<(u32, u32)>, ScratchError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let owner = match named {
        Some(named) => named,
        None => {
            let metadata = fs::metadata(data).map_err(failed("look at", data))?;
            (metadata.uid(), metadata.gid())
        }
    };
    match owner {
        (0, _) => Err(ScratchError::Root(data.to_owned())),
        owner => Ok(Some(owner)),
    }
}

/// Whether all that the server writes lies in the scratch, and what a recovery would link by itself.
fn all_within(data: &Path, within: &Path) -> Result<(), ScratchError> {
    let within = fs::canonicalize(within).map_err(failed("find", within))?;
    let check = |link: &Path, to: &Path| match fs::canonicalize(to) {
        Ok(to) if to.starts_with(&within) => Ok(()),
        // One that leads nowhere is as bad: somebody may make what is there.
        _ => Err(ScratchError::Outside {
            link: link.to_owned(),
            to: to.to_owned(),
            within: within.clone(),
        }),
    };
    check(data, data)?;
    for entry in entries(data)? {
        // Settings at the top may be links; nobody reads or writes them.
        if entry.is_dir() {
            links_within(&entry, &check)?;
        }
    }
    let spaces = data.join("pg_tblspc");
    for space in entries(&spaces)? {
        for entry in entries(&space)? {
            links_within(&entry, &check)?;
        }
    }
    let map = data.join(TABLESPACE_MAP);
    match fs::read(&map) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(cause) => Err(failed("read", &map)(cause)),
        Ok(content) => mapped(&content).iter().try_for_each(|to| check(&map, to)),
    }
}

/// Checks what is a link, here and below. None is followed.
fn links_within(
    path: &Path,
    check: &impl Fn(&Path, &Path) -> Result<(), ScratchError>,
) -> Result<(), ScratchError> {
    let metadata = fs::symlink_metadata(path).map_err(failed("look at", path))?;
    if metadata.is_symlink() {
        let to = fs::read_link(path).map_err(failed("read", path))?;
        return check(path, &path.parent().unwrap_or(path).join(to));
    }
    if metadata.is_dir() {
        for entry in entries(path)? {
            links_within(&entry, check)?;
        }
    }
    Ok(())
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, ScratchError> {
    let entries = fs::read_dir(dir).map_err(failed("read", dir))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths
        .collect::<io::Result<_>>()
        .map_err(failed("read", dir))
}

/// The directories in a tablespace map: a number, a blank and a path in each line, a backslash before a line feed in it.
fn mapped(content: &[u8]) -> Vec<PathBuf> {
    let (mut lines, mut line, mut is_escaped) = (Vec::new(), Vec::new(), false);
    for byte in content {
        match byte {
            b'\\' if !is_escaped => is_escaped = true,
            b'\n' | b'\r' if !is_escaped => lines.push(std::mem::take(&mut line)),
            byte => {
                line.push(*byte);
                is_escaped = false;
            }
        }
    }
    lines.push(line);
    let path = |line: Vec<u8>| {
        let at = line.iter().position(|byte| *byte == b' ')?;
        Some(PathBuf::from(OsString::from_vec(
            line.get(at + 1..)?.to_vec(),
        )))
    };
    lines.into_iter().filter_map(path).collect()
}

/// Takes from the copy what would act for the live cluster, and tells it to recover or not.
fn neutralise(data: &Path, recovers: bool, user: Option<(u32, u32)>) -> Result<(), ScratchError> {
    // A server refuses to run where others may look in.
    fs::set_permissions(data, Permissions::from_mode(0o700)).map_err(failed("close", data))?;
    let (auto, aside) = (data.join(AUTO_CONFIG), data.join(AUTO_CONFIG_ASIDE));
    if fs::symlink_metadata(&aside).is_err() && fs::symlink_metadata(&auto).is_ok() {
        fs::rename(&auto, &aside).map_err(failed("put aside", &auto))?;
    }
    write(&auto, "", user)?;
    remove(&data.join(STANDBY_SIGNAL))?;
    // The server writes it, wherever it leads.
    remove(&data.join(OPTIONS_FILE))?;
    let signal = data.join(RECOVERY_SIGNAL);
    if recovers {
        write(&signal, "", user)
    } else {
        remove(&signal)
    }
}

/// Makes the directory of the socket, with the configuration in it.
fn prepare(setup: &Setup, user: Option<(u32, u32)>) -> Result<(), ScratchError> {
    let run = setup.run;
    let path = |path: &Path, why| ScratchError::Path {
        path: path.to_owned(),
        why,
    };
    for dir in [run, setup.data] {
        if dir.to_str().is_none() {
            return Err(path(
                dir,
                "its path is no UTF-8, which PostgreSQL's settings are",
            ));
        }
    }
    let socket = run.join(format!(".s.PGSQL.{SOCKET_PORT}"));
    if !run.is_absolute() || socket.as_os_str().as_bytes().len() > SOCKET_PATH_MAX_BYTES {
        return Err(path(
            run,
            "the path of a socket is absolute and has 103 bytes at most",
        ));
    }
    let text = setup.text()?;
    DirBuilder::new()
        .mode(0o700)
        .create(run)
        .map_err(failed("make", run))?;
    let made = [(CONFIG_FILE, &*text), (HBA_FILE, HBA), (IDENT_FILE, "")];
    let mut made = made
        .into_iter()
        .map(|(name, content)| write(&run.join(name), content, user));
    let owned = made.try_for_each(|written| written);
    owned
        .and_then(|()| give(run, user))
        .inspect_err(|_| remove_run(run))
}

/// Writes a file anew that only its owner, who runs the server, can read: commands may hold secrets. What is there is
/// removed first, for it may be a link.
fn write(path: &Path, content: &str, user: Option<(u32, u32)>) -> Result<(), ScratchError> {
    remove(path)?;
    let options = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .to_owned();
    let written = options
        .open(path)
        .and_then(|mut file| file.write_all(content.as_bytes()));
    written.map_err(failed("write", path))?;
    give(path, user)
}

fn give(path: &Path, user: Option<(u32, u32)>) -> Result<(), ScratchError> {
    let Some((uid, gid)) = user else {
        return Ok(());
    };
    lchown(path, Some(uid), Some(gid)).map_err(failed("give away", path))
}

fn remove(path: &Path) -> Result<(), ScratchError> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(cause)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_names_its_directories() {
        let paths = mapped(b"16385 /srv/a b\n16386 /srv/c\\\nd\n");
        assert_eq!(
            paths,
            [PathBuf::from("/srv/a b"), PathBuf::from("/srv/c\nd")]
        );
        assert!(mapped(b"").is_empty());
    }
}

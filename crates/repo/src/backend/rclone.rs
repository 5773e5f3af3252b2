//! A repository that rclone reaches: `rclone serve restic --stdio` as our child, which speaks REST over its pipes.
//! It must never leave a child behind, nor wait for one that has ended.

mod child;
mod remote;
mod settings;
mod tail;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::http::{Request, Response, StdioConnection, Transport, TransportError};
use super::rest::RestBackend;
use super::{BackendOptions, Location, OptionError, Trouble};
use child::Child;
use settings::Settings;

pub(super) use remote::shown;
pub(super) use settings::OPTIONS;

/// What requests are sent to; rclone does not care.
const URL: &str = "http://localhost/";

/// The backend of a `rclone:` location. Whether a file appears only when it is whole is up to the remote: rclone writes
/// in place where that is a directory, and all at once to an object store.
pub(super) fn open(
    remote: &str,
    location: &Location,
    options: &BackendOptions,
) -> Result<RestBackend, OptionError> {
    let settings = Settings::read(remote, options)?;
    let connections = settings.connections;
    let transport = RcloneTransport {
        settings,
        stall: options.stall,
        starts: AtomicU64::new(0),
        state: Mutex::new(State::default()),
    };
    Ok(RestBackend::of_rclone(
        Arc::new(transport),
        URL.to_owned(),
        location.to_string(),
        connections,
    ))
}

/// Requests to a child, which is started by the first one and again after it ended.
struct RcloneTransport {
    settings: Settings,
    stall: Duration,
    /// How often it was started, so that who waited for a start takes its failure and does not make its own.
    starts: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Option<Arc<Rclone>>,
    /// Why the last start failed.
    failure: Option<TransportError>,
}

/// A child that answers.
struct Rclone {
    // Before the child: it ends when its standard input does.
    connection: StdioConnection,
    child: Child,
}

impl RcloneTransport {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The child that runs, or a new one.
    fn running(&self) -> Result<Arc<Rclone>, TransportError> {
        let starts = self.starts.load(Ordering::Acquire);
        let mut state = self.lock();
        if let Some(rclone) = &state.running {
            if !rclone.connection.is_closed() {
                return Ok(Arc::clone(rclone));
            }
            state.running = None;
        }
        if self.starts.load(Ordering::Acquire) != starts
            && let Some(failure) = &state.failure
        {
            return Err(failure.clone());
        }
        let started = Rclone::start(&self.settings).map(Arc::new);
        self.starts.fetch_add(1, Ordering::Release);
        match started {
            Ok(rclone) => {
                state.failure = None;
                state.running = Some(Arc::clone(&rclone));
                Ok(rclone)
            }
            Err(error) => {
                state.failure = Some(error.clone());
                Err(error)
            }
        }
    }
}

impl Transport for RcloneTransport {
    fn send(&self, request: &Request<'_>) -> Result<Response, TransportError> {
        let rclone = self.running()?;
        rclone
            .connection
            .send(request, self.stall)
            .map_err(|error| match rclone.child.ended() {
                // The next request starts it again.
                Some(end) => end.into_interruption(),
                None => error,
            })
    }
}

impl Rclone {
    /// Starts it and waits until it answers for the first time.
    fn start(settings: &Settings) -> Result<Self, TransportError> {
        let of_program = |why| TransportError {
            trouble: Trouble::Program,
            why,
        };
        let (child, pipes) = Child::start(settings).map_err(of_program)?;
        let answered = StdioConnection::open(pipes.stdin, pipes.stdout)
            .map_err(|cause| format!("its pipes can't be used: {}", lifeboat_flow::chain(&cause)))
            .and_then(|connection| match probe(&connection, settings.timeout) {
                Ok(()) => Ok(connection),
                Err(error) => Err(error.why),
            });
        let why = match answered {
            Ok(connection) => return Ok(Self { connection, child }),
            Err(why) => why,
        };
        Err(match child.ended() {
            Some(end) => end.into_failure_to_start(),
            None => of_program(format!(
                "{} does not answer ({why}){}; a configuration with a password needs RCLONE_CONFIG_PASS",
                settings.program,
                child.words()
            )),
        })
    }
}

/// Asks for something, to see that anybody answers, whatever it is.
fn probe(connection: &StdioConnection, timeout: Duration) -> Result<(), TransportError> {
    let request = Request {
        method: "HEAD",
        url: &format!("{URL}config"),
        headers: &[],
        body: &[],
    };
    connection.send(&request, timeout).map(drop)
}

//! The way to a server, made when it is first needed and made anew after it was lost.
//! It must never be tried by many at once, and never let more files be under way than was asked for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::command::SftpCommand;
use super::failure::Loss;
use super::session::Session;
use super::ssh::Ssh;

/// How long the greeting of a server may take when a person may have to type a password first.
const ASKING_MAX: Duration = Duration::from_secs(5 * 60);

/// The way to a server.
pub(super) struct Link {
    command: SftpCommand,
    stall: Duration,
    state: Mutex<State>,
    /// How often no connection came about; read without waiting for an attempt that is going on.
    failures: AtomicU64,
    permits: (Sender<()>, Receiver<()>),
}

#[derive(Default)]
struct State {
    session: Option<Arc<Session>>,
    /// Why no connection came about the last time.
    last: Option<Loss>,
}

/// One of so many files under way.
pub(super) struct Permit<'a>(&'a Receiver<()>);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let _ = self.0.try_recv();
    }
}

impl Link {
    pub(super) fn new(command: SftpCommand, stall: Duration) -> Self {
        let permits = bounded(command.connections);
        Self {
            command,
            stall,
            state: Mutex::default(),
            failures: AtomicU64::new(0),
            permits,
        }
    }

    /// Waits until one more file may be under way.
    pub(super) fn permit(&self) -> Permit<'_> {
        // It can't fail: this end of the channel lives as long as the other.
        let _ = self.permits.0.send(());
        Permit(&self.permits.1)
    }

    /// The connection; one that was lost is made anew, once: who waits for an attempt that fails takes its failure.
    pub(super) fn session(&self) -> Result<Arc<Session>, Loss> {
        let failures = self.failures.load(Ordering::SeqCst);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = state.session.as_ref().filter(|session| !session.is_lost()) {
            return Ok(Arc::clone(session));
        }
        let failed_meanwhile = self.failures.load(Ordering::SeqCst) != failures;
        if let Some(loss) = state.last.as_ref().filter(|_| failed_meanwhile) {
            return Err(loss.clone());
        }
        state.session = None;
        match self.connect() {
            Ok(session) => {
                let session = Arc::new(session);
                state.session = Some(Arc::clone(&session));
                Ok(session)
            }
            Err(loss) => {
                self.failures.fetch_add(1, Ordering::SeqCst);
                state.last = Some(loss.clone());
                Err(loss)
            }
        }
    }

    fn connect(&self) -> Result<Session, Loss> {
        let ssh = Ssh::start(&self.command)?;
        let greeting_max = if self.command.may_ask {
            ASKING_MAX
        } else {
            SftpCommand::greeting_max(self.stall)
        };
        Session::open(ssh, greeting_max, self.stall)
    }
}

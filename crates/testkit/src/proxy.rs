//! A proxy for HTTP/1.1 in front of a server on this machine: it counts what passes, makes the way longer, and fails by plan.
//! It must never change what passes unless its plan says so: a signature covers headers, the host's among them.

mod connection;
mod fault;
mod message;
mod traffic;

use std::collections::HashMap;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub use fault::{Exchange, HttpFault, HttpPlan};
pub use traffic::Traffic;

use connection::Connection;
use message::Answer;

/// A proxy that runs until it is dropped.
#[derive(Debug)]
pub struct HttpProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    round_trip_micros: AtomicU64,
    stopping: AtomicBool,
    open: Mutex<HashMap<u64, Vec<TcpStream>>>,
    traffic: Mutex<Traffic>,
    story: Mutex<Story>,
}

/// What the plan says, and what happened since it was made.
#[derive(Debug, Default)]
struct Story {
    plan: Option<HttpPlan>,
    exchanges: Vec<Exchange>,
    injected: Vec<(Exchange, HttpFault)>,
    /// The last answer to each request for a listing.
    listings: HashMap<String, Answer>,
}

impl HttpProxy {
    /// A proxy on a free port of this machine in front of a server that speaks HTTP without TLS.
    ///
    /// # Panics
    /// If there is no free port.
    #[must_use]
    pub fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("the port that was bound");
        let shared = Arc::new(Shared {
            upstream,
            round_trip_micros: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            open: Mutex::default(),
            traffic: Mutex::default(),
            story: Mutex::default(),
        });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self {
            address,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The beginning of every URL, as `http://127.0.0.1:4000`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes the way longer: each request's answer comes so much later, and so does a new connection.
    pub fn set_round_trip(&self, round_trip: Duration) {
        let micros = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
        self.shared
            .round_trip_micros
            .store(micros, Ordering::SeqCst);
    }

    /// Goes on by this plan; requests are numbered from 0 again. Earlier listings are remembered.
    pub fn follow(&self, plan: HttpPlan) {
        let mut story = lock(&self.shared.story);
        story.plan = Some(plan);
        story.exchanges.clear();
        story.injected.clear();
    }

    /// All requests since the plan was made.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        lock(&self.shared.story).exchanges.clone()
    }

    /// The requests that went wrong by plan, and how. A fault that fits no such request is not among them.
    #[must_use]
    pub fn injected(&self) -> Vec<(Exchange, HttpFault)> {
        lock(&self.shared.story).injected.clone()
    }

    /// What passed since the last reset.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        lock(&self.shared.traffic).clone()
    }

    /// Counts from 0 again.
    pub fn reset_traffic(&self) {
        *lock(&self.shared.traffic) = Traffic::default();
    }
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts; if nobody can connect, it has ended already.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        for stream in lock(&self.shared.open).values().flatten() {
            // One that is closed already needs nothing.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for number in 0.. {
        let accepted = listener.accept();
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok((client, _)) = accepted else { continue };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            if let Ok(connection) = Connection::new(client, number, &shared) {
                lock(&shared.traffic).connections += 1;
                connection.serve();
            }
            lock(&shared.open).remove(&number);
        });
    }
}

impl Shared {
    fn round_trip(&self) -> Duration {
        Duration::from_micros(self.round_trip_micros.load(Ordering::SeqCst))
    }

    /// Writes a request down, and says what the plan wants.
    fn begin(&self, method: &str, target: &str) -> (Exchange, Option<HttpFault>) {
        let mut story = lock(&self.story);
        let exchange = Exchange {
            number: story.exchanges.len() as u64,
            method: method.to_owned(),
            target: target.to_owned(),
        };
        let Some(plan) = story.plan.clone() else {
            return (exchange, None);
        };
        story.exchanges.push(exchange.clone());
        drop(story);
        let fault = plan.fault(&exchange);
        (exchange, fault)
    }

    fn note(&self, exchange: &Exchange, fault: HttpFault) {
        lock(&self.story).injected.push((exchange.clone(), fault));
    }

    /// Whether answers to this request must be kept, to be told again when they are no longer true.
    fn remembers(&self, exchange: &Exchange) -> bool {
        exchange.is_listing() && lock(&self.story).plan.is_some()
    }

    fn remember(&self, exchange: &Exchange, answer: &Answer) {
        let mut story = lock(&self.story);
        story
            .listings
            .insert(exchange.target.clone(), answer.clone());
    }

    fn earlier(&self, exchange: &Exchange) -> Option<Answer> {
        lock(&self.story).listings.get(&exchange.target).cloned()
    }

    /// Keeps a handle of a connection, to break it when the proxy stops.
    fn hold(&self, number: u64, stream: &TcpStream) -> std::io::Result<()> {
        let handle = stream.try_clone()?;
        lock(&self.open).entry(number).or_default().push(handle);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

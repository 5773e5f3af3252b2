//! The REST backend keeps the contract against the real rest-server, and says clearly what is wrong with a server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lifeboat_flow::{Cancel, Event, EventSink};
use lifeboat_repo::backend::{Backend, RetryPolicy, RetryingBackend, open};
use lifeboat_testkit::conformance::{Traits, check_backend_with};
use lifeboat_testkit::faults::{Fault, FaultPlan, FaultyBackend};
use lifeboat_testkit::replay::{Note, seed};
use lifeboat_testkit::rest_server::{Options, RestServer};

/// Waits of milliseconds; with a fifth of all operations failing, none comes near the end.
const QUICK: RetryPolicy = RetryPolicy {
    wait_first: Duration::from_millis(1),
    wait_max: Duration::from_millis(4),
    retry_after_max: Duration::from_millis(4),
    total: Duration::from_secs(60),
    lock_total: Duration::from_secs(60),
    unreachable_total: Duration::from_secs(60),
    parting_total: Duration::from_secs(60),
    quiet_tries: u32::MAX,
    note_interval: Duration::from_secs(60),
};
const FAILING_PERCENT: u64 = 20;
/// rest-server replaces no file.
const TRAITS: Traits = Traits {
    has_folders: true,
    replaces: false,
};

struct Unheard;

impl EventSink for Unheard {
    fn event(&self, _: Event) {}
}

/// Repositories of a server that do not exist yet.
fn places(server: &RestServer) -> impl Fn() -> Arc<dyn Backend> {
    let count = AtomicU64::new(0);
    move || {
        let number = count.fetch_add(1, Ordering::Relaxed);
        open(&server.location(&format!("a/{number}")), &server.options()).unwrap()
    }
}

#[test]
fn rest_server() {
    let server = RestServer::start(Options::default());
    let next = places(&server);
    check_backend_with(TRAITS, &|| Box::new(next()));
}

#[test]
fn rest_server_with_a_password_and_tls() {
    let server = RestServer::start(Options {
        auth: true,
        tls: true,
        ..Options::default()
    });
    let next = places(&server);
    check_backend_with(TRAITS, &|| Box::new(next()));
}

#[test]
fn rest_server_that_fails() {
    let seed = seed();
    let _seed = Note::seed(seed);
    let server = RestServer::start(Options::default());
    let next = places(&server);
    check_backend_with(TRAITS, &|| {
        let faults = [Fault::FailBefore, Fault::FailAfter];
        let plan = FaultPlan::random(seed, FAILING_PERCENT, &faults);
        Box::new(RetryingBackend::new(
            Arc::new(FaultyBackend::new(next(), plan)),
            QUICK,
            Arc::new(Unheard),
            Cancel::new(),
        ))
    });
}

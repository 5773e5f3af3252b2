//! What comes back is measured, what does not is told in the words of the server, and what is of this machine is no verdict.

use std::fs;
use std::time::Duration;

use lifeboat_flow::Cancel;
use lifeboat_state::postgres::recovery::{Action, RecoveryTarget};
use lifeboat_state::postgres::verify::{
    EXACT_UP_TO_BYTES, Found, Preload, Progress, ScratchServer, Verdict, measure, verify,
};
use lifeboat_state::postgres::{Lsn, Timeline};
use lifeboat_testkit::postgres::{Options, give_away};
use lifeboat_testkit::wait::until;

use crate::live::{
    Live, address, ask, not_recoverable, programs, proven, recovered, undetermined, waiting,
};

#[test]
fn what_was_captured_comes_back_and_all_is_measured() {
    let live = Live::with_checksums();
    live.cluster
        .sql("create table t as select g, repeat('x', g % 900) from generate_series(1, 5000) g");
    live.cluster
        .sql("create index on t (g); create extension hstore");
    live.cluster.sql("create database other");
    live.copy("copy");
    live.cluster
        .sql("insert into t select g, 'later' from generate_series(1, 700) g");
    let address = address(&live);
    let baseline = measure(&address, EXACT_UP_TO_BYTES, &Cancel::new()).unwrap();
    let mut request = live.request("copy");
    request.at_least = Some(live.archived());
    request.baseline = Some(baseline.clone());
    (request.amcheck, request.checksums) = (true, true);
    let progress = Progress::default();
    let proof = verify(&request, &progress, &Cancel::new()).unwrap();
    assert_eq!(proof.verdict, Verdict::Recoverable, "{proof:?}");
    let report = proof.report;
    let checks: Vec<(&str, &Found)> = report
        .checks
        .iter()
        .map(|check| (check.name, &check.found))
        .collect();
    assert_eq!(
        checks,
        [
            ("baseline", &Found::Nothing),
            ("amcheck", &Found::Nothing),
            ("checksums", &Found::Nothing)
        ]
    );
    assert!(
        report.position >= request.at_least && progress.replayed() == report.position,
        "{report:?}"
    );
    assert_eq!(report.timeline, Some(Timeline(1)));
    assert!(
        report.last_transaction.is_some() && report.accepting_seconds <= report.recovery_seconds,
        "{report:?}"
    );
    assert!(progress.pages() > 1000, "{}", progress.pages());
    assert!(live.is_gone("copy"));
    // The copy is a cluster of its own now, on the next timeline, and holds what the live one held.
    let mut server =
        ScratchServer::start(&programs(&live), &live.options("copy"), None, None).unwrap();
    let again = recovered(&mut server);
    assert_eq!(again.timeline, Timeline(2));
    assert_eq!(ask(&server, "select count(*) from public.t"), "5700");
    server.stop(&Cancel::new()).unwrap();
    assert!(live.is_gone("copy"));
}

#[test]
fn a_target_that_is_not_reached_is_told_in_the_words_of_the_server() {
    let live = Live::start(Options::default());
    live.copy("target");
    live.copy("position");
    let end = live.archived();
    let beyond = Lsn(end.0 + (1 << 30));
    let mut request = live.request("target");
    request.recovery.target = RecoveryTarget::Lsn(beyond);
    // Whatever is asked for at the target, a verification ends.
    request.recovery.action = Action::Pause;
    let words = not_recoverable(&request);
    assert_eq!(
        words,
        "FATAL:  recovery ended before configured recovery target was reached"
    );
    // Without a target the server is content with what there is. We are not.
    let mut request = live.request("position");
    request.at_least = Some(beyond);
    let words = not_recoverable(&request);
    assert!(words.starts_with("the recovery ended at 0/"), "{words}");
    assert!(
        words.ends_with(&format!(
            " on timeline 1, and should have come to {beyond} at least"
        )),
        "{words}"
    );
    assert!(live.is_gone("target") && live.is_gone("position"));
}

#[test]
fn a_log_that_is_missing_is_told_and_an_archive_that_fails_says_nothing_of_the_capture() {
    let live = Live::start(Options::default());
    for name in ["without", "torn", "unreachable", "controlless", "damaged"] {
        live.copy(name);
    }
    live.archived();
    let mut request = live.request("without");
    request.recovery.restore_command = None;
    let words = not_recoverable(&request);
    assert!(
        words.contains("could not locate required checkpoint record"),
        "{words}"
    );
    // The log only up to the checkpoint of the backup, which is not its end.
    let label = fs::read_to_string(live.path("torn").join("backup_label")).unwrap();
    let (_, rest) = label.split_once("(file ").unwrap();
    let first = live.path("torn").join("pg_wal").join(&rest[..24]);
    fs::copy(live.path("archive").join(&rest[..24]), &first).unwrap();
    give_away(&first);
    let content = fs::read(&first).unwrap();
    let (_, position) = label.split_once("CHECKPOINT LOCATION: 0/").unwrap();
    let position =
        usize::from_str_radix(position.lines().next().unwrap(), 16).unwrap() % content.len();
    let length = u32::from_le_bytes(content[position..position + 4].try_into().unwrap());
    let mut cut = content[..position + length as usize].to_vec();
    cut.resize(content.len(), 0);
    fs::write(&first, cut).unwrap();
    let mut request = live.request("torn");
    request.recovery.restore_command = None;
    let words = not_recoverable(&request);
    assert!(
        words.contains("WAL ends before end of online backup"),
        "{words}"
    );
    let mut request = live.request("unreachable");
    request.recovery.restore_command = Some("echo no archive today >&2; exit 200".into());
    let why = undetermined(&request);
    assert!(
        why.contains("from archive: child process exited with exit code 200"),
        "{why}"
    );
    fs::remove_file(live.path("controlless").join("global/pg_control")).unwrap();
    let words = not_recoverable(&live.request("controlless"));
    assert!(words.contains("global/pg_control: No such file"), "{words}");
    let control = live.path("damaged").join("global/pg_control");
    let mut content = fs::read(&control).unwrap();
    content[50] ^= 1;
    fs::write(&control, content).unwrap();
    let words = not_recoverable(&live.request("damaged"));
    assert!(words.contains("no checksum fits"), "{words}");
}

#[test]
fn what_is_missing_on_this_machine_is_named_before_anything_starts() {
    let live = Live::start(Options::default());
    live.copy("copy");
    let mut request = live.request("copy");
    request.options.preload =
        Preload::choose("timescaledb, pg_cron, pg_prewarm", &["pg_prewarm".into()]);
    let proof = proven(&request);
    let Verdict::Undetermined { why } = &proof.verdict else {
        panic!("{proof:?}");
    };
    assert!(
        why.starts_with("the library timescaledb can't be found here: install"),
        "{why}"
    );
    assert_eq!(proof.report.libraries_left_out, ["pg_cron"]);
    let address = address(&live);
    let mut baseline = measure(&address, 0, &Cancel::new()).unwrap();
    baseline.databases[0].extensions[0].name = "vchord".into();
    let mut request = live.request("copy");
    request.baseline = Some(baseline);
    let why = undetermined(&request);
    assert!(
        why.starts_with("the extension vchord can't be found here"),
        "{why}"
    );
    // What is wrong with the request is no fault of the capture.
    let mut request = live.request("copy");
    request.options.superuser = "nobody_of_this_name".into();
    let why = undetermined(&request);
    assert!(
        why.contains("role \"nobody_of_this_name\" does not exist"),
        "{why}"
    );
    fs::write(live.path("copy").join("PG_VERSION"), "99\n").unwrap();
    let why = undetermined(&live.request("copy"));
    assert!(
        why.starts_with("no postgres 99 in /usr/lib/postgresql/99/bin, "),
        "{why}"
    );
    let mut request = live.request("copy");
    request.programs = Some(
        programs(&live)
            .path("postgres")
            .parent()
            .unwrap()
            .to_owned(),
    );
    let why = undetermined(&request);
    assert!(why.contains("/postgres is "), "{why}");
    assert!(live.is_gone("copy"));
}

#[test]
fn a_recovery_that_does_not_go_on_is_given_up_and_one_that_nobody_wants_is_stopped() {
    let live = Live::start(Options::default());
    live.copy("stuck");
    live.copy("stopped");
    let mut request = live.request("stuck");
    request.recovery = waiting(&live);
    request.stuck_after = Some(Duration::from_secs(1));
    let why = undetermined(&request);
    assert_eq!(why, "the recovery made no progress for 1 s");
    assert!(live.is_gone("stuck"));
    fs::remove_file(live.path("asked")).unwrap();
    let mut request = live.request("stopped");
    request.recovery = waiting(&live);
    let cancel = Cancel::new();
    let verifying = std::thread::spawn({
        let cancel = cancel.clone();
        move || verify(&request, &Progress::default(), &cancel)
    });
    until("the server asks for its log", || {
        live.path("asked").exists()
    });
    cancel.cancel();
    assert!(verifying.join().unwrap().is_err());
    assert!(live.is_gone("stopped"));
}

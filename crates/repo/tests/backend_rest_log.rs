//! The log on the real rest-server: a nested repository, in which a name is never given to two contents.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use lifeboat_format::Id;
use lifeboat_repo::backend::{Backend, BackendError, Creation, FileName, LogName, Trouble, open};
use lifeboat_testkit::conformance::{log_listing, log_name};
use lifeboat_testkit::faults::{Fault, FaultPlan, FaultyBackend, Verb};
use lifeboat_testkit::rest_server::{Options, RestServer, USER};
use lifeboat_testkit::restic::Restic;
use lifeboat_testkit::retrying::retrying;

fn backend(server: &RestServer, path: &str) -> Arc<dyn Backend> {
    open(&server.location(path), &server.options()).unwrap()
}

/// A repository, as far as the log needs one.
fn made(server: &RestServer, path: &str) -> Arc<dyn Backend> {
    let backend = backend(server, path);
    backend.create().unwrap();
    backend.save(FileName::CONFIG, &[b"config"]).unwrap();
    backend
}

fn create(backend: &dyn Backend, name: &LogName, content: &[u8]) -> Creation {
    backend.log_create(name, &[content]).unwrap()
}

/// The names of all files below a folder.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![folder.to_path_buf()];
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => left.push(path),
                false => found.push(path.strip_prefix(folder).unwrap().display().to_string()),
            }
        }
    }
    found.sort();
    found
}

#[test]
fn it_lies_in_the_repository_or_beside_it_where_the_server_goes_no_deeper() {
    let server = RestServer::start(Options::default());
    let name = log_name("wal/1/a");
    for (path, place) in [
        ("", "lifeboat"),
        ("web", "web/lifeboat"),
        ("user/web", "user/web-lifeboat"),
    ] {
        let backend = made(&server, path);
        assert!(log_listing(&backend, None).unwrap().is_empty());
        assert!(backend.log_load(&name, 9).unwrap_err().is_missing());
        assert_eq!(create(&backend, &name, b"content"), Creation::Created);
        let found = files(&server.directory(place));
        assert_eq!(found.len(), 2, "{place}: {found:?}");
        assert!(found[0].starts_with("data/") && found[1].starts_with("snapshots/"));
        // Who comes later finds it there.
        let later = self::backend(&server, path);
        assert_eq!(log_listing(&later, None).unwrap().len(), 1);
        assert_eq!(later.log_load(&name, 7).unwrap(), b"content");
        assert_eq!(create(&later, &name, b"other"), Creation::Exists);
        later.log_remove(&name).unwrap();
        assert!(files(&server.directory(place)).is_empty());
        assert!(backend.log_load(&name, 9).unwrap_err().is_missing());
    }
}

#[test]
fn users_with_repositories_of_their_own_have_logs_of_their_own() {
    let server = RestServer::start(Options {
        auth: true,
        private: true,
        ..Options::default()
    });
    for (path, place) in [
        (USER.to_owned(), format!("{USER}/lifeboat")),
        (format!("{USER}/web"), format!("{USER}/web-lifeboat")),
    ] {
        let backend = made(&server, &path);
        let name = log_name("wal/1/a");
        assert!(log_listing(&backend, None).unwrap().is_empty(), "{path}");
        assert_eq!(create(&backend, &name, b"content"), Creation::Created);
        assert_eq!(files(&server.directory(&place)).len(), 2, "{path}");
        assert_eq!(backend.log_load(&name, 7).unwrap(), b"content");
    }
}

/// Each with a value of its own, as several processes have; those that give way try again.
#[test]
fn one_of_several_processes_creates_an_object() {
    let server = RestServer::start(Options::default());
    made(&server, "r");
    let backends: Vec<_> = (0..4).map(|_| retrying(backend(&server, "r"))).collect();
    for round in 0..10 {
        let name = log_name(&format!("wal/{round}"));
        let made: Vec<Creation> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0u8..)
                .zip(&backends)
                .map(|(number, backend)| {
                    let name = &name;
                    scope.spawn(move || create(backend, name, &[number; 1000]))
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let created = made.iter().filter(|made| **made == Creation::Created);
        assert_eq!(created.count(), 1, "{made:?}");
        for backend in &backends {
            let kept = backend.log_load(&name, 1000).unwrap();
            assert_eq!(made[usize::from(kept[0])], Creation::Created);
            assert_eq!(kept, vec![kept[0]; 1000]);
        }
    }
    assert_eq!(log_listing(&backends[0], None).unwrap().len(), 10);
    assert_eq!(
        files(&server.directory("r/lifeboat/snapshots")).len(),
        10,
        "who gave way left no claim"
    );
}

#[test]
fn append_only_keeps_the_log_and_lets_it_grow() {
    let server = RestServer::start(Options {
        append_only: true,
        ..Options::default()
    });
    let backend = made(&server, "r");
    let name = log_name("wal/1/a");
    assert_eq!(create(&backend, &name, b"content"), Creation::Created);
    assert_eq!(create(&backend, &name, b"content"), Creation::Created);
    assert_eq!(create(&backend, &name, b"other"), Creation::Exists);
    let error = backend.log_remove(&name).unwrap_err();
    assert!(error.is_refusal(), "{error:?}");
    assert_eq!(backend.log_load(&name, 7).unwrap(), b"content");
    backend.log_remove(&log_name("wal/1/nobody")).unwrap();
}

/// A writer that is killed between the two halves, and a file that is lost later.
#[test]
fn one_half_alone_is_nothing_or_damage() {
    let server = RestServer::start(Options::default());
    let backend = made(&server, "r");
    let name = log_name("wal/1/a");
    create(&backend, &name, b"content");
    let folder = server.directory("r/lifeboat");
    let claim = fs::read_dir(folder.join("snapshots")).unwrap().next();
    let claim = claim.unwrap().unwrap().path();
    let bytes = fs::read(&claim).unwrap();
    // The content alone: nobody knows its name.
    fs::remove_file(&claim).unwrap();
    assert!(log_listing(&backend, None).unwrap().is_empty());
    assert!(backend.log_load(&name, 7).unwrap_err().is_missing());
    assert_eq!(create(&backend, &name, b"content"), Creation::Created);
    assert_eq!(
        fs::read(&claim).unwrap(),
        bytes,
        "what was uploaded is used again"
    );
    // The claim alone: the object was there.
    let id = Id::of(b"content").to_string();
    let content = folder.join("data").join(&id[..2]).join(&id);
    fs::remove_file(&content).unwrap();
    assert_eq!(log_listing(&backend, None).unwrap().len(), 1);
    for backend in [backend.clone(), self::backend(&server, "r")] {
        let error = backend.log_load(&name, 7).unwrap_err();
        assert!(!error.is_missing(), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!(
                "cannot read lifeboat/wal/1/a in {}: its content, data/{id} beside it, is gone",
                server.repository("r")
            )
        );
    }
    assert_eq!(create(&backend, &name, b"other"), Creation::Exists);
    backend.log_remove(&name).unwrap();
    assert_eq!(create(&backend, &name, b"other"), Creation::Created);
}

#[test]
fn a_damaged_claim_is_told_and_hides_nothing() {
    let server = RestServer::start(Options::default());
    made(&server, "r")
        .log_create(&log_name("wal/1/a"), &[b"x"])
        .unwrap();
    let folder = server.directory("r/lifeboat/snapshots");
    let claim = fs::read_dir(&folder)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let whole = fs::read(&claim).unwrap();
    let mut bent = whole.clone();
    bent[30] ^= 1;
    for damaged in [&bent[..], &whole[..100], b""] {
        fs::remove_file(&claim).unwrap();
        fs::write(&claim, damaged).unwrap();
        let backend = backend(&server, "r");
        let errors = [
            log_listing(&backend, None).unwrap_err(),
            backend.log_load(&log_name("wal/1/a"), 9).unwrap_err(),
            backend
                .log_create(&log_name("wal/1/b"), &[b"x"])
                .unwrap_err(),
        ];
        for error in errors {
            let said = error.to_string();
            assert!(
                said.contains("nobody knows which object it names"),
                "{said}"
            );
            assert!(!error.is_missing() && !error.is_transient());
        }
    }
}

/// Two who wrote at once, one of whom was killed before it gave way.
#[test]
fn two_claims_of_one_name_are_told_until_somebody_decides() {
    let server = RestServer::start(Options::default());
    let (one, other) = (made(&server, "r"), made(&server, "q"));
    let name = log_name("wal/1/a");
    create(&one, &name, b"one");
    create(&other, &name, b"another");
    // The claim and the content of the other repository, put beside ours.
    let (from, to) = (
        server.directory("q/lifeboat"),
        server.directory("r/lifeboat"),
    );
    for file in files(&from) {
        fs::copy(from.join(&file), to.join(&file)).unwrap();
    }
    let third = retrying(backend(&server, "r"));
    // It may pass, and is tried again until it surely does not.
    for error in [
        third.log_load(&name, 100).unwrap_err(),
        third.log_create(&name, &[b"third"]).unwrap_err(),
    ] {
        assert_eq!(error.trouble(), Some(Trouble::Other), "{error:?}");
        let said = error.to_string();
        assert!(said.contains("two contents have this name"), "{said}");
    }
    assert_eq!(log_listing(&third, None).unwrap().len(), 1);
    // Whose content it is and who tries again gives way, and then finds the other's.
    assert_eq!(create(&third, &name, b"another"), Creation::Exists);
    assert_eq!(third.log_load(&name, 100).unwrap(), b"one");
    assert_eq!(files(&to).len(), 2);
}

#[test]
fn a_lost_answer_makes_no_second_claim() {
    let server = RestServer::start(Options::default());
    let plan = FaultPlan::new(|operation| {
        let is_create = operation.verb == Verb::LogCreate;
        (is_create && operation.number % 2 == 0).then_some(Fault::TimeoutAfter)
    });
    let backend = retrying(FaultyBackend::new(made(&server, "r"), plan));
    for number in 0..5 {
        let name = log_name(&format!("wal/{number}"));
        assert_eq!(create(&backend, &name, &[number]), Creation::Created);
    }
    assert_eq!(files(&server.directory("r/lifeboat/snapshots")).len(), 5);
}

#[test]
fn where_no_repository_is_no_log_is_made() {
    let server = RestServer::start(Options::default());
    for path in ["nobody", "nobody/deep"] {
        let error = backend(&server, path).log_create(&log_name("a"), &[b"x"]);
        assert!(
            matches!(error, Err(BackendError::NoRepository { .. })),
            "{error:?}"
        );
    }
    assert!(!server.directory("nobody").exists());
}

#[test]
fn restic_neither_minds_nor_touches_it() {
    let server = RestServer::start(Options::default());
    let place = server.repository("r");
    let restic = Restic::current(Path::new(&place));
    restic.run(&["init"]);
    let backend = backend(&server, "r");
    let name = log_name("wal/1/a");
    assert_eq!(create(&backend, &name, b"content"), Creation::Created);
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("file"), "x").unwrap();
    for _ in 0..2 {
        restic.run(&["backup", source.path().to_str().unwrap()]);
    }
    restic.run(&["forget", "--keep-last", "1", "--prune"]);
    restic.run(&["check", "--read-data"]);
    assert_eq!(backend.log_load(&name, 7).unwrap(), b"content");
    assert_eq!(files(&server.directory("r/lifeboat")).len(), 2);
}

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
        let seen: Vec<(Creation, Vec<u8>)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0u8..)
                .zip(&backends)
                .map(|(number, backend)| {
                    let name = &name;
                    scope.spawn(move || {
                        let made = create(backend, name, &[number; 1000]);
                        (made, backend.log_load(name, 1000).unwrap())
                    })
                })
                .collect();
            let ends = threads.into_iter().map(|thread| thread.join().unwrap());
            ends.collect()
        });
        let created = seen.iter().filter(|(made, _)| *made == Creation::Created);
        assert_eq!(created.count(), 1, "round {round}");
        // Who was told that it exists, saw what stays.
        for kept in seen.iter().map(|(_, kept)| kept).chain(
            &backends
                .iter()
                .map(|backend| backend.log_load(&name, 1000).unwrap())
                .collect::<Vec<_>>(),
        ) {
            assert_eq!(*kept, vec![seen[0].1[0]; 1000]);
        }
        assert_eq!(seen[usize::from(seen[0].1[0])].0, Creation::Created);
    }
    assert!(files(&server.directory("r/lifeboat/locks")).is_empty());
    assert_eq!(log_listing(&backends[0], None).unwrap().len(), 10);
    assert_eq!(
        files(&server.directory("r/lifeboat/snapshots")).len(),
        10,
        "who gave way made no claim"
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

/// One who was held up for long while he stored his claim.
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
    let third = backend(&server, "r");
    for error in [
        third.log_load(&name, 100).unwrap_err(),
        third.log_create(&name, &[b"third"]).unwrap_err(),
        third.log_create(&name, &[b"another"]).unwrap_err(),
    ] {
        assert_eq!(error.trouble(), Some(Trouble::Other), "{error:?}");
        let said = error.to_string();
        assert!(said.contains("two contents have this name"), "{said}");
    }
    assert_eq!(log_listing(&third, None).unwrap().len(), 1);
    third.log_remove(&name).unwrap();
    assert!(files(&to).is_empty(), "both are gone");
    assert_eq!(create(&third, &name, b"third"), Creation::Created);
}

/// As one leaves it who is killed between the two, on a server from which only locks can be removed.
#[test]
fn an_intent_that_was_left_behind_counts_for_a_while() {
    let server = RestServer::start(Options {
        append_only: true,
        ..Options::default()
    });
    let backend = made(&server, "r");
    create(&backend, &log_name("wal/1/a"), b"a");
    let name = log_name("wal/1/b");
    let zeros = "0".repeat(64);
    let mut intent =
        format!(r#"{{"lifeboat_log":1,"name":"{name}","content":"{zeros}","size":1,"attempt":7}}"#);
    intent.push_str(&" ".repeat(1024 - intent.len()));
    let folder = server.directory("r/lifeboat/locks");
    fs::write(folder.join(Id::of(intent.as_bytes()).to_string()), &intent).unwrap();
    let error = backend.log_create(&name, &[b"b"]).unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(error.to_string().contains("somebody else is creating it"));
    assert!(backend.log_load(&name, 9).unwrap_err().is_missing());
    // Others have nothing to do with it, unless nobody can say whom it is about.
    assert_eq!(
        create(&backend, &log_name("wal/1/c"), b"c"),
        Creation::Created
    );
    let damaged = folder.join(Id::of(b"damaged").to_string());
    for content in [&b"half"[..], &[b' '; 5000]] {
        fs::write(&damaged, content).unwrap();
        let error = self::backend(&server, "r").log_create(&log_name("wal/1/d"), &[b"d"]);
        assert!(error.unwrap_err().is_transient());
    }
    for name in [name, log_name("wal/1/d")] {
        let patient = retrying(Arc::clone(&backend));
        assert_eq!(create(&patient, &name, b"late"), Creation::Created);
        assert_eq!(backend.log_load(&name, 9).unwrap(), b"late");
    }
    assert!(files(&folder).is_empty());
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

#[test]
fn a_repository_of_somebody_else_is_no_place_for_it() {
    let server = RestServer::start(Options::default());
    for (path, other) in [("", "lifeboat"), ("user/web", "user/web-lifeboat")] {
        let backend = made(&server, path);
        made(&server, other);
        let before = files(&server.directory(other));
        let name = log_name("wal/1/a");
        for error in [
            backend.log_create(&name, &[b"content"]).unwrap_err(),
            backend.log_load(&name, 9).unwrap_err(),
            log_listing(&backend, None).unwrap_err(),
        ] {
            assert!(!error.is_missing(), "{error}");
            let text = lifeboat_flow::chain(&error);
            assert!(text.contains("another repository lies there"), "{text}");
        }
        assert_eq!(files(&server.directory(other)), before);
    }
}

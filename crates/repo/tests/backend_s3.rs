//! A bucket keeps the contract of every backend, at a server in the process and at Garage, also when it is far from easy.

mod s3 {
    pub mod support;
}

use std::sync::LazyLock;
use std::time::Duration;

use lifeboat_format::Id;
use lifeboat_repo::backend::{
    Backend, BackendError, Creation, Destroyed, FileKind, FileName, LogName,
};
use lifeboat_testkit::conformance::{Traits, check_backend_with, listing, log_listing, log_name};
use lifeboat_testkit::faults::{Fault, FaultPlan, FaultyBackend};
use lifeboat_testkit::garage::Garage;
use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay::{Note, seed};
use lifeboat_testkit::retrying::retrying;
use lifeboat_testkit::s3::{Answer, LocalS3};
use s3::support::{made, opened, with_setting};

/// What no bucket has.
const BUCKET: Traits = Traits {
    has_folders: false,
    replaces: true,
    appears_whole: true,
};
const FAILING_PERCENT: u64 = 20;
const MEBIBYTE: usize = 1 << 20;

/// One server for all tests of this file, each in a place of its own.
static GARAGE: LazyLock<Garage> = LazyLock::new(Garage::start);

#[test]
fn the_server_in_the_process() {
    let server = LocalS3::start();
    check_backend_with(BUCKET, &|| {
        Box::new(opened(
            &server.location(&s3::support::unique()),
            &server.options(),
        ))
    });
}

#[test]
fn garage() {
    check_backend_with(BUCKET, &|| {
        Box::new(opened(
            &GARAGE.location(&s3::support::unique()),
            &GARAGE.options(),
        ))
    });
}

#[test]
fn behind_tls() {
    let server = LocalS3::start_tls();
    check_backend_with(BUCKET, &|| {
        Box::new(opened(
            &server.location(&s3::support::unique()),
            &server.options(),
        ))
    });
}

#[test]
fn with_the_first_version_of_listings_and_small_pages() {
    let server = LocalS3::start();
    server.limit_pages(7);
    let options = with_setting(server.options(), "s3.list-objects-v1", "true");
    check_backend_with(BUCKET, &|| {
        Box::new(opened(&server.location(&s3::support::unique()), &options))
    });
}

#[test]
fn a_server_that_does_not_know_conditions() {
    let server = LocalS3::start();
    server.ignore_conditions();
    check_backend_with(BUCKET, &|| {
        Box::new(opened(
            &server.location(&s3::support::unique()),
            &server.options(),
        ))
    });
}

#[test]
fn when_a_fifth_of_all_fails() {
    let server = LocalS3::start();
    check_backend_with(BUCKET, &|| {
        let seed = seed();
        let _seed = Note::seed(seed);
        let faults = [Fault::FailBefore, Fault::FailAfter];
        let plan = FaultPlan::random(seed, FAILING_PERCENT, &faults);
        let backend = opened(&server.location(&s3::support::unique()), &server.options());
        let faulty = FaultyBackend::new(backend, plan);
        Box::new(retrying(faulty))
    });
}

#[test]
fn names_with_signs_that_urls_do_not_have() {
    let prefix = format!("a b+c/ü%20&=/{}", s3::support::unique());
    let local = LocalS3::start();
    for backend in [
        opened(&local.location(&prefix), &local.options()),
        opened(&GARAGE.location(&prefix), &GARAGE.options()),
    ] {
        backend.create().unwrap();
        let name = FileName::new(FileKind::Snapshot, Id::of(b"x"));
        backend.save(name, &[b"x"]).unwrap();
        assert_eq!(backend.load(name, 1).unwrap(), b"x");
        assert_eq!(listing(&backend, FileKind::Snapshot).unwrap().len(), 1);
        backend.remove(name).unwrap();
        assert!(listing(&backend, FileKind::Snapshot).unwrap().is_empty());
    }
}

#[test]
fn a_bucket_without_a_path() {
    let server = LocalS3::start();
    let backend = made(&server, "");
    backend.save(FileName::CONFIG, &[b"config"]).unwrap();
    let name = FileName::new(FileKind::Key, Id::of(b"x"));
    backend.save(name, &[b"x"]).unwrap();
    assert_eq!(listing(&backend, FileKind::Key).unwrap().len(), 1);
    let keys: Vec<String> = server.objects().into_keys().collect();
    assert_eq!(keys, ["config".to_owned(), format!("keys/{}", name.id)]);
}

#[test]
fn pages_follow_each_other_to_the_end() {
    let server = LocalS3::start();
    let backend = made(&server, "repo");
    for number in 0..2345u32 {
        let id = Id::of(&number.to_le_bytes());
        server.put(&format!("repo/data/{:02x}/{id}", id.0[0]), b"12");
    }
    let _ = server.seen();
    let found = listing(&backend, FileKind::Pack).unwrap();
    assert_eq!(found.len(), 2345);
    assert!(found.values().all(|size_bytes| *size_bytes == 2));
    assert_eq!(server.seen().len(), 3, "a page has a thousand names");
}

#[test]
fn what_is_no_file_of_ours_is_not_listed() {
    let server = LocalS3::start();
    let backend = made(&server, "repo");
    let id = Id::of(b"x");
    let pack = format!("repo/data/{:02x}/{id}", id.0[0]);
    for key in [
        pack.as_str(),
        "repo/data/",
        "repo/data/00/notes.txt",
        &format!("repo/data/{id}"),
        &format!("repo/data/zz/{id}"),
        &format!("{pack}-tmp-1"),
        &format!(
            "repo/data/{:02x}/{}",
            id.0[0],
            id.to_string().to_uppercase()
        ),
        &format!("repo/index/old/{id}"),
        &format!("repo2/data/{:02x}/{id}", id.0[0]),
    ] {
        server.put(key, b"x");
    }
    assert_eq!(
        listing(&backend, FileKind::Pack)
            .unwrap()
            .into_iter()
            .collect::<Vec<_>>(),
        [(id, 1)]
    );
    assert!(listing(&backend, FileKind::Index).unwrap().is_empty());
}

#[test]
fn a_listing_that_breaks_off_is_an_error() {
    let server = LocalS3::start();
    let backend = made(&server, "repo");
    for number in 0..10u8 {
        server.put(&format!("repo/keys/{}", Id::of(&[number])), b"x");
    }
    server.limit_pages(4);
    let page = |end: &str| Answer {
        status: 200,
        headers: vec![],
        body: format!("<ListBucketResult>{end}</ListBucketResult>"),
    };
    let html = Answer {
        body: "<html><body>welcome</body></html>".into(),
        ..page("")
    };
    let half = Answer {
        body: "<ListBucketResult><IsTruncated>false</IsTruncated>".into(),
        ..page("")
    };
    for (bent, said) in [
        (page(""), "does not say whether it is the last"),
        (
            page("<IsTruncated>true</IsTruncated>"),
            "says that there is more, and not where",
        ),
        (
            page("<IsTruncated>false</IsTruncated><Contents><Key>k</Key></Contents>"),
            "an object without a key or size",
        ),
        (half, "the answer is no XML"),
        (html, "\"html\" instead of \"ListBucketResult\""),
        (
            Answer::error(200, "InternalError", "We encountered an internal error"),
            "We encountered an internal error",
        ),
        (
            Answer::error(503, "SlowDown", "Please reduce your request rate"),
            "Please reduce your request rate",
        ),
    ] {
        // The second page.
        server.bend("continuation-token", 1, bent);
        let error = backend.list(FileKind::Key, &mut |_, _| {}).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        assert!(!matches!(
            error,
            BackendError::NoRepository { .. } | BackendError::Missing { .. }
        ));
    }
    assert_eq!(listing(&backend, FileKind::Key).unwrap().len(), 10);
}

#[test]
fn long_files_go_in_parts() {
    let local = LocalS3::start();
    let content = Random::new(seed()).bytes(40 * MEBIBYTE + 5);
    let name = FileName::new(FileKind::Pack, Id::of(&content));
    let pieces: Vec<&[u8]> = content.chunks(3 * MEBIBYTE).collect();
    for backend in [
        made(&local, "repo"),
        opened(&GARAGE.location(&s3::support::unique()), &GARAGE.options()),
    ] {
        backend.save(name, &pieces).unwrap();
        assert!(backend.load(name, u64::MAX).unwrap() == content);
        assert_eq!(
            listing(&backend, FileKind::Pack).unwrap()[&name.id],
            content.len() as u64
        );
    }
    let parts = local
        .seen()
        .into_iter()
        .filter(|seen| seen.line.contains("partNumber"));
    assert_eq!(parts.count(), 3);
    assert_eq!(local.uploads(), 0);
}

#[test]
fn an_upload_that_fails_leaves_no_parts() {
    let server = LocalS3::start();
    let backend = made(&server, "repo");
    let content = vec![7; 40 * MEBIBYTE];
    let name = FileName::new(FileKind::Pack, Id::of(&content));
    for (part, answer) in [
        (
            "partNumber=2",
            Answer::error(500, "InternalError", "no luck"),
        ),
        (
            "partNumber=3",
            Answer {
                status: 200,
                headers: vec![],
                body: String::new(),
            },
        ),
        (
            "POST /bucket/repo/data",
            Answer::error(403, "AccessDenied", "no luck"),
        ),
        // The answer to the end of an upload begins before its end is known.
        ("?uploadId=", Answer::error(200, "InternalError", "no luck")),
    ] {
        server.bend(part, 1, answer);
        backend.save(name, &[&content]).unwrap_err();
        assert_eq!(server.uploads(), 0, "{part}");
        assert!(server.objects().is_empty(), "{part}");
    }
    backend.save(name, &[&content]).unwrap();
    assert_eq!(server.objects().len(), 1);
}

#[test]
fn uploads_that_nobody_finished_are_removed_when_they_are_old() {
    let server = LocalS3::start();
    let backend = made(&server, "repo");
    let other = made(&server, "other");
    let content = vec![7; 33 * MEBIBYTE];
    let name = FileName::new(FileKind::Pack, Id::of(&content));
    // Neither sent nor aborted, as if the writer had been killed.
    for backend in [&backend, &backend, &backend, &other] {
        server.bend(
            "partNumber=1",
            1,
            Answer::error(500, "InternalError", "killed"),
        );
        server.bend("DELETE", 1, Answer::error(500, "InternalError", "killed"));
        backend.save(name, &[&content]).unwrap_err();
    }
    assert_eq!(server.uploads(), 4);
    server.limit_pages(1);
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(backend.remove_unfinished(day).unwrap(), 0);
    server.age_uploads(2 * day);
    assert_eq!(backend.remove_unfinished(day).unwrap(), 3);
    assert_eq!(server.uploads(), 1, "what is not ours stays");
    assert_eq!(
        opened(&GARAGE.location("x"), &GARAGE.options())
            .remove_unfinished(day)
            .unwrap(),
        0
    );
}

#[test]
fn destroying_tells_what_is_left() {
    let name = FileName::new(FileKind::Pack, Id::of(b"x"));
    let gone = |backend: &dyn Backend| {
        backend.save(name, &[b"x"]).unwrap();
        assert_eq!(backend.destroy(name).unwrap(), Destroyed::Gone);
        assert_eq!(backend.destroy(name).unwrap(), Destroyed::Gone, "again");
        assert!(backend.size(name).unwrap_err().is_missing());
    };
    gone(&opened(
        &GARAGE.location(&s3::support::unique()),
        &GARAGE.options(),
    ));
    let server = LocalS3::start();
    let backend = made(&server, "repo");
    gone(&backend);

    server.keep_versions(false);
    backend.save(name, &[b"x"]).unwrap();
    backend.save(name, &[b"x"]).unwrap();
    backend.remove(name).unwrap();
    server.limit_pages(1);
    gone(&backend);
    let kept = |answer: Destroyed, said: &str| match answer {
        Destroyed::VersionKept(why) => assert!(why.contains(said), "{why}"),
        other => panic!("{other:?}"),
    };
    // Who may not see versions still learns from the removal that there are some.
    backend.save(name, &[b"x"]).unwrap();
    server.bend(
        "versions",
        1,
        Answer::error(403, "AccessDenied", "not for you"),
    );
    kept(backend.destroy(name).unwrap(), "not for you (AccessDenied)");

    server.keep_versions(true);
    backend.save(name, &[b"x"]).unwrap();
    kept(backend.destroy(name).unwrap(), "object lock");
    assert!(
        backend.size(name).unwrap_err().is_missing(),
        "its name is gone"
    );

    backend.save(name, &[b"x"]).unwrap();
    server.bend(
        "DELETE",
        1,
        Answer::error(403, "AccessDenied", "append only"),
    );
    assert_eq!(
        backend.destroy(name).unwrap(),
        Destroyed::Refused("append only (AccessDenied)".into())
    );
    server.bend("DELETE", 1, Answer::error(503, "SlowDown", "later"));
    backend.destroy(name).unwrap_err();
}

#[test]
fn only_packs_go_to_an_archive() {
    let server = LocalS3::start();
    let save_all = |options| {
        let backend = opened(&server.location("repo"), &options);
        let _ = server.seen();
        for kind in FileKind::NAMED.into_iter().chain([FileKind::Config]) {
            backend
                .save(FileName::new(kind, Id::of(b"x")), &[b"x"])
                .unwrap();
        }
        let classes = server.seen().into_iter().map(|seen| {
            let encryption = seen.headers.get("x-amz-server-side-encryption");
            let class = seen.headers.get("x-amz-storage-class");
            (class.cloned(), encryption.cloned())
        });
        classes.collect::<Vec<_>>()
    };
    let all = save_all(with_setting(
        server.options(),
        "s3.storage-class",
        "STANDARD_IA",
    ));
    assert!(
        all.iter()
            .all(|seen| seen.0.as_deref() == Some("STANDARD_IA")),
        "{all:?}"
    );
    let options = with_setting(server.options(), "s3.storage-class", "DEEP_ARCHIVE");
    let all = save_all(with_setting(options, "s3.sse", "AES256"));
    let archived = all.iter().filter(|seen| seen.0.is_some());
    assert_eq!(archived.count(), 1, "{all:?}");
    assert!(
        all.iter().all(|seen| seen.1.as_deref() == Some("AES256")),
        "{all:?}"
    );
}

#[test]
fn connections_are_used_again() {
    let server = LocalS3::start();
    let backend = made(&server, "repo");
    let _ = server.seen();
    let content = vec![7; 3 * MEBIBYTE];
    let name = FileName::new(FileKind::Pack, Id::of(&content));
    for _ in 0..5 {
        backend.save(name, &[&content]).unwrap();
        backend.load(name, u64::MAX).unwrap();
        backend.load_at(name, 5, &mut [0; 10]).unwrap();
        backend.size(name).unwrap();
        listing(&backend, FileKind::Pack).unwrap();
        backend.load(FileName::CONFIG, 1).unwrap_err();
        backend.size(FileName::CONFIG).unwrap_err();
        backend.remove(name).unwrap();
    }
    let seen = server.seen();
    let mut from: Vec<_> = seen.iter().map(|seen| seen.from).collect();
    from.dedup();
    assert_eq!(from.len(), 1, "{} requests", seen.len());
}

/// Creates one name from several processes at once, and returns what each was told and what is kept.
fn race(backends: &[std::sync::Arc<dyn Backend>], name: &LogName) -> (Vec<Creation>, Vec<u8>) {
    let made = std::thread::scope(|scope| {
        let threads: Vec<_> = (0u8..)
            .zip(backends)
            .map(|(number, backend)| {
                scope.spawn(move || backend.log_create(name, &[&[number; 50_000]]).unwrap())
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let kept = backends[0].log_load(name, 50_000).unwrap();
    assert!(kept == vec![kept[0]; 50_000], "what is kept is whole");
    (made, kept)
}

#[test]
fn one_of_several_processes_creates_an_object_where_conditions_are_kept() {
    let server = LocalS3::start();
    let backends: Vec<_> = (0..6).map(|_| made(&server, "repo")).collect();
    for round in 0..20 {
        let (made, kept) = race(&backends, &log_name(&format!("wal/{round}")));
        let created = made.iter().filter(|made| **made == Creation::Created);
        assert_eq!(created.count(), 1, "{made:?}");
        assert_eq!(made[usize::from(kept[0])], Creation::Created);
    }
}

/// What is told of Garage: it does not know the condition, so that two at the same moment can't be told apart. What is
/// kept is nevertheless whole and of one who was told so, and who comes later changes nothing.
#[test]
fn garage_keeps_a_whole_object_and_who_comes_later_changes_nothing() {
    let place = s3::support::unique();
    let backends: Vec<_> = (0..4)
        .map(|_| opened(&GARAGE.location(&place), &GARAGE.options()))
        .collect();
    for round in 0..5 {
        let name = log_name(&format!("wal/{round}"));
        let (made, kept) = race(&backends, &name);
        assert_eq!(made[usize::from(kept[0])], Creation::Created);
        for (number, backend) in backends.iter().enumerate() {
            let late = backend.log_create(&name, &[b"late"]).unwrap();
            assert_eq!(late, Creation::Exists, "{number}");
        }
        assert!(backends[0].log_load(&name, 50_000).unwrap() == kept);
    }
}

/// In parts the condition is asked for at the end, when they are joined.
#[test]
fn an_object_in_parts_is_created_once() {
    let content = Random::new(3).bytes(40 * MEBIBYTE);
    let other = Random::new(4).bytes(40 * MEBIBYTE);
    let (name, local) = (log_name("wal/large"), LocalS3::start());
    let place = s3::support::unique();
    for (location, options) in [
        (local.location(&place), local.options()),
        (GARAGE.location(&place), GARAGE.options()),
    ] {
        let backend = opened(&location, &options);
        let pieces: Vec<&[u8]> = content.chunks(7 * MEBIBYTE).collect();
        for _ in 0..2 {
            let made = backend.log_create(&name, &pieces).unwrap();
            assert_eq!(made, Creation::Created);
        }
        let again = backend.log_create(&name, &[&other]).unwrap();
        assert_eq!(again, Creation::Exists);
        assert!(backend.log_load(&name, u64::MAX).unwrap() == content);
    }
    assert_eq!(local.uploads(), 0);
    // Past the look that goes before, the condition itself holds.
    let blind = opened(&local.location(&place), &local.options());
    let missing = Answer::error(404, "NoSuchKey", "The specified key does not exist");
    local.bend("HEAD", 1, missing);
    let made = blind.log_create(&name, &[&other]).unwrap();
    assert_eq!((made, local.uploads()), (Creation::Exists, 0));
    assert!(blind.log_load(&name, u64::MAX).unwrap() == content);
}

#[test]
fn a_condition_that_was_kept_once_needs_no_looks_any_more() {
    let server = LocalS3::start();
    let backend = made(&server, "repo");
    let requests = |name: &str| {
        let _ = server.seen();
        backend
            .log_create(&log_name(name), &[name.as_bytes()])
            .unwrap();
        let seen = server.seen();
        let methods = seen
            .iter()
            .map(|seen| seen.line.split(' ').next().unwrap_or_default());
        methods.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(requests("a"), "HEAD PUT HEAD");
    let missing = Answer::error(404, "NoSuchKey", "The specified key does not exist");
    server.bend("HEAD", 1, missing);
    let made = backend.log_create(&log_name("a"), &[b"other"]).unwrap();
    assert_eq!(made, Creation::Exists);
    assert_eq!(requests("b"), "PUT");
}

#[test]
fn a_server_that_wants_no_conditions_gets_none() {
    let server = LocalS3::start();
    let backend = made(&server, "repo");
    let refusal = Answer::error(
        501,
        "NotImplemented",
        "A header you provided is not implemented",
    );
    server.bend("PUT", 1, refusal);
    for name in ["a", "b"] {
        let made = backend.log_create(&log_name(name), &[b"x"]).unwrap();
        assert_eq!(made, Creation::Created);
    }
    let seen = server.seen();
    let puts = seen
        .iter()
        .filter(|seen| seen.line.starts_with("PUT /bucket/repo/lifeboat"));
    let conditions: Vec<bool> = puts
        .map(|put| put.headers.contains_key("if-none-match"))
        .collect();
    assert_eq!(conditions, [true, false, false]);
    let late = backend.log_create(&log_name("a"), &[b"y"]).unwrap();
    assert_eq!(late, Creation::Exists);
}

#[test]
fn what_is_no_object_of_the_log_is_not_listed() {
    let server = LocalS3::start();
    let backend = made(&server, "repo");
    backend.log_create(&log_name("wal/1/a"), &[b"x"]).unwrap();
    for key in [
        "repo/lifeboat/",
        "repo/lifeboat/wal/",
        "repo/lifeboat/.hidden",
        "repo/lifeboat/wal//b",
        "repo/lifeboat2/wal/1/b",
        "lifeboat/wal/1/b",
    ] {
        server.put(key, b"x");
    }
    let names: Vec<String> = log_listing(&backend, None)
        .unwrap()
        .keys()
        .map(LogName::to_string)
        .collect();
    assert_eq!(names, ["wal/1/a"]);
    assert!(server.objects().contains_key("repo/lifeboat/wal/1/a"));
}

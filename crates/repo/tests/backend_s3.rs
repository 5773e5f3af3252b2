//! A bucket keeps the contract of every backend, at a server in the process and at Garage, also when it is far from easy.

mod s3 {
    pub mod support;
}

use std::sync::LazyLock;
use std::time::Duration;

use lifeboat_format::Id;
use lifeboat_repo::backend::{Backend, BackendError, Destroyed, FileKind, FileName};
use lifeboat_testkit::conformance::{Traits, check_backend_with, listing};
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

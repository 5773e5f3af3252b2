//! The REST backend keeps the contract against the real rest-server, and says clearly what is wrong with a server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lifeboat_format::Id;
use lifeboat_repo::backend::{
    Backend, BackendError, BackendOptions, Destroyed, FileKind, FileName, Trouble, open,
};
use lifeboat_testkit::conformance::{Traits, check_backend_with};
use lifeboat_testkit::faults::{Fault, FaultPlan, FaultyBackend};
use lifeboat_testkit::replay::{Note, seed};
use lifeboat_testkit::rest_server::{Options, RestServer};
use lifeboat_testkit::restic::PASSWORD;
use lifeboat_testkit::retrying::retrying;

const FAILING_PERCENT: u64 = 20;
/// rest-server replaces no file.
const TRAITS: Traits = Traits {
    has_folders: true,
    replaces: false,
    appears_whole: true,
};

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
        Box::new(retrying(FaultyBackend::new(next(), plan)))
    });
}

fn pack(content: &[u8]) -> FileName {
    FileName::new(FileKind::Pack, Id::of(content))
}

fn backend(location: &str, options: &BackendOptions) -> Arc<dyn Backend> {
    open(&location.parse().unwrap(), options).unwrap()
}

/// What the first thing that anybody does with a repository says, and which kind of trouble that is.
fn trouble(location: &str, options: &BackendOptions) -> (Trouble, String) {
    let error = backend(location, options).load(FileName::CONFIG, 1000);
    trouble_of(&error.unwrap_err())
}

fn trouble_of(error: &BackendError) -> (Trouble, String) {
    match error {
        BackendError::Remote { trouble, .. } => (*trouble, error.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn credentials_are_asked_for_and_never_shown() {
    let server = RestServer::start(Options {
        auth: true,
        ..Options::default()
    });
    let place = server.url("repo");
    let none = BackendOptions::default();
    assert_eq!(
        trouble(&format!("rest:{place}"), &none),
        (
            Trouble::Credentials,
            format!(
                "cannot read config in rest:{place}: the server answered 401 Unauthorized, and no user and password were given: they belong into RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD, or into the URL"
            )
        )
    );
    let address = server.address();
    let wrong = format!("rest:http://tester:secret@{address}/repo");
    assert_eq!(
        trouble(&wrong, &none),
        (
            Trouble::Credentials,
            format!(
                "cannot read config in rest:http://tester:***@{address}/repo/: the server answered 401 Unauthorized: it does not accept this user and password here"
            )
        )
    );
    let right = PASSWORD.replace(' ', "%20");
    let right = backend(&format!("rest:http://tester:{right}@{address}/repo"), &none);
    right.create().unwrap();
    right.save(FileName::CONFIG, &[b"config"]).unwrap();
    assert_eq!(
        backend(&server.repository("repo"), &server.options())
            .size(FileName::CONFIG)
            .unwrap(),
        6
    );
}

#[test]
fn nobody_there() {
    let none = BackendOptions::default();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = port.local_addr().unwrap();
    drop(port);
    let (kind, said) = trouble(&format!("rest:http://{closed}/"), &none);
    assert_eq!(kind, Trouble::Unreachable, "{said}");
    assert!(said.contains("refused"), "{said}");
    let (kind, said) = trouble("rest:http://nobody.invalid/", &none);
    assert_eq!(kind, Trouble::Unreachable, "{said}");
    assert!(said.contains("looked up"), "{said}");
}

#[test]
fn certificates_are_those_that_one_trusts() {
    let server = RestServer::start(Options {
        tls: true,
        ..Options::default()
    });
    let (kind, said) = trouble(&server.repository("a"), &BackendOptions::default());
    assert_eq!(kind, Trouble::Tls, "{said}");
    assert!(said.contains("certificate"), "{said}");
    backend(&server.repository("a"), &server.options())
        .create()
        .unwrap();
    let mut insecure = BackendOptions::default();
    insecure.tls.insecure = true;
    backend(&server.repository("a"), &insecure)
        .create()
        .unwrap();
    // Without TLS to a port with it.
    let (kind, said) = trouble(&format!("rest:http://{}/", server.address()), &insecure);
    assert_eq!(kind, Trouble::Protocol, "{said}");
    assert!(
        said.ends_with("400 Bad Request: Client sent an HTTP request to an HTTPS server."),
        "{said}"
    );
}

#[test]
fn a_server_that_shows_an_authority_as_its_own_certificate_is_told_apart() {
    let server = RestServer::start(Options {
        tls: true,
        self_signed: true,
        ..Options::default()
    });
    let (kind, said) = trouble(&server.repository("a"), &server.options());
    assert_eq!(kind, Trouble::Tls, "{said}");
    assert!(
        said.contains("basicConstraints=critical,CA:FALSE"),
        "{said}"
    );
}

#[test]
fn a_full_server_says_so() {
    let server = RestServer::start(Options {
        max_size_bytes: Some(10_000),
        ..Options::default()
    });
    let backend = backend(&server.repository("a"), &server.options());
    backend.create().unwrap();
    let content = vec![1; 20_000];
    let error = backend.save(pack(&content), &[&content]).unwrap_err();
    assert_eq!(trouble_of(&error).0, Trouble::Full, "{error}");
    backend.save(pack(b"small"), &[b"small"]).unwrap();
}

#[test]
fn append_only_keeps_what_is_there_and_takes_what_is_new() {
    let server = RestServer::start(Options {
        append_only: true,
        ..Options::default()
    });
    let backend = backend(&server.repository("a"), &server.options());
    backend.create().unwrap();
    for kind in FileKind::NAMED {
        let name = FileName::new(kind, Id::of(b"content"));
        backend.save(name, &[b"con", b"tent"]).unwrap();
        backend.save(name, &[b"content"]).unwrap();
        if kind == FileKind::Lock {
            backend.remove(name).unwrap();
            assert!(backend.size(name).unwrap_err().is_missing());
            continue;
        }
        let error = backend.remove(name).unwrap_err();
        assert!(error.is_refusal(), "{error:?}");
        assert!(error.to_string().contains("append-only"), "{error}");
        assert_eq!(backend.load(name, 7).unwrap(), b"content");
        backend
            .remove(FileName::new(kind, Id::of(b"nobody")))
            .unwrap();
        match backend.destroy(name).unwrap() {
            Destroyed::Refused(why) => assert!(why.contains("append-only"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    backend.save(FileName::CONFIG, &[b"config"]).unwrap();
    backend.save(FileName::CONFIG, &[b"config"]).unwrap();
    let error = backend.save(FileName::CONFIG, &[b"another"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot write config in {}: other content is kept under this name (6 bytes), and the server replaces none",
            server.repository("a")
        )
    );
}

#[test]
fn an_init_whose_config_broke_off_is_finished() {
    use lifeboat_repo::{Identity, KeyCost, RepoError, Repository};
    for append_only in [false, true] {
        let server = RestServer::start(Options {
            append_only,
            ..Options::default()
        });
        let place = server.repository("a");
        let init = || {
            let backend = backend(&place, &server.options());
            let (password, who) = (PASSWORD.as_bytes(), Identity::default());
            Repository::init(backend, password, 2, None, &who, KeyCost::Test)
        };
        init().unwrap();
        // As rest-server leaves it when it is killed in the middle of an upload.
        let config = server.directory("a").join("config");
        let left = std::fs::read(&config).unwrap();
        std::fs::remove_file(&config).unwrap();
        std::fs::write(&config, &left[..100]).unwrap();
        let open = || {
            let backend = backend(&place, &server.options());
            Repository::open(backend, PASSWORD.as_bytes(), None).map(drop)
        };
        assert!(matches!(open(), Err(RepoError::Damaged { .. })));
        match (append_only, init().map(drop)) {
            (false, Ok(())) => open().unwrap(),
            (true, Err(RepoError::ConfigInTheWay { .. })) => {
                assert_eq!(std::fs::read(&config).unwrap(), left[..100]);
                std::fs::remove_file(&config).unwrap();
                init().unwrap();
                open().unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_server_that_comes_back_is_used_again() {
    let mut server = RestServer::start(Options::default());
    let backend = backend(&server.repository("a"), &server.options());
    backend.create().unwrap();
    backend.save(pack(b"content"), &[b"content"]).unwrap();
    server.stop();
    let error = backend.load(pack(b"content"), 7).unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    server.start_again();
    assert_eq!(backend.load(pack(b"content"), 7).unwrap(), b"content");
    // A disk that is not mounted any more is no empty repository.
    std::fs::remove_dir_all(server.directory("a")).unwrap();
    let other = open(&server.location("a"), &server.options()).unwrap();
    for kind in FileKind::NAMED {
        let error = other.list(kind, &mut |_, _| {}).unwrap_err();
        assert!(
            matches!(error, BackendError::NoRepository { .. }),
            "{error:?}"
        );
        assert!(other.save(pack(b"x"), &[b"x"]).is_err());
    }
}

#[test]
fn locks_may_lack_their_folder_and_nothing_else() {
    let server = RestServer::start(Options::default());
    let backend = backend(&server.repository("a"), &server.options());
    backend.create().unwrap();
    backend.save(FileName::CONFIG, &[b"config"]).unwrap();
    for kind in FileKind::NAMED {
        std::fs::remove_dir_all(server.directory("a").join(kind.folder())).unwrap();
        let listed = backend.list(kind, &mut |_, _| {});
        match kind {
            FileKind::Lock => listed.unwrap(),
            _ => assert_eq!(
                listed.unwrap_err().to_string(),
                format!(
                    "there is no repository at {}: the folder {} is missing",
                    backend.location(),
                    kind.folder()
                )
            ),
        }
    }
}

/// Answers each request by a function from its first line, one to a connection; no answer closes it.
fn scripted(answer: impl Fn(&str) -> Option<String> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut lines = BufReader::new(connection.try_clone().unwrap());
            let (mut first, mut length) = (String::new(), 0);
            lines.read_line(&mut first).unwrap();
            loop {
                let mut line = String::new();
                lines.read_line(&mut line).unwrap();
                let line = line.trim_end().to_ascii_lowercase();
                if line.is_empty() {
                    break;
                }
                if let Some(bytes) = line.strip_prefix("content-length: ") {
                    length = bytes.parse().unwrap();
                }
            }
            std::io::copy(&mut lines.take(length), &mut std::io::sink()).unwrap();
            if let Some(answer) = answer(first.trim_end()) {
                // The client may have heard enough.
                let _ = connection.write_all(answer.as_bytes());
            }
        }
    });
    format!("rest:http://{address}/")
}

fn says(status: &str, headers: &str, body: &str) -> Option<String> {
    let length = body.len();
    Some(format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    ))
}

#[test]
fn what_is_no_rest_server_is_named_so() {
    let none = BackendOptions::default();
    let page = scripted(|_| says("200 OK", "Content-Type: text/html\r\n", "<html>"));
    let expected = format!(
        "in {page}: a web page came back: something else than a REST server answers at this URL"
    );
    assert_eq!(
        trouble(&page, &none),
        (Trouble::Protocol, format!("cannot read config {expected}"))
    );
    let error = backend(&page, &none).create().unwrap_err();
    assert!(error.to_string().ends_with(&expected), "{error}");
    let error = backend(&page, &none).list(FileKind::Key, &mut |_, _| {});
    assert_eq!(trouble_of(&error.unwrap_err()).0, Trouble::Protocol);

    let moved = scripted(|_| says("301 Moved", "Location: https://host/x?secret=1\r\n", ""));
    let (kind, said) = trouble(&moved, &none);
    assert_eq!(kind, Trouble::WrongPlace);
    assert!(
        said.ends_with("301 Moved Permanently: it sends us on to https://host/x"),
        "{said}"
    );

    let files = scripted(|_| says("405 Method Not Allowed", "", ""));
    let error = backend(&files, &none).create().unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("is it one that speaks restic's REST protocol?"),
        "{error}"
    );
}

#[test]
fn what_passes_is_tried_again_when_the_server_wishes() {
    for status in [
        "408 Request Timeout",
        "429 Too Many Requests",
        "500 Internal Server Error",
        "502 Bad Gateway",
        "503 Service Unavailable",
        "504 Gateway Timeout",
    ] {
        let place = scripted(move |_| says(status, "Retry-After: 7\r\n", ""));
        let backend = backend(&place, &BackendOptions::default());
        let errors = [
            backend.load(FileName::CONFIG, 10).unwrap_err(),
            backend.size(pack(b"x")).unwrap_err(),
            backend.save(pack(b"x"), &[b"x"]).unwrap_err(),
            backend.remove(pack(b"x")).unwrap_err(),
            backend.list(FileKind::Lock, &mut |_, _| {}).unwrap_err(),
            backend.create().unwrap_err(),
        ];
        for error in errors {
            assert!(error.is_transient(), "{error:?}");
            assert_eq!(error.retry_after(), Some(Duration::from_secs(7)), "{error}");
        }
    }
    for status in ["413 Content Too Large", "507 Insufficient Storage"] {
        let place = scripted(move |first| match first.starts_with("POST") {
            true => says(status, "", ""),
            false => says("200 OK", "", "config"),
        });
        let backend = backend(&place, &BackendOptions::default());
        let error = backend.save(pack(b"x"), &[b"x"]).unwrap_err();
        assert_eq!(trouble_of(&error).0, Trouble::Full);
    }
}

#[test]
fn a_part_is_never_taken_for_the_whole() {
    let none = BackendOptions::default();
    let cut = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 100\r\n\r\n[\"half";
    let place = scripted(move |_| Some(cut.to_owned()));
    let truncated = backend(&place, &none);
    let mut buf = [0; 50];
    for error in [
        truncated.load(pack(b"x"), 1000).unwrap_err(),
        truncated.load_at(pack(b"x"), 0, &mut buf).unwrap_err(),
        truncated.list(FileKind::Index, &mut |_, _| {}).unwrap_err(),
    ] {
        assert!(error.is_transient(), "{error:?}");
    }
    for (range, body, trouble) in [
        ("bytes 0-9/100", "0123456789more", Trouble::Transient),
        ("bytes 5-14/100", "0123456789", Trouble::Protocol),
    ] {
        let headers = format!("Content-Range: {range}\r\n");
        let place = scripted(move |_| says("206 Partial Content", &headers, body));
        let error = backend(&place, &none).load_at(pack(b"x"), 0, &mut buf[..10]);
        assert_eq!(trouble_of(&error.unwrap_err()).0, trouble, "{range}");
    }
    // A server that sends no parts.
    let place = scripted(|_| says("200 OK", "", "0123456789"));
    let whole = backend(&place, &none);
    whole.load_at(pack(b"x"), 3, &mut buf[..4]).unwrap();
    assert_eq!(&buf[..4], b"3456");
    let error = whole.load_at(pack(b"x"), 8, &mut buf[..4]).unwrap_err();
    assert!(
        matches!(
            error,
            BackendError::Short {
                size_bytes: 10,
                wanted_bytes: 12,
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn a_server_of_version_1_is_asked_for_each_size() {
    let (here, gone) = (Id::of(b"here"), Id::of(b"gone"));
    let place = scripted(move |first| match first {
        "GET /index/ HTTP/1.1" => says("200 OK", "", &format!(r#"["{here}","{gone}","x"]"#)),
        head if head.contains(&here.to_string()) => says("200 OK", "", "four"),
        _ => says("404 Not Found", "", ""),
    });
    let backend = backend(&place, &BackendOptions::default());
    let mut found = Vec::new();
    backend
        .list(FileKind::Index, &mut |id, size_bytes| {
            found.push((id, size_bytes))
        })
        .unwrap();
    assert_eq!(found, [(here, 4)]);
}

#[test]
fn an_upload_whose_answer_is_lost_is_saved_if_it_is_there() {
    for (kept, is_saved) in [("content", true), ("cont", false), ("CONTENT", false)] {
        let place = scripted(move |first| match first.starts_with("POST") {
            true => None,
            false => says("200 OK", "", kept),
        });
        let backend = backend(&place, &BackendOptions::default());
        let saved = backend.save(pack(b"content"), &[b"con", b"tent"]);
        assert_eq!(saved.is_ok(), is_saved, "{saved:?}");
        assert!(saved.is_ok() || saved.unwrap_err().is_transient());
    }
}

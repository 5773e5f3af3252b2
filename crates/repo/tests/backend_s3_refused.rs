//! What a person reads when a bucket can't be used, word for word, and that it comes soon.

mod s3 {
    pub mod support;
}

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::LazyLock;
use std::time::Duration;

use lifeboat_format::Id;
use lifeboat_repo::backend::{
    self, Backend, BackendError, BackendOptions, FileKind, FileName, Trouble,
};
use lifeboat_testkit::conformance::listing;
use lifeboat_testkit::garage::Garage;
use lifeboat_testkit::s3::{Answer, LocalS3, credentials};
use s3::support::{made, opened, unique, with_setting};

static GARAGE: LazyLock<Garage> = LazyLock::new(Garage::start);

/// What reading the config says, and that nobody knows anything by then.
fn said(backend: &dyn Backend) -> (Trouble, String) {
    told(&backend.load(FileName::CONFIG, 100).unwrap_err())
}

fn told(error: &BackendError) -> (Trouble, String) {
    let BackendError::Remote { trouble, why, .. } = error else {
        panic!("{error:?}");
    };
    assert!(error.to_string().contains(why.as_str()));
    for hidden in ["Signature=", "X-Amz", "secret", "list-type", "AWS4"] {
        assert!(!error.to_string().contains(hidden), "{error}");
    }
    (*trouble, why.clone())
}

fn of(key_id: &str, secret: &str) -> BackendOptions {
    BackendOptions {
        variables: credentials(key_id, secret),
        ..BackendOptions::default()
    }
}

#[test]
fn wrong_credentials() {
    let garage = GARAGE.location("repo");
    for (options, expected) in [
        (
            of("GK0123456789abcdef01234567", GARAGE.secret()),
            "Forbidden: No such key: GK0123456789abcdef01234567 (AccessDenied)",
        ),
        (
            of(GARAGE.key_id(), "wrong"),
            "Forbidden: Invalid signature (AccessDenied)",
        ),
    ] {
        assert_eq!(
            said(&opened(&garage, &options)),
            (Trouble::Credentials, expected.to_owned())
        );
    }
    let server = LocalS3::start();
    let (trouble, why) = said(&opened(
        &server.location("repo"),
        &of(server.key_id(), "wrong"),
    ));
    assert_eq!(trouble, Trouble::Credentials, "{why}");
    assert!(why == "SignatureDoesNotMatch", "{why}");
    let backend = made(&server, "repo");
    for (code, message) in [
        ("ExpiredToken", "The provided token has expired."),
        (
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist in our records.",
        ),
        ("InvalidToken", "The provided token is malformed."),
    ] {
        server.bend("GET", 1, Answer::error(400, code, message));
        assert_eq!(
            said(&backend),
            (Trouble::Credentials, format!("{message} ({code})"))
        );
    }
}

#[test]
fn a_missing_bucket_is_no_repository_and_is_made_when_one_is_created() {
    let server = LocalS3::start();
    for (endpoint, options) in [
        (server.endpoint(), server.options()),
        (GARAGE.endpoint(), GARAGE.options()),
    ] {
        let location = format!("s3:{endpoint}/another-bucket/repo");
        let backend = opened(&location, &options);
        let name = FileName::new(FileKind::Pack, Id::of(b"x"));
        let errors = [
            backend.size(name).unwrap_err(),
            backend.load(name, 1).unwrap_err(),
            backend.load_at(name, 0, &mut [0]).unwrap_err(),
            backend.load_at(name, 0, &mut []).unwrap_err(),
            backend.save(name, &[b"x"]).unwrap_err(),
            backend.save(name, &[&vec![0; 33 << 20]]).unwrap_err(),
            backend.remove(name).unwrap_err(),
            backend.destroy(name).unwrap_err(),
            backend.remove_unfinished(Duration::ZERO).unwrap_err(),
            listing(&backend, FileKind::Pack).unwrap_err(),
            listing(&backend, FileKind::Config).unwrap_err(),
        ];
        for error in errors {
            let expected = format!(
                "there is no repository at {location}: the bucket another-bucket is missing"
            );
            assert_eq!(error.to_string(), expected);
            assert!(matches!(error, BackendError::NoRepository { .. }));
        }
        backend.create().unwrap();
        backend.create().unwrap();
        backend.save(name, &[b"x"]).unwrap();
    }
    let reader = opened(
        &format!("s3:{}/third-bucket/repo", GARAGE.endpoint()),
        &GARAGE.reader(),
    );
    let error = reader.create().unwrap_err();
    assert!(
        error.to_string().ends_with(
            "the bucket third-bucket does not exist, and these credentials may not make it: Forbidden: \
             Access key GK111111111111111111111111 is not allowed to create buckets (AccessDenied)"
        ),
        "{error}"
    );
    assert!(error.is_refusal());
}

#[test]
fn who_may_only_read_writes_nothing() {
    let place = unique();
    let writer = opened(&GARAGE.location(&place), &GARAGE.options());
    let name = FileName::new(FileKind::Lock, Id::of(b"x"));
    writer.save(name, &[b"x"]).unwrap();
    let reader = opened(&GARAGE.location(&place), &GARAGE.reader());
    reader.create().unwrap();
    assert_eq!(reader.load(name, 1).unwrap(), b"x");
    assert_eq!(listing(&reader, FileKind::Lock).unwrap().len(), 1);
    let other = FileName::new(FileKind::Pack, Id::of(b"y"));
    let long = vec![7; 20 << 20];
    let longer = vec![7; 40 << 20];
    for error in [
        reader.save(other, &[b"y"]).unwrap_err(),
        // The server says no and closes while most of it is still to be sent.
        reader.save(other, &[&long]).unwrap_err(),
        reader.save(other, &[&longer]).unwrap_err(),
        reader.remove(name).unwrap_err(),
    ] {
        let expected = "Forbidden: Operation is not allowed for this key. (AccessDenied)";
        assert_eq!(told(&error), (Trouble::Denied, expected.to_owned()));
        assert!(error.is_refusal());
    }
    assert!(listing(&writer, FileKind::Pack).unwrap().is_empty());
    assert_eq!(listing(&writer, FileKind::Lock).unwrap().len(), 1);
}

#[test]
fn a_full_bucket_says_so_while_a_pack_is_sent() {
    GARAGE.run(&["bucket", "create", "small"]);
    GARAGE.run(&[
        "bucket",
        "allow",
        "--read",
        "--write",
        "small",
        "--key",
        GARAGE.key_id(),
    ]);
    GARAGE.run(&["bucket", "set-quotas", "small", "--max-size", "1MiB"]);
    let backend = opened(
        &format!("s3:{}/small/repo", GARAGE.endpoint()),
        &GARAGE.options(),
    );
    let content = vec![7; 16 << 20];
    let error = backend
        .save(FileName::new(FileKind::Pack, Id::of(&content)), &[&content])
        .unwrap_err();
    let (trouble, why) = told(&error);
    assert_eq!(trouble, Trouble::Full, "{why}");
    assert!(why.contains("Bucket size quota is reached"), "{why}");
}

#[test]
fn the_region_is_learned_unless_it_was_said() {
    let place = unique();
    let options = with_setting(GARAGE.options(), "s3.region", "eu-west-1");
    let (trouble, why) = said(&opened(&GARAGE.location(&place), &options));
    assert_eq!(trouble, Trouble::WrongPlace);
    assert!(
        why.starts_with(
            "the bucket is in the region garage, not in eu-west-1: Authorization header malformed"
        ),
        "{why}"
    );
    let mut options = GARAGE.options();
    options.variables.insert(
        "AWS_DEFAULT_REGION".into(),
        backend::Secret::new("eu-west-1"),
    );
    let backend = opened(&GARAGE.location(&place), &options);
    // Also when the first request is one whose refusal has no words.
    assert!(backend.size(FileName::CONFIG).unwrap_err().is_missing());

    let server = LocalS3::start();
    let backend = made(&server, "repo");
    let elsewhere = Answer::error(400, "AuthorizationHeaderMalformed", "wrong")
        .with_header("x-amz-bucket-region", "eu-west-3");
    server.bend("HEAD", 1, elsewhere);
    let _ = server.seen();
    assert!(backend.size(FileName::CONFIG).unwrap_err().is_missing());
    let last = server.seen().pop().unwrap();
    assert!(
        last.headers["authorization"].contains("/eu-west-3/s3/"),
        "{last:?}"
    );
    server.bend(
        "GET",
        9,
        Answer::error(301, "PermanentRedirect", "use the other endpoint"),
    );
    assert_eq!(
        said(&backend),
        (
            Trouble::WrongPlace,
            "use the other endpoint (PermanentRedirect)".into()
        )
    );
}

#[test]
fn a_clock_that_is_wrong_is_put_right_once() {
    let server = LocalS3::start();
    let backend = made(&server, "repo");
    let skewed = Answer::error(403, "RequestTimeTooSkewed", "The difference is too large.");
    let date = |hours: i64| {
        let moment = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours);
        jiff::fmt::rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&moment)
            .unwrap()
    };
    // The server seems to be a day ahead, and accepts nothing that is signed for that moment.
    server.bend("GET", 1, skewed.clone().with_header("date", &date(24)));
    assert!(backend.size(FileName::CONFIG).is_err());
    // What it says then is the truth, and that is learned too.
    let _ = server.seen();
    backend.save(FileName::CONFIG, &[b"x"]).unwrap();
    assert!(server.seen().len() <= 2);
    server.bend("GET", 9, skewed.with_header("date", &date(0)));
    let (trouble, why) = said(&backend);
    assert_eq!(trouble, Trouble::Clock);
    assert!(
        why.starts_with(
            "The difference is too large. (RequestTimeTooSkewed); this machine's clock"
        ),
        "{why}"
    );
}

#[test]
fn nobody_there() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let options = of("key", "s");
    let (trouble, why) = said(&opened(&format!("s3:http://{free}/bucket"), &options));
    assert_eq!(trouble, Trouble::Unreachable, "{why}");
    assert!(why.contains("Connection refused"), "{why}");
    let backend = opened("s3:http://no-such-host.invalid/bucket", &options);
    let (trouble, why) = said(&backend);
    assert_eq!(trouble, Trouble::Unreachable, "{why}");
    // What follows are the words of the system.
    let says = "the name of the server can't be looked up: ";
    assert!(why.starts_with(says) && why.len() > says.len(), "{why}");
}

#[test]
fn tls_that_can_not_be_trusted() {
    let server = LocalS3::start_tls();
    let mut options = server.options();
    options.tls.ca_files.clear();
    let backend = opened(&server.location("repo"), &options);
    let (trouble, why) = said(&backend);
    assert_eq!(trouble, Trouble::Tls, "{why}");
    assert!(why.contains("UnknownIssuer"), "{why}");
    options.tls.insecure = true;
    assert!(
        opened(&server.location("repo"), &options)
            .size(FileName::CONFIG)
            .unwrap_err()
            .is_missing()
    );
    let by_address = server.location("repo").replace("localhost", "127.0.0.1");
    let (trouble, why) = said(&opened(&by_address, &server.options()));
    assert_eq!(trouble, Trouble::Tls, "{why}");
    // A server without TLS where TLS is spoken, and the other way round.
    let plain = LocalS3::start();
    let location = plain.location("repo").replace("http://", "https://");
    let (trouble, why) = said(&opened(&location, &plain.options()));
    assert_eq!(trouble, Trouble::Tls, "{why}");
    let location = server.location("repo").replace("https://", "http://");
    let (trouble, why) = said(&opened(&location, &server.options()));
    assert!(
        matches!(trouble, Trouble::Transient | Trouble::Protocol),
        "{trouble:?}: {why}"
    );
    let error = |options: &BackendOptions| {
        let location = "s3:https://host/bucket".parse().unwrap();
        backend::open(&location, options)
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let mut options = of("key", "s");
    options.tls.ca_files = vec!["/nowhere.pem".into()];
    assert_eq!(
        error(&options),
        "--cacert /nowhere.pem: No such file or directory (os error 2)"
    );
}

#[test]
fn a_server_that_is_none() {
    let server = LocalS3::start();
    let backend = made(&server, "repo");
    let html = |status| Answer {
        status,
        headers: vec![("content-type", "text/html".into())],
        body: "<html><head><title>nginx</title></head></html>".into(),
    };
    server.bend("GET", 1, html(404));
    assert_eq!(
        said(&backend),
        (
            Trouble::Protocol,
            "the answer is 404, without the words that an S3 server would say".into()
        )
    );
    server.bend("GET", 1, html(200));
    let error = listing(&backend, FileKind::Key).unwrap_err();
    assert_eq!(
        told(&error),
        (
            Trouble::Protocol,
            "the answer is \"html\" instead of \"ListBucketResult\"".into()
        )
    );
    server.bend(
        "GET",
        1,
        html(302).with_header("location", "http://elsewhere/"),
    );
    assert_eq!(
        said(&backend),
        (
            Trouble::Protocol,
            "the answer is 302, a redirect: is this the address of the S3 service itself?".into()
        )
    );
    for (status, code, expected) in [
        (503, "SlowDown", Trouble::Transient),
        (500, "InternalError", Trouble::Transient),
        (400, "RequestTimeout", Trouble::Transient),
        (403, "AccessDenied", Trouble::Denied),
        (507, "XMinioStorageFull", Trouble::Full),
        (418, "Teapot", Trouble::Other),
    ] {
        let answer = Answer::error(status, code, "words").with_header("retry-after", "7");
        server.bend("GET", 1, answer);
        let error = backend.load(FileName::CONFIG, 1).unwrap_err();
        assert_eq!(told(&error), (expected, format!("words ({code})")));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    }
    // A server that repeats what it was told.
    let echo = format!("signed with {}", server.secret());
    server.bend("GET", 1, Answer::error(403, "AccessDenied", &echo));
    assert_eq!(said(&backend).1, "signed with *** (AccessDenied)");
}

/// A server that reads a request, answers these bytes, and then does nothing more for as long as the client waits.
fn scripted(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let serve = |mut socket: TcpStream| {
            let mut request = [0; 64 * 1024];
            let _ = socket.read(&mut request);
            let _ = socket.write_all(answer);
            while socket.read(&mut request).is_ok_and(|count| count > 0) {}
        };
        for socket in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || serve(socket));
        }
    });
    format!("s3:http://{address}/bucket/repo")
}

#[test]
fn silence_has_an_end() {
    let mut options = of("key", "s");
    options.stall = Duration::from_millis(300);
    let name = FileName::new(FileKind::Pack, Id::of(b"x"));
    for answer in [
        &b""[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-99/100\r\nContent-Length: 100\r\n\r\nhalf",
    ] {
        let backend = opened(&scripted(answer), &options);
        let error = match answer.starts_with(b"HTTP/1.1 206") {
            true => backend.load_at(name, 0, &mut [0; 100]).unwrap_err(),
            false => backend.load(name, 100).unwrap_err(),
        };
        let (trouble, why) = told(&error);
        assert_eq!(trouble, Trouble::Transient, "{why}");
    }
    // Nobody takes what is sent: buffers on the way hold less than this.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let location = format!("s3:http://{}/bucket", listener.local_addr().unwrap());
    let error = opened(&location, &options)
        .save(name, &[&vec![7; 30 << 20]])
        .unwrap_err();
    assert_eq!(told(&error).0, Trouble::Transient);
}

/// Whether these bytes are a request with all of its body.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

#[test]
fn a_connection_that_the_server_closed_meanwhile_is_not_used_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let location = format!("s3:http://{}/bucket", listener.local_addr().unwrap());
    let (closed, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            // To the last byte: a socket that is closed with something unread resets the connection.
            let mut request = Vec::new();
            while !is_whole(&request) {
                let mut piece = [0; 1024];
                let count = socket.read(&mut piece).unwrap_or(0);
                assert!(count > 0, "the request broke off");
                request.extend_from_slice(&piece[..count]);
            }
            // It does not say that it will close.
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
            drop(socket);
            let _ = closed.send(());
        }
    });
    let backend = opened(&location, &of("key", "s"));
    for _ in 0..5 {
        assert_eq!(backend.load(FileName::CONFIG, 1).unwrap(), b"x");
        wait.recv().unwrap();
        backend.save(FileName::CONFIG, &[b"x"]).unwrap();
        wait.recv().unwrap();
    }
}

#[test]
fn answers_that_are_not_what_was_asked_for() {
    let server = LocalS3::start();
    let backend = made(&server, "repo");
    let name = FileName::new(FileKind::Pack, Id::of(b"0123456789"));
    backend.save(name, &[b"0123456789"]).unwrap();
    let partial = |range: &str, body: &str| Answer {
        status: 206,
        headers: vec![("content-range", range.to_owned())],
        body: body.to_owned(),
    };
    for (answer, expected) in [
        (
            partial("bytes 1-3/10", "123"),
            "bytes 2 to 4 were asked for, the answer has 1 to 3",
        ),
        (
            partial("bytes 2-3/10", "23"),
            "bytes 2 to 4 were asked for, the answer has 2 to 3",
        ),
        (partial("bytes 2-4/10", "23"), "the answer broke off"),
        (
            partial("bytes 2-4/10", "2345"),
            "the answer is longer than what was asked for",
        ),
        (
            partial("nonsense", "234"),
            "a range was asked for, and the answer is none",
        ),
        (
            Answer {
                status: 200,
                headers: vec![],
                body: "0123456789".into(),
            },
            "a range was asked for, and the answer is none",
        ),
    ] {
        server.bend("GET", 1, answer);
        let error = backend.load_at(name, 2, &mut [0; 3]).unwrap_err();
        assert!(told(&error).1.starts_with(expected), "{error}");
    }
    let mut buf = [0; 3];
    backend.load_at(name, 2, &mut buf).unwrap();
    assert_eq!(&buf, b"234");
}

#[test]
fn options_that_do_not_exist_or_can_not_be() {
    let error = |settings: &[(&str, &str)], variables: &[(&str, &str)]| {
        let mut options = BackendOptions::default();
        for (name, value) in settings {
            options = with_setting(options, name, value);
        }
        let secret =
            |(name, value): &(&str, &str)| ((*name).to_owned(), backend::Secret::new(*value));
        options.variables = variables.iter().map(secret).collect();
        let location = "s3:https://host/bucket".parse().unwrap();
        match backend::open(&location, &options) {
            Ok(_) => "fine".to_owned(),
            Err(error) => error.to_string(),
        }
    };
    let keys = [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")];
    for (name, value, expected) in [
        (
            "s3.storage",
            "x",
            "s3.storage: there is no such option; known are s3.bucket-lookup, s3.connections, s3.list-objects-v1, \
             s3.region, s3.sse, s3.sse-kms-key-id, s3.storage-class, s3.unsafe-anonymous-auth",
        ),
        (
            "s3.bucket-lookup",
            "ip",
            "s3.bucket-lookup: \"ip\" is neither auto, dns nor path",
        ),
        (
            "s3.connections",
            "65",
            "s3.connections: \"65\" is no number from 1 to 64",
        ),
        (
            "s3.sse",
            "des",
            "s3.sse: \"des\" is neither AES256 nor aws:kms",
        ),
        (
            "s3.sse-kms-key-id",
            "k",
            "s3.sse-kms-key-id: it needs s3.sse=aws:kms",
        ),
        (
            "s3.storage-class",
            "A B",
            "s3.storage-class: \"A B\" can't be sent in a header",
        ),
        (
            "s3.list-objects-v1",
            "maybe",
            "s3.list-objects-v1: \"maybe\" is neither true nor false",
        ),
        ("s3.region", "x", "fine"),
        ("rest.connections", "x", "fine"),
    ] {
        assert_eq!(error(&[(name, value)], &keys), expected);
    }
    assert_eq!(
        error(&[], &[]),
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY: they are not set; for a bucket that everybody may use, there is \
         -o s3.unsafe-anonymous-auth=true"
    );
    assert_eq!(error(&[("s3.unsafe-anonymous-auth", "true")], &[]), "fine");
    assert_eq!(
        error(&[], &keys[..1]),
        "AWS_SECRET_ACCESS_KEY: it is not set, and AWS_ACCESS_KEY_ID is"
    );
    assert_eq!(
        error(&[], &keys[1..]),
        "AWS_ACCESS_KEY_ID: it is not set, and AWS_SECRET_ACCESS_KEY is"
    );
}

#[test]
fn profiles_are_read_as_amazon_describes_them() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(".aws/credentials");
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    let (id, secret) = (GARAGE.key_id(), GARAGE.secret());
    std::fs::write(
        &file,
        format!("[default]\naws_access_key_id = GK0\naws_secret_access_key=x\n\n[garage]\n# ours\naws_access_key_id={id}\naws_secret_access_key = {secret}\n"),
    )
    .unwrap();
    let config = "[default]\nregion = elsewhere\n[profile garage]\nregion = garage\ns3 =\n  addressing_style = path\n[profile role]\nrole_arn = arn:x\nsource_profile = garage\n";
    std::fs::write(home.path().join(".aws/config"), config).unwrap();
    let open = |profile: &str| {
        let mut options = BackendOptions::default();
        let mut set = |name: &str, value: &str| {
            options
                .variables
                .insert(name.into(), backend::Secret::new(value))
        };
        set("HOME", home.path().to_str().unwrap());
        set("AWS_PROFILE", profile);
        backend::open(&GARAGE.location("repo").parse().unwrap(), &options)
    };
    assert!(
        open("garage")
            .unwrap()
            .size(FileName::CONFIG)
            .unwrap_err()
            .is_missing()
    );
    assert_eq!(
        said(&open("").unwrap()).1,
        "Forbidden: No such key: GK0 (AccessDenied)"
    );
    let message = |profile| open(profile).map(|_| ()).unwrap_err().to_string();
    assert!(
        message("role").starts_with("profile \"role\": role_arn is not supported; "),
        "{}",
        message("role")
    );
    let missing = message("other");
    assert!(
        missing.starts_with("AWS_PROFILE: there is no profile \"other\" in "),
        "{missing}"
    );
}

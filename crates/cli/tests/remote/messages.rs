//! What the program says, and how it ends, when what leads to a server is wrong. Nothing may be stored then.

use std::collections::BTreeMap;
use std::fs;

use lifeboat_repo::backend::{BackendOptions, Secret};
use lifeboat_testkit::garage::Garage;
use lifeboat_testkit::rclone::Rclone;
use lifeboat_testkit::rest_server::{Options, RestServer};
use lifeboat_testkit::sshd::{Sshd, free_port};

use crate::peer::Peer;

/// A password that somebody mistyped; it may never be shown.
const MISTYPED: &str = "Marker-Of-A-Mistyped-Secret";

const CHECK_LOCATION: &str = "hint: check the location; `lifeboat repo init` makes a new repository, and it never happens by itself";
const CREDENTIALS_S3: &str = "hint: credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; check that both are of this server and not expired";
const CREDENTIALS_REST: &str = "hint: user and password come from the location or from RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD";
const RIGHTS: &str = "hint: the server knows these credentials but does not allow this; check their rights, for reading, writing and listing";
const CERTIFICATE: &str = "hint: a server with a certificate of its own is trusted with --cacert FILE; check its name, its date and this machine's clock too";
const OF_RCLONE: &str =
    "hint: rclone must be installed and in PATH, and know the remote: try `rclone lsd REMOTE:`";

/// Runs a command at a place, and compares what it says on standard error, to the letter, and its status.
fn says(location: &str, options: BackendOptions, arguments: &[&str], status: i32, lines: &[&str]) {
    let peer = Peer::empty(location.to_owned(), options);
    fs::write(peer.path("file"), "content").unwrap();
    let said = peer.any(&mut peer.command(arguments));
    let shown = format!("{location} {arguments:?}\n{}", said.stderr);
    assert_eq!(said.stderr.lines().collect::<Vec<_>>(), lines, "{shown}");
    assert_eq!(said.code(), status, "{shown}");
    assert!(!said.stderr.contains(MISTYPED), "{shown}");
}

/// As [`says`], of messages whose middle is the words of others.
fn says_about(location: &str, options: BackendOptions, status: i32, parts: &[&str]) {
    let peer = Peer::empty(location.to_owned(), options);
    let said = peer.any(&mut peer.command(&["snapshots"]));
    let shown = format!("{location}\n{}", said.stderr);
    for part in parts {
        assert!(said.stderr.contains(part), "{part:?} is not in {shown}");
    }
    assert_eq!(said.code(), status, "{shown}");
    assert!(!said.stderr.contains(MISTYPED), "{shown}");
}

fn with(options: &BackendOptions, settings: &[(&str, &str)]) -> BackendOptions {
    let mut options = options.clone();
    for (name, value) in settings {
        options.settings.insert((*name).into(), (*value).into());
    }
    options
}

fn keys(id: &str, secret: &str) -> BackendOptions {
    let pair = [("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)];
    let variables = pair.map(|(name, value)| (name.to_owned(), Secret::new(value)));
    BackendOptions {
        variables: BTreeMap::from(variables),
        ..BackendOptions::default()
    }
}

#[test]
fn buckets() {
    let garage = Garage::start();
    let location = garage.location("repository");
    let endpoint = garage.endpoint();
    let look = |why: &str| format!("error: cannot read config in {location}: {why}");
    says(
        &location,
        keys(garage.key_id(), MISTYPED),
        &["backup", "file"],
        1,
        &[
            &look("Forbidden: Invalid signature (AccessDenied)"),
            CREDENTIALS_S3,
        ],
    );
    says(
        &location,
        keys("GKunknown", MISTYPED),
        &["snapshots"],
        1,
        &[
            &look("Forbidden: No such key: GKunknown (AccessDenied)"),
            CREDENTIALS_S3,
        ],
    );
    says(
        &location,
        garage.options(),
        &["snapshots"],
        10,
        &[
            &format!("error: there is no repository at {location}: the file config is missing"),
            CHECK_LOCATION,
        ],
    );
    let elsewhere = format!("s3:{endpoint}/nowhere/repository");
    says(
        &elsewhere,
        garage.options(),
        &["backup", "file"],
        10,
        &[
            &format!("error: there is no repository at {elsewhere}: the bucket nowhere is missing"),
            CHECK_LOCATION,
        ],
    );
    says_about(
        &location,
        with(&garage.options(), &[("s3.region", "mars-1")]),
        1,
        &[
            "the bucket is in the region garage, not in mars-1",
            "`-o s3.region=…`",
        ],
    );
    says(
        &location.replace("s3:http:", "s3:https:"),
        garage.options(),
        &["snapshots"],
        1,
        &[
            &look("what answers is not TLS: does this server speak plain http:// there?")
                .replace("s3:http:", "s3:https:"),
            CERTIFICATE,
        ],
    );
    let none = BackendOptions::default();
    says_about(
        &location,
        none,
        1,
        &["AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY: they are not set"],
    );
    // Who may only read can read, and is told why a backup is not possible.
    let peer = Peer::new(location.clone(), garage.options());
    peer.ok(&["check"]);
    let reader = Peer::empty(location, garage.reader());
    reader.ok(&["--no-lock", "snapshots"]);
    fs::write(reader.path("file"), "content").unwrap();
    let said = reader.any(&mut reader.command(&["backup", "file"]));
    assert_eq!(said.code(), 1, "{}", said.stderr);
    assert!(said.stderr.contains(RIGHTS), "{}", said.stderr);
}

#[test]
fn rest_servers() {
    let server = RestServer::start(Options {
        auth: true,
        tls: true,
        ..Options::default()
    });
    let location = server.repository("repository");
    let mut wrong = server.options();
    wrong
        .variables
        .insert("RESTIC_REST_PASSWORD".into(), Secret::new(MISTYPED));
    says_about(&location, wrong, 1, &["401 Unauthorized", CREDENTIALS_REST]);
    let mut stranger = server.options();
    stranger.tls.ca_files.clear();
    says_about(&location, stranger, 1, &["UnknownIssuer", CERTIFICATE]);
    says(
        &location,
        server.options(),
        &["backup", "file"],
        10,
        &[
            &format!("error: there is no repository at {location}: the config is missing"),
            CHECK_LOCATION,
        ],
    );
    assert!(!server.directory("repository").join("data").exists());
}

#[test]
fn machines_behind_ssh() {
    let sshd = Sshd::start();
    let place = tempfile::tempdir().unwrap();
    let location = sshd.location(&place.path().join("repository"));
    let look = format!("error: cannot read config in {location}: ");
    says(
        &location,
        sshd.options(),
        &["backup", "file"],
        10,
        &[
            &format!("error: there is no repository at {location}: the directory is missing"),
            CHECK_LOCATION,
        ],
    );
    let relative = sshd.location("nowhere/repository".as_ref());
    says_about(
        &relative,
        sshd.options(),
        10,
        &["sftp://HOST/PATH begin in the user's home"],
    );
    let nonsense = with(&sshd.options(), &[("sftp.args", "-9")]);
    says_about(&location, nonsense, 1, &[&look, "unknown option -- 9\n"]);
    let missing = BackendOptions::default();
    says(
        &location,
        with(&missing, &[("sftp.command", "no-such-program")]),
        &["snapshots"],
        1,
        &[
            &format!("{look}the program no-such-program of sftp.command does not exist"),
            "hint: the program that is named must be installed and in PATH, and work when it is run by hand",
        ],
    );
    says_about(
        &location,
        with(&missing, &[("sftp.command", "echo hello")]),
        1,
        &["what comes is no SFTP, it begins with \"hello\""],
    );
    let other = sshd.new_key("other");
    let known = fs::read_to_string(sshd.known_hosts()).unwrap();
    let other = fs::read_to_string(other.with_extension("pub")).unwrap();
    let port = sshd.port();
    fs::write(sshd.known_hosts(), format!("[127.0.0.1]:{port} {other}")).unwrap();
    says_about(
        &location,
        sshd.options(),
        1,
        &[
            "the host key is not the one that is known",
            "hint: connect once with `ssh`",
        ],
    );
    fs::write(sshd.known_hosts(), "").unwrap();
    says_about(
        &location,
        sshd.options(),
        1,
        &["the host key is not known", "ssh -F"],
    );
    fs::write(sshd.known_hosts(), known).unwrap();
    fs::write(sshd.authorized_keys(), "").unwrap();
    says_about(
        &location,
        sshd.options(),
        1,
        &[
            "Permission denied (publickey).",
            "hint: connect with `ssh` as the same user first",
        ],
    );
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn remotes_of_rclone() {
    let rclone = Rclone::new();
    let location = rclone.repository("repository");
    let look = format!("error: cannot read config in {location}: ");
    says(
        &location,
        with(&rclone.options(), &[("rclone.program", "no-such-rclone")]),
        &["backup", "file"],
        1,
        &[
            &format!(
                "{look}there is no program \"no-such-rclone\": install it (as `apt install rclone`), or name it with -o rclone.program"
            ),
            OF_RCLONE,
        ],
    );
    says(
        &location,
        with(
            &rclone.options(),
            &[("rclone.args", "serve restic --nonsense")],
        ),
        &["snapshots"],
        1,
        &[
            &format!("{look}rclone ended (exit status: 1): Fatal error: unknown flag: --nonsense"),
            OF_RCLONE,
        ],
    );
    says(
        &location,
        rclone.options(),
        &["backup", "file"],
        10,
        &[
            &format!("error: there is no repository at {location}: the config is missing"),
            CHECK_LOCATION,
        ],
    );
    says_about(
        "rclone:nowhere:x",
        rclone.options(),
        1,
        &["didn't find section", OF_RCLONE],
    );
    assert!(!rclone.directory("repository").exists());
}

#[test]
fn what_was_mistyped() {
    let none = BackendOptions::default;
    let unusable = |location: &str, why: &str| {
        format!("error: the location {location:?} can't be used: {why}")
    };
    let no_port =
        "what stands behind the host's colon is no port; in a password `/` is written as %2F";
    for (location, shown, why) in [
        (
            format!("https://me:{MISTYPED}@host/"),
            "https://me:***@host/",
            "which kind of server is it? rest:https://HOST/PATH/ or s3:https://HOST/BUCKET",
        ),
        (
            format!("rest:me:{MISTYPED}@host/"),
            "rest:me:***@host/",
            "it should be rest:https://HOST/ or rest:http://HOST:PORT/PATH/",
        ),
        (
            format!("rest:https://me:{MISTYPED}@host:99999/"),
            "rest:https://me:***@host:99999/",
            no_port,
        ),
        (
            format!("rest:https://me:pass/{MISTYPED}@host/"),
            "rest:https://me:***@host/",
            no_port,
        ),
        (
            format!("rest:https://me:{MISTYPED}/path"),
            "rest:https://me:***/path",
            no_port,
        ),
        (
            format!("s3:https://key:{MISTYPED}@host/bucket"),
            "s3:https://key:***@host/bucket",
            "credentials in it would be shown to everybody; give them in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
    ] {
        says(
            &location,
            none(),
            &["snapshots"],
            1,
            &[&unusable(shown, why)],
        );
    }
    let bucket = "s3:http://127.0.0.1:1/bucket";
    for (name, value, why) in [
        (
            "s3.regoin",
            "x",
            "there is no such option; known are s3.bucket-lookup, s3.connections, s3.list-objects-v1, s3.region, s3.sse, s3.sse-kms-key-id, s3.storage-class, s3.unsafe-anonymous-auth",
        ),
        ("s3.connections", "0", "\"0\" is no number from 1 to 64"),
    ] {
        let options = with(&keys("id", MISTYPED), &[(name, value)]);
        says(
            bucket,
            options,
            &["snapshots"],
            1,
            &[&format!("error: {name}: {why}")],
        );
    }
    // Nobody is there: it is tried for a while, all at the same time.
    let port = free_port();
    std::thread::scope(|scope| {
        for location in [
            format!("rest:http://me:{MISTYPED}@127.0.0.1:{port}/"),
            format!("s3:http://127.0.0.1:{port}/bucket"),
            format!("sftp://nobody@127.0.0.1:{port}//repository"),
            "rest:https://no-such-host.invalid/".to_owned(),
        ] {
            let hint = "hint: check the host and port in the location, the network, the firewall and a proxy if one is set; what was stored stays valid";
            let parts = [
                "note: cannot ",
                "giving up at",
                "error: gave up after",
                hint,
            ];
            scope.spawn(move || says_about(&location, keys("id", MISTYPED), 1, &parts));
        }
    });
}

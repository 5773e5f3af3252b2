//! What can be wrong on the way to a repository over SFTP: each ends soon, and its message says what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lifeboat_format::Id;
use lifeboat_repo::backend::{
    Backend, BackendError, BackendOptions, FileKind, FileName, Location, Trouble, open,
};
use lifeboat_testkit::conformance::listing;
use lifeboat_testkit::sshd::{Sshd, free_port};

use crate::{Place, backend_at};

fn said(error: &BackendError) -> (Trouble, &str) {
    match error {
        BackendError::Remote { trouble, why, .. } => (*trouble, why),
        other => panic!("{other:?}"),
    }
}

/// What a look at the config says, which every command begins with.
fn look(place: &Place, options: &BackendOptions) -> BackendError {
    place
        .backend_with("repository", options)
        .load(FileName::CONFIG, 1000)
        .unwrap_err()
}

fn with(place: &Place, name: &str, value: &str) -> BackendOptions {
    let mut options = place.sshd.options();
    options.settings.clear();
    options.settings.insert(name.to_owned(), value.to_owned());
    options
}

#[test]
fn a_host_key_that_is_not_known() {
    let place = Place::new();
    fs::write(place.sshd.known_hosts(), "").unwrap();
    let error = look(&place, &place.sshd.options());
    let (trouble, why) = said(&error);
    assert_eq!(trouble, Trouble::HostKey);
    let by_hand = format!(
        "ssh -F {} -p {} -l {} 127.0.0.1",
        place.sshd.client_config().display(),
        place.sshd.port(),
        place.sshd.user()
    );
    assert!(
        why.starts_with(&format!(
            "the host key is not known: run `{by_hand}` once and compare the fingerprint, or add the key to known_hosts"
        )) && why.ends_with("Host key verification failed.)"),
        "{why}"
    );
    assert!(!error.is_transient());
}

#[test]
fn a_host_key_that_changed() {
    let place = Place::new();
    let known = fs::read_to_string(place.sshd.known_hosts()).unwrap();
    let other = place.sshd.new_key("another_key").with_extension("pub");
    let (host, _) = known.split_once(' ').unwrap();
    let key = fs::read_to_string(other).unwrap();
    fs::write(place.sshd.known_hosts(), format!("{host} {key}")).unwrap();
    let error = look(&place, &place.sshd.options());
    let (trouble, why) = said(&error);
    assert_eq!(trouble, Trouble::HostKey);
    assert!(
        why.starts_with("the host key is not the one that is known: somebody may be in between.")
            && why.contains("remove the old key with `ssh-keygen -R`"),
        "{why}"
    );
    assert!(!error.is_transient());
}

#[test]
fn a_key_that_may_not_come_in() {
    let place = Place::new();
    fs::write(place.sshd.authorized_keys(), "").unwrap();
    let error = look(&place, &place.sshd.options());
    let (trouble, why) = said(&error);
    assert_eq!(trouble, Trouble::Credentials);
    let expected = format!(
        "{}@127.0.0.1: Permission denied (publickey).",
        place.sshd.user()
    );
    assert!(why.ends_with(&expected), "{why}");
    assert!(!error.is_transient());
}

#[test]
fn a_port_that_nobody_listens_on() {
    let place = Place::new();
    let port = free_port();
    let location = place.sshd.location_through(port, &place.path("repository"));
    let backend = backend_at(&location, &place.sshd.options());
    let error = backend.load(FileName::CONFIG, 1000).unwrap_err();
    assert_eq!(
        said(&error),
        (
            Trouble::Unreachable,
            format!("ssh: connect to host 127.0.0.1 port {port}: Connection refused").as_str()
        )
    );
    assert_eq!(
        error.to_string(),
        format!(
            "cannot read config in {location}: ssh: connect to host 127.0.0.1 port {port}: Connection refused"
        )
    );
}

#[test]
fn a_host_that_nobody_knows() {
    let place = Place::new();
    let backend = backend_at(
        "sftp:no-such-host.invalid:/repository",
        &place.sshd.options(),
    );
    let error = backend.load(FileName::CONFIG, 1000).unwrap_err();
    let (trouble, why) = said(&error);
    assert_eq!(trouble, Trouble::Unreachable);
    assert!(
        why.starts_with("ssh: Could not resolve hostname no-such-host.invalid: "),
        "{why}"
    );
}

#[test]
fn a_program_that_is_missing_or_says_something_else() {
    let place = Place::new();
    for (command, trouble, expected) in [
        (
            "/no/such/ssh nas",
            Trouble::Program,
            "the program /no/such/ssh of sftp.command does not exist",
        ),
        ("false", Trouble::Program, "false ended with exit status: 1"),
        (
            "sh -c 'echo Welcome to the NAS; cat'",
            Trouble::Protocol,
            "what comes is no SFTP, it begins with \"Welcome to the NAS\"",
        ),
        (
            "ssh -o Nonsense=yes nas",
            Trouble::Program,
            "command-line: line 0: Bad configuration option: nonsense",
        ),
    ] {
        let error = look(&place, &with(&place, "sftp.command", command));
        assert_eq!(said(&error), (trouble, expected));
        assert!(!error.is_transient());
    }
}

#[test]
fn a_server_without_sftp() {
    let place = Place::on(Sshd::with_subsystem("/no/such/sftp-server"));
    let error = look(&place, &place.sshd.options());
    assert_eq!(said(&error).0, Trouble::Program, "{error}");
}

#[test]
fn a_server_that_says_nothing() {
    let place = Place::new();
    let mut options = with(&place, "sftp.command", "sleep 1000");
    options.stall = std::time::Duration::from_secs(1);
    let error = look(&place, &options);
    assert_eq!(
        said(&error),
        (Trouble::Unreachable, "the server was silent for 2 s")
    );
}

#[test]
fn a_server_that_only_reads() {
    let place = Place::on(Sshd::with_subsystem("internal-sftp -R"));
    let root = place.path("repository");
    fs::create_dir_all(root.join("keys")).unwrap();
    fs::create_dir_all(root.join("data/ab")).unwrap();
    fs::write(root.join("config"), "config").unwrap();
    let key = root.join(format!("keys/{}", Id([1; 32])));
    fs::write(&key, "key").unwrap();
    let backend = place.backend("repository");
    assert_eq!(backend.load(FileName::CONFIG, 6).unwrap(), b"config");
    let name = FileName::new(FileKind::Key, Id([1; 32]));
    let errors = [
        backend.create().unwrap_err(),
        backend
            .save(FileName::new(FileKind::Pack, Id([0xab; 32])), &[b"x"])
            .unwrap_err(),
        backend
            .save(FileName::new(FileKind::Key, Id([2; 32])), &[b"x"])
            .unwrap_err(),
        backend.remove(name).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(
            said(&error),
            (Trouble::Denied, "the server says: permission denied")
        );
        assert!(error.is_refusal());
    }
    assert!(key.exists());
}

#[test]
fn a_file_where_a_directory_should_be() {
    let place = Place::new();
    fs::write(place.path("repository"), "a file").unwrap();
    let backend = place.backend("repository");
    let error = backend.load(FileName::CONFIG, 1000).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("/repository is not a directory"),
        "{error}"
    );
    let error = backend.create().unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("a file is in its place (failure, status 4)"),
        "{error}"
    );
    assert_eq!(fs::read(place.path("repository")).unwrap(), b"a file");
    let place = Place::new();
    let backend = place.repository("repository");
    let index = place.path("repository/index");
    fs::remove_dir(&index).unwrap();
    fs::write(&index, "a file").unwrap();
    let error = listing(&backend, FileKind::Index).unwrap_err();
    assert!(
        error.to_string().ends_with(": it is not a directory"),
        "{error}"
    );
}

#[test]
fn a_directory_that_may_not_be_read() {
    let place = Place::new();
    let backend = place.repository("repository");
    let index = place.path("repository/index");
    if rustix::process::geteuid().is_root() {
        // To root nothing is closed, but a link that leads nowhere holds nothing that could be listed.
        fs::remove_dir(&index).unwrap();
        std::os::unix::fs::symlink("index", &index).unwrap();
        let error = listing(&backend, FileKind::Index).unwrap_err();
        assert!(
            matches!(error, BackendError::NoRepository { .. }),
            "{error:?}"
        );
    } else {
        fs::set_permissions(index, fs::Permissions::from_mode(0o000)).unwrap();
        let error = listing(&backend, FileKind::Index).unwrap_err();
        assert_eq!(said(&error).0, Trouble::Denied);
    }
}

#[test]
fn options_that_do_not_exist_are_named_before_anything_is_contacted() {
    let location: Location = "sftp:nas:/repository".parse().unwrap();
    let mut options = BackendOptions::default();
    options.settings.insert("sftp.user".into(), "me".into());
    let error = open(&location, &options).err().unwrap();
    assert_eq!(
        error.to_string(),
        "sftp.user: there is no such option; known are sftp.command, sftp.args, sftp.connections"
    );
}

#[test]
fn a_disk_that_is_full() {
    let place = Place::new();
    let disk = place.path("disk");
    fs::create_dir(&disk).unwrap();
    // The server's side in a name space of its own, which has the small disk: what it does is seen through it alone.
    let script = format!(
        "mount -t tmpfs -o size=3m tmpfs '{}' || exit 99; exec {}",
        disk.display(),
        sftp_server()
    );
    let flags = if rustix::process::geteuid().is_root() {
        "-m"
    } else {
        "-rm"
    };
    let command = format!("unshare {flags} sh -c {}", shell_word(&script));
    let backend = backend_at(
        &place.sshd.location(&disk.join("repository")),
        &with(&place, "sftp.command", &command),
    );
    backend.create().unwrap();
    let content = vec![1; 4 << 20];
    let name = FileName::new(FileKind::Pack, Id::of(&content));
    let error = backend.save(name, &[&content]).unwrap_err();
    let (trouble, why) = said(&error);
    assert_eq!(trouble, Trouble::Full, "{why}");
    assert!(why.starts_with("the disk is full: "), "{why}");
    assert!(backend.size(name).unwrap_err().is_missing());
    // What was written of it is gone, so that there is room for a lock.
    backend
        .save(FileName::new(FileKind::Lock, Id([1; 32])), &[&[0; 1 << 20]])
        .unwrap();
}

/// OpenSSH's SFTP server as a program, which is what `sftp.command` may be: no network is needed to speak SFTP.
fn sftp_server() -> &'static str {
    [
        "/usr/lib/openssh/sftp-server",
        "/usr/libexec/openssh/sftp-server",
        "/usr/lib/ssh/sftp-server",
    ]
    .into_iter()
    .find(|path| Path::new(path).is_file())
    .expect("sftp-server is a part of openssh-server: `make test` installs it")
}

fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

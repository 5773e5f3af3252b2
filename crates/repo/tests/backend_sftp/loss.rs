//! Connections that end in the middle: nothing half is ever taken for a file, and the next request finds a new way.

use std::fs;
use std::path::Path;
use std::time::Duration;

use lifeboat_format::Id;
use lifeboat_repo::backend::{
    Backend, BackendError, BackendOptions, FileKind, FileName, SftpBackend, Trouble,
};
use lifeboat_testkit::conformance::listing;
use lifeboat_testkit::random::Random;

use crate::gate::Gate;
use crate::{Place, backend_at};

/// A pack of usual size, in bytes.
const PACK_BYTES: usize = 16 << 20;
/// Far enough into a pack that much of it is written, and far from its end.
const MIDDLE_BYTES: u64 = 6 << 20;

struct Gated {
    place: Place,
    gate: Gate,
    backend: SftpBackend,
}

impl Gated {
    /// A repository behind a gate, whose port is told before the options are used.
    fn new(change: impl FnOnce(&mut BackendOptions, u16)) -> Self {
        let place = Place::new();
        let gate = Gate::before(place.sshd.port());
        place.sshd.trust_host_key_at(gate.port);
        let mut options = place.sshd.options();
        change(&mut options, gate.port);
        let location = place
            .sshd
            .location_through(gate.port, &place.path("repository"));
        let backend = backend_at(&location, &options);
        backend.create().unwrap();
        backend.save(FileName::CONFIG, &[b"config"]).unwrap();
        Self {
            place,
            gate,
            backend,
        }
    }

    fn repository(&self) -> std::path::PathBuf {
        self.place.path("repository")
    }
}

fn pack() -> (FileName, Vec<u8>) {
    let content = Random::new(3).bytes(PACK_BYTES);
    (FileName::new(FileKind::Pack, Id::of(&content)), content)
}

fn trouble(error: &BackendError) -> Trouble {
    match error {
        BackendError::Remote { trouble, .. } => *trouble,
        other => panic!("{other:?}"),
    }
}

/// Names in the folder of a pack.
fn beside(repository: &Path, name: FileName) -> Vec<String> {
    let folder = repository.join("data").join(&name.id.to_string()[..2]);
    let names = fs::read_dir(folder).unwrap();
    names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// Saves a pack, does something when it is half way up, and returns how saving ended.
fn save_and(
    gated: &Gated,
    name: FileName,
    content: &[u8],
    half_way: impl FnOnce(),
) -> Result<(), BackendError> {
    gated.gate.close_after(MIDDLE_BYTES);
    std::thread::scope(|scope| {
        let saving = scope.spawn(|| gated.backend.save(name, &[content]));
        gated.gate.wait_until_closed();
        half_way();
        saving.join().unwrap()
    })
}

/// Nothing but a temporary file is left, and the next request saves the whole.
fn is_half_and_then_whole(gated: &Gated, name: FileName, content: &[u8]) {
    let left = beside(&gated.repository(), name);
    assert!(
        left.iter()
            .all(|left| left.starts_with(&format!("{}-tmp-", name.id)))
            && left.len() == 1,
        "{left:?}"
    );
    gated.gate.open();
    assert!(gated.backend.size(name).unwrap_err().is_missing());
    assert!(listing(&gated.backend, FileKind::Pack).unwrap().is_empty());
    gated.backend.save(name, &[content]).unwrap();
    assert!(gated.backend.load(name, u64::MAX).unwrap() == content);
    assert_eq!(
        gated.gate.connections(),
        2,
        "one connection was lost, one made"
    );
    assert_eq!(
        gated
            .backend
            .remove_unfinished(Duration::from_secs(86_400))
            .unwrap(),
        0
    );
}

#[test]
fn ssh_is_killed_while_a_pack_is_saved() {
    let place = tempfile::tempdir().unwrap();
    let number = place.path().join("pid");
    let script = place.path().join("ssh.sh");
    // What is started is ssh itself in the end, so that its number is known without looking for it.
    fs::write(
        &script,
        format!("echo $$ > '{}'\nexec ssh \"$@\"\n", number.display()),
    )
    .unwrap();
    let gated = Gated::new(|options, port| {
        let arguments = options.settings.remove("sftp.args").unwrap();
        options.settings.insert(
            "sftp.command".into(),
            format!(
                "sh '{}' {arguments} -o BatchMode=yes -p {port} -s 127.0.0.1 sftp",
                script.display()
            ),
        );
    });
    let (name, content) = pack();
    let error = save_and(&gated, name, &content, || {
        let pid: i32 = fs::read_to_string(&number).unwrap().trim().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    })
    .unwrap_err();
    assert_eq!(trouble(&error), Trouble::Transient, "{error}");
    assert!(error.is_transient());
    assert!(
        error
            .to_string()
            .ends_with("sh ended with signal: 9 (SIGKILL)"),
        "{error}"
    );
    is_half_and_then_whole(&gated, name, &content);
}

#[test]
fn the_connection_breaks_while_a_pack_is_saved() {
    let gated = Gated::new(|_, _| {});
    let (name, content) = pack();
    let error = save_and(&gated, name, &content, || gated.gate.cut()).unwrap_err();
    assert_eq!(trouble(&error), Trouble::Transient, "{error}");
    is_half_and_then_whole(&gated, name, &content);
}

#[test]
fn a_server_that_falls_silent_is_given_up() {
    let gated = Gated::new(|options, _| options.stall = Duration::from_secs(5));
    let (name, content) = pack();
    let error = save_and(&gated, name, &content, || {}).unwrap_err();
    assert_eq!(trouble(&error), Trouble::Transient, "{error}");
    is_half_and_then_whole(&gated, name, &content);
}

#[test]
fn a_connection_that_was_lost_in_between_is_made_anew() {
    let gated = Gated::new(|_, _| {});
    let name = FileName::new(FileKind::Key, Id([5; 32]));
    gated.gate.cut();
    // Whether the loss is seen before the next request or by it, depends on which comes first.
    let first = gated.backend.save(name, &[b"key"]);
    assert!(
        first.as_ref().err().is_none_or(BackendError::is_transient),
        "{first:?}"
    );
    gated.backend.save(name, &[b"key"]).unwrap();
    assert_eq!(gated.gate.connections(), 2);
}

#[test]
fn many_threads_share_one_new_connection() {
    let gated = Gated::new(|_, _| {});
    gated.gate.cut();
    std::thread::scope(|scope| {
        for number in 0..16 {
            let backend = &gated.backend;
            scope.spawn(move || {
                let name = FileName::new(FileKind::Lock, Id([number; 32]));
                let first = backend.save(name, &[b"lock"]);
                assert!(
                    first.as_ref().err().is_none_or(BackendError::is_transient),
                    "{first:?}"
                );
                backend.save(name, &[b"lock"]).unwrap();
            });
        }
    });
    assert_eq!(listing(&gated.backend, FileKind::Lock).unwrap().len(), 16);
    assert_eq!(gated.gate.connections(), 2);
}

#[test]
fn a_server_that_was_away_is_found_again() {
    let mut place = Place::new();
    let backend = place.repository("repository");
    place.sshd.stop();
    drop(backend);
    let backend = place.backend("repository");
    let error = backend.size(FileName::CONFIG).unwrap_err();
    assert_eq!(trouble(&error), Trouble::Unreachable, "{error}");
    place.sshd.start_again();
    assert!(backend.size(FileName::CONFIG).unwrap_err().is_missing());
}

#[test]
fn nothing_is_left_running() {
    let place = Place::new();
    let number = place.path("pid");
    let noted = |then: &str| format!("sh -c \"echo \\$\\$ > '{}'; {then}\"", number.display());
    let is_running = || {
        let pid = fs::read_to_string(&number).unwrap();
        Path::new("/proc").join(pid.trim()).exists()
    };
    let mut options = place.sshd.options();
    let arguments = options.settings.remove("sftp.args").unwrap();
    let ssh = format!(
        "exec ssh {arguments} -p {} -s 127.0.0.1 sftp",
        place.sshd.port()
    );
    options.settings.insert("sftp.command".into(), noted(&ssh));
    let backend = place.backend_with("repository", &options);
    backend.create().unwrap();
    assert!(is_running());
    drop(backend);
    assert!(!is_running());
    // One that neither greets nor listens is not waited for.
    options.stall = Duration::from_secs(1);
    let deaf = noted("trap '' TERM; exec sleep 1000");
    options.settings.insert("sftp.command".into(), deaf);
    let backend = place.backend_with("repository", &options);
    assert!(backend.size(FileName::CONFIG).is_err());
    assert!(!is_running());
}

//! The rclone backend keeps the contract with the real rclone, and outlives its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lifeboat_format::Id;
use lifeboat_repo::backend::{
    Backend, BackendError, BackendOptions, Creation, FileKind, FileName, Trouble, open,
};
use lifeboat_testkit::conformance::{Traits, check_backend_with, log_listing, log_name};
use lifeboat_testkit::faults::{Fault, FaultPlan, FaultyBackend};
use lifeboat_testkit::rclone::Rclone;
use lifeboat_testkit::replay::{Note, seed};
use lifeboat_testkit::retrying::retrying;

const FAILING_PERCENT: u64 = 20;
/// rclone writes in place to a directory.
const OF_DIRECTORY: Traits = Traits {
    has_folders: true,
    replaces: true,
    appears_whole: false,
};

/// Backends with an rclone of their own each, at places that do not exist yet.
fn places<'a>(rclone: &'a Rclone, remote: &'a str) -> impl Fn() -> Arc<dyn Backend> + 'a {
    let count = AtomicU64::new(0);
    move || {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let location = format!("rclone:{remote}{number}").parse().unwrap();
        open(&location, &rclone.options()).unwrap()
    }
}

#[test]
fn a_directory_through_rclone() {
    let rclone = Rclone::new();
    let next = places(&rclone, "disk:a/");
    check_backend_with(OF_DIRECTORY, &|| Box::new(next()));
}

/// An object store, as most remotes are.
#[test]
fn memory_of_rclone() {
    let rclone = Rclone::new();
    let next = places(&rclone, ":memory:bucket/");
    check_backend_with(Traits::default(), &|| Box::new(next()));
}

#[test]
fn rclone_that_fails() {
    let seed = seed();
    let _seed = Note::seed(seed);
    let rclone = Rclone::new();
    let next = places(&rclone, "disk:a/");
    check_backend_with(OF_DIRECTORY, &|| {
        let faults = [Fault::FailBefore, Fault::FailAfter];
        let plan = FaultPlan::random(seed, FAILING_PERCENT, &faults);
        let faulty = FaultyBackend::new(next(), plan);
        Box::new(retrying(faulty))
    });
}

fn with(rclone: &Rclone, settings: &[(&str, &str)]) -> BackendOptions {
    let mut options = rclone.options();
    for (name, value) in settings {
        options.settings.insert((*name).into(), (*value).into());
    }
    options
}

/// What the first request says, and which kind of trouble that is.
fn trouble(location: &str, options: &BackendOptions) -> (Trouble, String) {
    let backend = open(&location.parse().unwrap(), options).unwrap();
    match backend.load(FileName::CONFIG, 1000).unwrap_err() {
        ref error @ BackendError::Remote { trouble, .. } => (trouble, error.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_program_that_is_missing_is_named() {
    let rclone = Rclone::new();
    let options = with(&rclone, &[("rclone.program", "/nowhere/rclone")]);
    assert_eq!(
        trouble("rclone:disk:a", &options),
        (
            Trouble::Program,
            "cannot read config in rclone:disk:a: there is no program \"/nowhere/rclone\": install it (as `apt install rclone`), or name it with -o rclone.program".to_owned()
        )
    );
}

#[test]
fn an_unknown_remote_is_named() {
    let rclone = Rclone::new();
    let (kind, said) = trouble("rclone:nobody:a", &rclone.options());
    assert_eq!(kind, Trouble::Program, "{said}");
    assert!(
        said.contains("rclone ended (exit status: 1): ")
            && said.contains("didn't find section in config file")
            && said.ends_with("`rclone listremotes` shows the remotes that it knows"),
        "{said}"
    );
}

#[test]
fn what_stands_in_a_remote_is_not_shown() {
    let rclone = Rclone::new();
    const SECRET: &str = "Marker-Of-A-Secret-4711";
    for remote in [
        format!(":s3,provider=Other,secret_access_key={SECRET},endpoint=127.0.0.1!:bucket"),
        format!(":nothing,secret=\"{SECRET}\":path"),
        format!("nowhere,secret={SECRET}:path"),
        format!(":sftp,secret=\"{SECRET}"),
    ] {
        let (_, why) = trouble(&format!("rclone:{remote}"), &rclone.options());
        assert!(!why.contains(SECRET), "{why}");
        assert!(why.contains("=***"), "{why}");
    }
}

#[test]
fn a_program_that_is_no_rclone_is_found_out() {
    let rclone = Rclone::new();
    for (program, expected) in [
        ("true", "true ended (exit status: 0) and said nothing"),
        (
            "sh -c 'echo gone fishing >&2; exit 3' sh",
            "sh ended (exit status: 3): gone fishing",
        ),
        ("echo", "echo "),
        ("cat -", "cat "),
    ] {
        let arguments = if program.starts_with("cat") { "" } else { "x" };
        let settings = [("rclone.program", program), ("rclone.args", arguments)];
        let (kind, said) = trouble("rclone:/dev/null", &with(&rclone, &settings));
        assert_eq!(kind, Trouble::Program, "{program}: {said}");
        assert!(said.contains(expected), "{program}: {said}");
    }
    // Silent, and deaf to the end of its input: it is not waited for longer than was asked for.
    let settings = [
        (
            "rclone.program",
            "sh -c 'trap : TERM; while :; do read line <&9 || sleep 1; done' sh",
        ),
        ("rclone.timeout", "1s"),
    ];
    let (kind, said) = trouble("rclone:disk:a", &with(&rclone, &settings));
    assert_eq!(kind, Trouble::Program, "{said}");
    assert!(
        said.contains("sh does not answer (it was silent for 1 seconds)"),
        "{said}"
    );
}

/// The rclone that this process started last for a remote, by the kernel's own list.
fn process_of(remote: &str) -> Option<i32> {
    let own = std::process::id().to_string();
    let entries = std::fs::read_dir("/proc").unwrap();
    entries
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<i32>().ok())
        .find(|pid| {
            let read = |name| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let status = String::from_utf8_lossy(&read("status")).into_owned();
            let is_child = status.lines().any(|line| {
                line.strip_prefix("PPid:")
                    .is_some_and(|parent| parent.trim() == own)
            });
            let words = String::from_utf8_lossy(&read("cmdline")).into_owned();
            is_child && words.split('\0').any(|word| word == remote)
        })
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn an_rclone_that_dies_is_told_and_started_again() {
    let rclone = Rclone::new();
    let backend = open(&rclone.location("killed"), &rclone.options()).unwrap();
    backend.create().unwrap();
    let name = FileName::new(FileKind::Key, Id::of(b"key"));
    backend.save(name, &[b"key"]).unwrap();
    kill(process_of("disk:killed").expect("a child"));
    // Either its end was not noticed yet, and is then told, or another one answers already.
    match backend.load(name, 3) {
        Err(error) => {
            assert!(error.is_transient(), "{error:?}");
            assert!(
                error.to_string().contains("rclone ended (signal: 9"),
                "{error}"
            );
        }
        Ok(content) => assert_eq!(content, b"key"),
    }
    assert_eq!(backend.load(name, 3).unwrap(), b"key");

    // In the middle of many requests: each ends, and all succeed when they are made again.
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8u8)
            .map(|number| {
                let backend = &backend;
                scope.spawn(move || {
                    for round in 0..10u8 {
                        let content = vec![number ^ round; 300_000];
                        let name = FileName::new(FileKind::Pack, Id::of(&[number, round]));
                        let mut attempts = 0;
                        while let Err(error) = backend.save(name, &[&content]) {
                            attempts += 1;
                            assert!(error.is_transient() && attempts < 20, "{error:?}");
                        }
                        let loaded = loop {
                            match backend.load(name, 300_000) {
                                Ok(loaded) => break loaded,
                                Err(error) => assert!(error.is_transient(), "{error:?}"),
                            }
                        };
                        assert!(loaded == content);
                    }
                })
            })
            .collect();
        for _ in 0..3 {
            if let Some(pid) = process_of("disk:killed") {
                kill(pid);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        for worker in workers {
            worker.join().unwrap();
        }
    });
    // The last one may have been killed when nobody asked any more.
    while backend.load(name, 3).is_err() {}
    let last = process_of("disk:killed").expect("a child");
    drop(backend);
    assert_eq!(process_of("disk:killed"), None, "{last} is left behind");
}

#[test]
fn an_option_that_does_nothing_is_refused() {
    let rclone = Rclone::new();
    let options = with(&rclone, &[("rclone.programm", "rclone")]);
    let error = open(&rclone.location("a"), &options).err().unwrap();
    assert_eq!(error.name, "rclone.programm");
}

/// rclone writes in place to a directory, so that half of a claim may be seen, and stays where it was killed.
#[test]
fn half_a_claim_of_the_log_is_none() {
    let rclone = Rclone::new();
    let backend = open(&rclone.location("r"), &rclone.options()).unwrap();
    backend.create().unwrap();
    backend.save(FileName::CONFIG, &[b"config"]).unwrap();
    let name = log_name("wal/1/a");
    backend.log_create(&name, &[b"content"]).unwrap();
    let folder = rclone.directory("r/lifeboat/snapshots");
    let claim = std::fs::read_dir(&folder).unwrap().next();
    let claim = claim.unwrap().unwrap().path();
    let whole = std::fs::read(&claim).unwrap();
    for half in [&whole[..0], &whole[..100], &whole[..1023]] {
        std::fs::write(folder.join(Id::of(half).to_string()), half).unwrap();
    }
    let later = open(&rclone.location("r"), &rclone.options()).unwrap();
    assert_eq!(log_listing(&later, None).unwrap().len(), 1);
    assert_eq!(later.log_load(&name, 7).unwrap(), b"content");
    std::fs::write(&claim, &whole[..200]).unwrap();
    let later = open(&rclone.location("r"), &rclone.options()).unwrap();
    assert!(log_listing(&later, None).unwrap().is_empty());
    let made = later.log_create(&name, &[b"other"]).unwrap();
    assert_eq!(made, Creation::Created);
    assert_eq!(later.log_load(&name, 7).unwrap(), b"other");
}

/// Each with an rclone of its own; those that give way try again.
#[test]
fn one_of_several_processes_creates_an_object_of_the_log() {
    let rclone = Rclone::new();
    let backends: Vec<_> = (0..3)
        .map(|_| retrying(open(&rclone.location("r"), &rclone.options()).unwrap()))
        .collect();
    backends[0].create().unwrap();
    backends[0].save(FileName::CONFIG, &[b"config"]).unwrap();
    for round in 0..6 {
        let name = log_name(&format!("wal/{round}"));
        let made: Vec<Creation> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0u8..)
                .zip(&backends)
                .map(|(number, backend)| {
                    let name = &name;
                    scope.spawn(move || backend.log_create(name, &[&[number; 1000]]).unwrap())
                })
                .collect();
            let ends = threads.into_iter().map(|thread| thread.join().unwrap());
            ends.collect()
        });
        let created = made.iter().filter(|made| **made == Creation::Created);
        assert_eq!(created.count(), 1, "{made:?}");
        for backend in &backends {
            let kept = backend.log_load(&name, 1000).unwrap();
            assert_eq!(made[usize::from(kept[0])], Creation::Created);
            assert_eq!(kept, vec![kept[0]; 1000]);
        }
    }
    let claims = std::fs::read_dir(rclone.directory("r/lifeboat/snapshots"));
    assert_eq!(claims.unwrap().count(), 6, "who gave way made no claim");
}

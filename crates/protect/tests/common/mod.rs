//! What tests of the executor share: a repository in memory or on disk, and whole backups and restores of it.

#![allow(dead_code, reason = "each test uses a part")]

use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use lifeboat_flow::{Cancel, Counters, Event, EventSink, Source, Target};
use lifeboat_format::{Id, Snapshot};
use lifeboat_protect::{
    Backup, BackupOptions, BackupOutcome, ChangeRule, Overwrite, Parent, ProtectError, Restore,
    RestoreOptions, RestoreOutcome,
};
use lifeboat_repo::backend::Backend;
use lifeboat_repo::{
    CheckOptions, CheckReport, Identity, IngestOptions, KeyCost, LockGuard, LockRequest,
    LockTiming, PackListing, RepoError, Repository,
};
use lifeboat_state::{TargetOptions, VolumeOptions, VolumeSource, VolumeTarget};
use lifeboat_testkit::bare;
#[allow(unused_imports, reason = "each test uses a part")]
pub use lifeboat_testkit::bare::scratch;
use lifeboat_testkit::compare::Comparison;
use lifeboat_testkit::random::Random;

pub const PASSWORD: &[u8] = b"test";

/// Takes events and keeps them.
#[derive(Default)]
pub struct Seen(pub Mutex<Vec<Event>>);

impl EventSink for Seen {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Seen {
    /// What could not be done, as text.
    pub fn problems(&self) -> Vec<String> {
        let events = self.0.lock().unwrap();
        events
            .iter()
            .filter_map(|event| match event {
                Event::Problem(problem) => Some(problem.to_string()),
                _ => None,
            })
            .collect()
    }
}

pub fn init(backend: impl Backend + 'static) -> Arc<Repository> {
    let who = Identity::of_this_process();
    let made = Repository::init(Arc::new(backend), PASSWORD, 2, None, &who, KeyCost::Test);
    Arc::new(made.expect("init"))
}

pub fn open(backend: impl Backend + 'static) -> Result<Arc<Repository>, RepoError> {
    Ok(Arc::new(Repository::open(
        Arc::new(backend),
        PASSWORD,
        None,
    )?))
}

/// Locks whose waits are short enough for tests.
pub fn quick_lock(exclusive: bool) -> LockRequest {
    let timing = LockTiming {
        settle: Duration::from_millis(1),
        watch: Duration::from_millis(1),
        watch_restic: Duration::from_millis(1),
        ..LockTiming::default()
    };
    LockRequest {
        exclusive,
        retry_for: Duration::ZERO,
        timing,
        early: false,
        reads: false,
    }
}

pub fn lock(repository: &Arc<Repository>, exclusive: bool) -> Result<LockGuard, RepoError> {
    let who = Identity::of_this_process();
    LockGuard::take(
        repository,
        &who,
        quick_lock(exclusive),
        &Seen::default(),
        &Cancel::new(),
    )
}

pub fn draft(parent: Option<Id>) -> Snapshot {
    Snapshot {
        parent,
        hostname: "host".into(),
        ..bare::snapshot(Id::default())
    }
}

pub fn options(parent: Option<Parent>) -> BackupOptions {
    BackupOptions {
        parent,
        changed: None,
        change_rule: ChangeRule::default(),
        skip_if_unchanged: false,
        refuse_empty: false,
        workers: 3,
        readers: 2,
        scan: false,
        ingest: IngestOptions {
            pack_size_bytes: 256 * 1024,
            ..IngestOptions::default()
        },
    }
}

/// One whole backup of a source, with lock and parent.
pub fn back_up_source(
    repository: &Arc<Repository>,
    source: &dyn Source,
    seen: &Seen,
) -> Result<BackupOutcome, ProtectError> {
    let parent = repository
        .snapshots()?
        .all
        .last()
        .map(|(id, snapshot)| Parent {
            id: *id,
            tree: snapshot.tree,
            holds: None,
        });
    back_up_with(repository, source, options(parent), seen)
}

/// The same with options of its own.
pub fn back_up_with(
    repository: &Arc<Repository>,
    source: &dyn Source,
    options: BackupOptions,
    seen: &Seen,
) -> Result<BackupOutcome, ProtectError> {
    let lock = lock(repository, false)?;
    let cancel = Cancel::new();
    let (index, _) = repository.load_index(PackListing::Compare, &cancel)?;
    let index = RwLock::new(index);
    let parent = options.parent.map(|parent| parent.id);
    let backup = Backup {
        repository,
        index: &index,
        lock: Some(&lock),
        source,
        options,
        counters: &Counters::default(),
        events: seen,
        cancel: &cancel,
    };
    backup.run(draft(parent), lifeboat_repo::now)
}

/// One whole backup of a directory: its content is the top of the snapshot.
pub fn back_up(
    repository: &Arc<Repository>,
    dir: &Path,
    seen: &Seen,
) -> Result<BackupOutcome, ProtectError> {
    let source = VolumeSource::new(vec![dir.to_path_buf()], VolumeOptions::default());
    back_up_source(repository, &source.expect("source"), seen)
}

/// One whole restore of the directory that was backed up.
pub fn restore(
    repository: &Arc<Repository>,
    snapshot: Id,
    backed_up: &Path,
    to: &Path,
    change: impl FnOnce(&mut RestoreOptions<'_>),
    seen: &Seen,
) -> Result<RestoreOutcome, ProtectError> {
    let target = VolumeTarget::create(to, &TargetOptions::default())?;
    restore_to(repository, snapshot, backed_up, &target, change, seen)
}

/// The same to any target.
pub fn restore_to(
    repository: &Arc<Repository>,
    snapshot: Id,
    backed_up: &Path,
    target: &dyn Target,
    change: impl FnOnce(&mut RestoreOptions<'_>),
    seen: &Seen,
) -> Result<RestoreOutcome, ProtectError> {
    let cancel = Cancel::new();
    let (index, _) = repository.load_index(PackListing::Skip, &cancel)?;
    let reader = lifeboat_repo::BlobReader::new(repository, &index);
    let root = repository.snapshot(snapshot)?.tree;
    let inside = backed_up.to_string_lossy().into_owned().into_bytes();
    let tree = lifeboat_protect::subfolder(&reader, root, &inside)?;
    let mut options = RestoreOptions {
        overwrite: Overwrite::Always,
        delete: false,
        verify: false,
        dry_run: false,
        select: None,
        workers: 2,
        memory_bytes: lifeboat_repo::MEMORY_DEFAULT_BYTES,
    };
    change(&mut options);
    let restore = Restore {
        repository,
        index: &index,
        target,
        options,
        counters: &Counters::default(),
        events: seen,
        cancel: &cancel,
    };
    restore.run(tree)
}

/// One whole backup of a directory by a writer that knows only this index.
pub fn back_up_with_index(
    repository: &Arc<Repository>,
    dir: &Path,
    index: RwLock<lifeboat_repo::Index>,
    seen: &Seen,
) -> Result<BackupOutcome, ProtectError> {
    let source = VolumeSource::new(vec![dir.to_path_buf()], VolumeOptions::default());
    let source = source.expect("source");
    let lock = lock(repository, false)?;
    let backup = Backup {
        repository,
        index: &index,
        lock: Some(&lock),
        source: &source,
        options: options(None),
        counters: &Counters::default(),
        events: seen,
        cancel: &Cancel::new(),
    };
    backup.run(draft(None), lifeboat_repo::now)
}

/// A check that reads everything.
pub fn check_all(repository: &Repository) -> CheckReport {
    let options = CheckOptions {
        read_packs: Some(repository.packs().expect("packs").into_keys().collect()),
        threads: 2,
        ..Default::default()
    };
    let checked = repository.check(&options, &Counters::default(), &Cancel::new());
    checked.expect("check")
}

/// Whether the long matrices are to be run whole.
pub fn soak() -> bool {
    std::env::var_os("LIFEBOAT_SOAK").is_some()
}

pub fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg("--")
        .arg(from)
        .arg(to)
        .status();
    assert!(status.expect("cp").success());
}

/// The top directory has no node of its own in a restore, so its own metadata is not part of the comparison.
pub fn same() -> Comparison {
    let comparison = if rustix::process::geteuid().is_root() {
        Comparison::exact()
    } else {
        Comparison::as_user()
    };
    // As restic, a backup leaves sockets out: without the process that listens they are nothing.
    comparison.ignoring_root().ignoring_sockets()
}

/// A tree with a few of everything, small enough to be restored hundreds of times, in several packs all the same.
pub fn small_tree(root: &Path, seed: u64) {
    let mut random = Random::new(seed);
    for (dir, files) in [("a", 4), ("a/b", 3), ("c", 3)] {
        std::fs::create_dir_all(root.join(dir)).expect("a directory");
        for number in 0..files {
            let length = 20_000 + random.index(60_000);
            let content = random.bytes(length);
            std::fs::write(root.join(dir).join(format!("file {number}")), content).expect("a file");
        }
    }
    // More than one chunk.
    std::fs::write(root.join("c/large"), random.bytes(1_700_000)).expect("a file");
    std::fs::write(root.join("empty"), b"").expect("a file");
    std::fs::hard_link(root.join("a/file 0"), root.join("a/hard link")).expect("a link");
    std::os::unix::fs::symlink("file 0", root.join("a/link")).expect("a link");
}

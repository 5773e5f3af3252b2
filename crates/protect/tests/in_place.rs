//! Restores over what is there: what is right stays as it is, what differs is mended, whoever else is at work there.
//! A restore must never mix what was compared with what took its place meanwhile, and call that the snapshot.

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Seen, back_up, init, restore, restore_to, same};
use lifeboat_flow::{Entry, EntryPath, Existing, Target, TargetError, TargetFile};
use lifeboat_format::Id;
use lifeboat_protect::{Overwrite, RestoreOutcome};
use lifeboat_repo::Repository;
use lifeboat_repo::backend::MemoryBackend;
use lifeboat_state::{TargetOptions, VolumeTarget};
use lifeboat_testkit::random::Random;
use lifeboat_testkit::wait::until;

/// Bytes of more than twice as many blobs as one task has, so that several workers share the file.
const SHARED_BYTES: usize = 100 << 20;

/// A directory that was backed up, and a place where it was restored once.
struct Scene {
    _dir: tempfile::TempDir,
    tree: PathBuf,
    place: PathBuf,
    repository: Arc<Repository>,
    snapshot: Id,
    blobs: i64,
}

impl Scene {
    fn new(fill: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (tree, place) = (dir.path().join("tree"), dir.path().join("place"));
        fs::create_dir(&tree).unwrap();
        fill(&tree);
        let repository = init(MemoryBackend::new());
        let saved = back_up(&repository, &tree, &Seen::default()).unwrap();
        let scene = Self {
            snapshot: saved.snapshot.unwrap(),
            blobs: saved.summary.data_blobs,
            _dir: dir,
            tree,
            place,
            repository,
        };
        scene.restore_well();
        scene
    }

    /// A restore in which all goes well.
    fn restore_well(&self) -> RestoreOutcome {
        let seen = Seen::default();
        let (repository, snapshot) = (&self.repository, self.snapshot);
        let outcome = restore(repository, snapshot, &self.tree, &self.place, |_| (), &seen);
        assert_eq!(seen.problems(), Vec::<String>::new());
        same().assert_same(&self.tree, &self.place);
        outcome.unwrap()
    }

    /// A restore through a target that meddles; gives what could not be done.
    fn restore_through(&self, target: &dyn Target, overwrite: Overwrite) -> Vec<String> {
        let seen = Seen::default();
        let (repository, snapshot) = (&self.repository, self.snapshot);
        let change =
            |options: &mut lifeboat_protect::RestoreOptions<'_>| options.overwrite = overwrite;
        restore_to(repository, snapshot, &self.tree, target, change, &seen).unwrap();
        seen.problems()
    }

    fn target(&self) -> VolumeTarget {
        VolumeTarget::create(&self.place, &TargetOptions::default()).unwrap()
    }

    /// Which file it is and when anything of it changed.
    fn state(&self, name: &str) -> (u64, i64, i64) {
        let meta = fs::symlink_metadata(self.place.join(name)).unwrap();
        (meta.ino(), meta.ctime(), meta.ctime_nsec())
    }
}

/// A program that is ended whatever happens.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn run(program: &Path) -> Running {
    let mut running = None;
    // Until another thread's child has let go of our file, the system calls it busy.
    until(
        "a program that was just written starts",
        || match Command::new(program).arg("600").spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => false,
            started => {
                running = Some(Running(started.unwrap()));
                true
            }
        },
    );
    running.unwrap()
}

#[test]
fn what_is_right_already_is_not_touched_and_all_else_is_mended() {
    let large = Random::new(1).bytes(20 << 20);
    let scene = Scene::new(|tree| {
        fs::create_dir(tree.join("sub")).unwrap();
        for name in [
            "same",
            "read",
            "mode",
            "time",
            "longer",
            "sub/shorter",
            "differs",
        ] {
            fs::write(tree.join(name), name.repeat(1000)).unwrap();
        }
        for name in ["large same", "large differs"] {
            fs::write(tree.join(name), &large).unwrap();
        }
        // A program that runs can't be opened for writing.
        fs::copy("/bin/sleep", tree.join("sleep")).unwrap();
    });
    let place = &scene.place;
    let _running = run(&place.join("sleep"));
    // Somebody reads it, long after it was written.
    let read = fs::File::options()
        .append(true)
        .open(place.join("read"))
        .unwrap();
    let later = fs::FileTimes::new().set_accessed(SystemTime::now() + Duration::from_secs(9));
    read.set_times(later).unwrap();
    fs::set_permissions(place.join("mode"), Permissions::from_mode(0o600)).unwrap();
    let time = fs::File::options().append(true).open(place.join("time"));
    time.unwrap().set_modified(UNIX_EPOCH).unwrap();
    fs::write(place.join("longer"), "longer".repeat(1001)).unwrap();
    fs::write(place.join("sub/shorter"), "shorter").unwrap();
    fs::write(place.join("differs"), "DIFFERS".repeat(1000)).unwrap();
    let mut other = large.clone();
    other[15_000_000] ^= 1;
    fs::write(place.join("large differs"), &other).unwrap();
    let untouched = ["same", "read", "large same", "sleep", ".", "sub"];
    let mended = [
        "mode",
        "time",
        "longer",
        "sub/shorter",
        "differs",
        "large differs",
    ];
    let (before, files) = (
        untouched.map(|name| scene.state(name)),
        mended.map(|name| scene.state(name)),
    );
    let outcome = scene.restore_well();
    assert_eq!(outcome.entries_restored, 11);
    assert_eq!(untouched.map(|name| scene.state(name)), before);
    for (name, (inode, ..)) in mended.into_iter().zip(files) {
        assert_eq!(scene.state(name).0, inode, "{name} was made anew");
    }
}

#[test]
fn several_workers_mend_one_large_file() {
    let content = Random::new(2).bytes(SHARED_BYTES);
    let scene = Scene::new(|tree| fs::write(tree.join("large"), &content).unwrap());
    assert!(scene.blobs > 2 * 24, "only {} blobs", scene.blobs);
    let large = scene.place.join("large");
    for spoiled in [
        vec![0],
        vec![SHARED_BYTES - 1],
        (0..SHARED_BYTES).step_by(9 << 20).collect(),
    ] {
        let mut other = content.clone();
        spoiled.iter().for_each(|at| other[*at] ^= 1);
        fs::write(&large, &other).unwrap();
        scene.restore_well();
    }
    fs::write(&large, &content[..SHARED_BYTES / 2]).unwrap();
    scene.restore_well();
}

#[test]
fn a_running_program_that_differs_is_replaced_and_runs_on() {
    let scene = Scene::new(|tree| {
        fs::write(tree.join("program"), "not a program any more").unwrap();
    });
    let program = scene.place.join("program");
    fs::copy("/bin/sleep", &program).unwrap();
    let mut running = run(&program);
    scene.restore_well();
    assert_eq!(running.0.try_wait().unwrap(), None, "it still runs");
}

/// What a restore has done when somebody meddles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Looked,
    Opened,
}

/// A target where somebody else is at work between two calls.
struct Meddling<'a> {
    inner: VolumeTarget,
    meddle: &'a (dyn Fn(Call, &EntryPath) + Sync),
    /// Whether files refuse to be written; how often they were asked.
    refusing: Option<Arc<AtomicU64>>,
}

impl Target for Meddling<'_> {
    fn look(&self, path: &EntryPath) -> Result<Option<Existing>, TargetError> {
        let found = self.inner.look(path);
        (self.meddle)(Call::Looked, path);
        found
    }

    fn names(&self, dir: &EntryPath) -> Result<Vec<Vec<u8>>, TargetError> {
        self.inner.names(dir)
    }

    fn make_dir(&self, path: &EntryPath) -> Result<(), TargetError> {
        self.inner.make_dir(path)
    }

    fn open_file(&self, path: &EntryPath, keep: bool) -> Result<Box<dyn TargetFile>, TargetError> {
        self.inner.open_file(path, keep)
    }

    fn read_file(&self, path: &EntryPath) -> Result<Box<dyn TargetFile>, TargetError> {
        let file = self.inner.read_file(path);
        (self.meddle)(Call::Opened, path);
        match &self.refusing {
            None => file,
            Some(asked) => Ok(Box::new(Refusing(file?, Arc::clone(asked)))),
        }
    }

    fn make_special(&self, path: &EntryPath, entry: &Entry) -> Result<(), TargetError> {
        self.inner.make_special(path, entry)
    }

    fn make_link(&self, original: &EntryPath, path: &EntryPath) -> Result<(), TargetError> {
        self.inner.make_link(original, path)
    }

    fn rename(&self, from: &EntryPath, to: &EntryPath) -> Result<(), TargetError> {
        self.inner.rename(from, to)
    }

    fn finish(&self, path: &EntryPath, entry: &Entry) -> Result<(), Vec<TargetError>> {
        self.inner.finish(path, entry)
    }

    fn remove(&self, path: &EntryPath) -> Result<(), TargetError> {
        self.inner.remove(path)
    }

    fn sync(&self) -> Result<(), TargetError> {
        self.inner.sync()
    }
}

/// A file that nobody may write.
struct Refusing(Box<dyn TargetFile>, Arc<AtomicU64>);

impl TargetFile for Refusing {
    fn to_write(&self) -> Result<Box<dyn TargetFile>, TargetError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Err(TargetError {
            doing: "open file",
            path: "it".into(),
            cause: std::io::ErrorKind::ReadOnlyFilesystem.into(),
        })
    }

    fn len_bytes(&self) -> Result<u64, TargetError> {
        self.0.len_bytes()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, TargetError> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), TargetError> {
        self.0.write_at(data, offset)
    }

    fn set_len(&self, len_bytes: u64) -> Result<(), TargetError> {
        self.0.set_len(len_bytes)
    }

    fn finish(&self, entry: &Entry) -> Result<(), Vec<TargetError>> {
        self.0.finish(entry)
    }
}

/// What a meddler does to the file of a scene.
type Meddler<'a> = &'a (dyn Fn(&Path) + Sync);

fn replace(file: &Path) {
    let new = file.with_extension("new");
    fs::write(&new, "new").unwrap();
    fs::rename(&new, file).unwrap();
}

fn remove(file: &Path) {
    fs::remove_file(file).unwrap();
}

#[test]
fn what_takes_the_place_of_a_file_while_it_is_compared_is_left_alone() {
    let content = Random::new(3).bytes(20 << 20);
    let scene = Scene::new(|tree| fs::write(tree.join("file"), &content).unwrap());
    let file = scene.place.join("file");
    let mut half = content.clone();
    half[15 << 20] ^= 1;
    let meddlers: [Meddler<'_>; 2] = [&replace, &remove];
    for meddler in meddlers {
        fs::write(&file, &half).unwrap();
        let target = Meddling {
            inner: scene.target(),
            meddle: &|call, _| {
                if call == Call::Opened {
                    meddler(&file);
                }
            },
            refusing: None,
        };
        let problems = scene.restore_through(&target, Overwrite::Always);
        assert_eq!(problems.len(), 1, "{problems:?}");
        // Whatever is there now, it is no mixture.
        assert!(fs::read(&file).map_or(true, |found| found == b"new"));
        scene.restore_well();
    }
}

#[test]
fn a_file_that_is_taken_for_the_same_is_not_made_up_when_it_is_gone() {
    let scene = Scene::new(|tree| fs::write(tree.join("file"), "content").unwrap());
    let file = scene.place.join("file");
    let meddlers: [Meddler<'_>; 2] = [&replace, &remove];
    for meddler in meddlers {
        let target = Meddling {
            inner: scene.target(),
            meddle: &|call, path| {
                if call == Call::Looked && path.0 == b"file" {
                    meddler(&file);
                }
            },
            refusing: None,
        };
        let problems = scene.restore_through(&target, Overwrite::IfChanged);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(fs::read(&file).map_or(true, |found| found == b"new"));
        scene.restore_well();
    }
}

#[test]
fn a_file_that_cant_be_written_is_asked_once_and_named_once() {
    let scene = Scene::new(|tree| {
        fs::write(tree.join("file"), Random::new(4).bytes(20 << 20)).unwrap();
    });
    let file = scene.place.join("file");
    fs::write(&file, Random::new(5).bytes(20 << 20)).unwrap();
    let asked = Arc::new(AtomicU64::new(0));
    let target = Meddling {
        inner: scene.target(),
        meddle: &|_, _| (),
        refusing: Some(Arc::clone(&asked)),
    };
    let problems = scene.restore_through(&target, Overwrite::Always);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(
        asked.load(Ordering::Relaxed),
        1,
        "asked for each blob, after fetching it"
    );
    scene.restore_well();
}

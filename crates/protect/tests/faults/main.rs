//! The fault matrix: each command meets each fault at each operation of its backend, once, from there on, or in storms.
//! It succeeds with the right result or fails with a reason; the repository stays valid, and the same command then goes well.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "who reads a run wants to know how much went wrong, and which case hangs"
)]

mod case;
mod commands;
#[path = "../common/mod.rs"]
mod common;
mod http;
mod mounted;
mod repairs;
mod upkeep;
mod watch;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use case::{CASE_VARIABLE, Case, When};
use commands::{COMMANDS, Command, Done};
use common::{PASSWORD, Seen, back_up, check_all, copy, init, lock, open, restore, same, soak};
use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::{BlobKind, Id, Lock, Node, NodeKind, Snapshot};
use lifeboat_repo::backend::{
    Backend, Destroyed, FileKind, FileName, MemoryBackend, RetryPolicy, RetryingBackend,
};
use lifeboat_repo::{
    BlobReader, CheckOptions, Identity, Index, KeyCost, LockGuard, PackListing, RepoError,
    Repository, all_locks, chain, remove_locks,
};
use lifeboat_testkit::faults::{FaultyBackend, Operation, Verb};
use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay::{self, Note};
use watch::Watch;
use world::{NEW_PASSWORD, World};

/// Cases of a command in which something goes wrong, in a normal run.
const CASES: usize = 66;
/// What a normal run injects at least, over all commands.
const CASES_OF_ALL: usize = 2_000;
const _: () = assert!(COMMANDS.len() * CASES >= CASES_OF_ALL);
/// Of the cases of a command, so many in a hundred are storms.
const STORMS_PERCENT: usize = 15;
/// Operations of a case at most, beyond four times as many as without faults: tries end.
const TRIES_MAX: usize = 4_000;
/// For how long a command tries again what fails for ever.
const LASTING_FOR: Duration = Duration::from_millis(15);
/// For how long it tries what passes: longer than any pause of a busy machine.
const PASSING_FOR: Duration = Duration::from_secs(60);

/// A backend that fails by plan, as a command sees it.
fn decorated(faulty: &FaultyBackend<MemoryBackend>, try_for: Duration) -> Arc<dyn Backend> {
    retrying(Arc::new(faulty.clone()), try_for)
}

/// A backend that tries again for so long, without long waits.
fn retrying(inner: Arc<dyn Backend>, try_for: Duration) -> Arc<dyn Backend> {
    let policy = RetryPolicy {
        wait_first: Duration::from_millis(1),
        wait_max: Duration::from_millis(2),
        retry_after_max: Duration::from_millis(2),
        total: try_for,
        lock_total: try_for,
        unreachable_total: try_for,
        parting_total: try_for,
        ..RetryPolicy::default()
    };
    Arc::new(RetryingBackend::new(
        inner,
        policy,
        Arc::new(Seen::default()),
        Cancel::new(),
    ))
}

struct Matrix<'w> {
    world: &'w World,
    command: &'w Command,
    base: MemoryBackend,
    expected: String,
    operations: Vec<Operation>,
    /// What a listing may not show yet, oldest first.
    newest: Vec<FileName>,
    /// What a repair must not lose.
    readable: BTreeSet<(BlobKind, Id)>,
}

impl<'w> Matrix<'w> {
    /// Runs the command without faults.
    fn new(world: &'w World, command: &'w Command) -> Self {
        let base = (command.base)(world);
        let recording = FaultyBackend::recording(base.fork());
        let expected = (command.run)(world, &decorated(&recording, PASSING_FOR)).unwrap();
        (command.holds)(world, recording.inner());
        let mut newest = world.newest.clone();
        newest.retain(|name| base.size(*name).is_ok());
        if command.heals && command.name.starts_with("repair-packs") {
            // The pack that is to be repaired is hidden first.
            let (pack, _) = repairs::fullest_pack(world);
            let name = FileName::new(FileKind::Pack, pack);
            newest.retain(|known| *known != name);
            newest.push(name);
        }
        let readable = match command.heals {
            true => repairs::readable(&base),
            false => BTreeSet::new(),
        };
        Self {
            readable,
            world,
            command,
            base,
            expected,
            operations: recording.log(),
            newest,
        }
    }

    /// Runs a case; false if nothing went wrong in it, because its operation did not come.
    fn run(&self, case: &Case, number: u64) -> bool {
        let _note = Note::new(format!(
            "{CASE_VARIABLE}={case} repeats it, number {number}"
        ));
        let _watch = Watch::new(case);
        let faulty = FaultyBackend::recording(self.base.fork());
        faulty.remember(&self.newest);
        faulty.follow(case.plan());
        let try_for = match case.when {
            When::From(_) => LASTING_FOR,
            When::Once(_) | When::Storm(_) => PASSING_FOR,
        };
        let done = (self.command.run)(self.world, &decorated(&faulty, try_for));
        if faulty.faults() == 0 {
            return false;
        }
        self.judge(&done, case.must_succeed(), case.hides());
        let bound = self.operations.len() * 4 + TRIES_MAX;
        let operations = faulty.log().len();
        assert!(operations <= bound, "{operations} operations");
        let acknowledged = done.is_ok() && !case.hides();
        self.assert_left(faulty.inner(), acknowledged, number);
        true
    }

    /// Whether a case concerns a listing of packs, index files or snapshots.
    fn lists_content(&self, case: &Case) -> bool {
        let of_case = |operation: &&Operation| case.when == When::Once(operation.number);
        let kind = self.operations.iter().find(of_case).and_then(|it| it.kind);
        matches!(
            kind,
            Some(FileKind::Pack | FileKind::Index | FileKind::Snapshot)
        )
    }

    fn judge(&self, done: &Done, must_succeed: bool, hides: bool) {
        match done {
            Ok(result) if !hides => assert_eq!(*result, self.expected),
            Ok(_) => {}
            Err(why) => {
                assert!(!why.trim().is_empty() && !why.contains("panicked"), "{why}");
                assert!(!must_succeed, "one more try would have done: {why}");
            }
        }
    }

    /// What a case left is valid, and the command goes well on it.
    fn assert_left(&self, left: &MemoryBackend, acknowledged: bool, number: u64) {
        let (world, command) = (self.world, self.command);
        if acknowledged {
            (command.holds)(world, left);
        }
        let mut trees: Vec<(Id, &Path)> = Vec::new();
        for state in command.keeps {
            let (tree, kept) = &world.states[*state];
            trees.push((*tree, kept));
        }
        let has_config = left.size(FileName::CONFIG).is_ok();
        if has_config {
            // The one who left these locks has our number, and lives.
            remove_locks(&world::open_any(left), true).unwrap();
        }
        assert!(has_config || command.name == "init");
        if has_config && !command.heals {
            world.assert_valid(left, &trees, number);
        }
        self.assert_readable(left);
        let again = (command.run)(world, &(Arc::new(left.clone()) as Arc<dyn Backend>));
        assert_eq!(
            again.as_deref(),
            Ok(self.expected.as_str()),
            "without faults"
        );
        (command.holds)(world, left);
        if !command.reads {
            world.assert_valid(left, &trees, number);
        }
    }

    /// What a repair could read before can be read now.
    fn assert_readable(&self, left: &MemoryBackend) {
        if self.command.heals {
            let now = repairs::readable(left);
            let lost: Vec<_> = self.readable.difference(&now).collect();
            assert!(
                lost.is_empty(),
                "what could be read before is lost: {lost:?}"
            );
        }
    }
}

/// Runs cases of one command: all, some by a seed, or the one that the environment names.
fn meets_faults(name: &str) {
    let command = COMMANDS.iter().find(|command| command.name == name);
    let command = command.expect("a command of the table");
    let world = World::new();
    let matrix = Matrix::new(&world, command);
    if let Ok(text) = std::env::var(CASE_VARIABLE) {
        // One with a slash goes over HTTP.
        let is_here = !text.contains('/');
        let case = is_here.then(|| text.parse::<Case>().expect(CASE_VARIABLE));
        if let Some(case) = case.filter(|case| case.command == name) {
            // Threads meet operations in any order, so one try may miss.
            let hits = (0..40).filter(|number| matrix.run(&case, *number)).count();
            assert!(hits > 0, "{case} did not happen");
        }
        return;
    }
    let seed = replay::seed();
    let _seed = Note::seed(seed);
    let mut random = Random::new(seed);
    let mut cases = Case::all(name, &matrix.operations);
    let mut injected = 0;
    let storms = CASES * STORMS_PERCENT / 100;
    for number in 0..storms {
        let case = Case::storm(name, &mut random);
        injected += usize::from(matrix.run(&case, number as u64));
    }
    // Few cases, and the worst that a command can meet: what is not listed seems to be gone.
    let mut hiding = Vec::new();
    cases.retain(|case| {
        let is_hiding = case.hides() && matrix.lists_content(case);
        if is_hiding {
            hiding.push(case.clone());
        }
        !is_hiding
    });
    let mut number = 0;
    while soak() || injected < CASES {
        let from = match hiding.is_empty() {
            true => &mut cases,
            false => &mut hiding,
        };
        if from.is_empty() {
            break;
        }
        let case = from.swap_remove(random.index(from.len()));
        injected += usize::from(matrix.run(&case, number));
        number += 1;
    }
    // A command of few operations has few cases; storms are without end.
    while injected < CASES {
        let case = Case::storm(name, &mut random);
        injected += usize::from(matrix.run(&case, number));
        number += 1;
    }
    println!("{name}: {injected} cases went wrong by plan, seed {seed}");
}

/// One test for each command, so that they run side by side.
macro_rules! each_command {
    ($($test:ident $name:literal)*) => {
        $(#[test]
        fn $test() {
            meets_faults($name);
        })*

        #[test]
        fn every_command_has_its_test() {
            let tested = [$($name),*];
            assert!(COMMANDS.iter().map(|command| command.name).eq(tested));
        }
    };
}

each_command! {
    init_meets_faults "init"
    backup_meets_faults "backup"
    restore_meets_faults "restore"
    snapshots_meets_faults "snapshots"
    ls_meets_faults "ls"
    check_meets_faults "check"
    forget_meets_faults "forget"
    tag_meets_faults "tag"
    key_add_meets_faults "key-add"
    key_passwd_meets_faults "key-passwd"
    key_remove_meets_faults "key-remove"
    key_list_meets_faults "key-list"
    unlock_meets_faults "unlock"
    cat_meets_faults "cat"
    dump_meets_faults "dump"
    diff_meets_faults "diff"
    find_meets_faults "find"
    stats_meets_faults "stats"
    prune_meets_faults "prune"
    prune_at_once_meets_faults "prune-at-once"
    copy_meets_faults "copy"
    copy_from_meets_faults "copy-from"
    rewrite_meets_faults "rewrite"
    recover_meets_faults "recover"
    migrate_meets_faults "migrate"
    repair_index_meets_faults "repair-index"
    repair_snapshots_meets_faults "repair-snapshots"
    repair_packs_meets_faults "repair-packs"
    repair_packs_from_meets_faults "repair-packs-from"
    repair_packs_by_meets_faults "repair-packs-by"
    mount_meets_faults "mount"
    try_delete_meets_faults "try-delete"
}

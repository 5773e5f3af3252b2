//! The fault matrix: each command meets each fault at each operation of its backend, once, from there on, or in storms.
//! It succeeds with the right result or fails with a reason; the repository stays valid, and the same command then goes well.

mod case;
mod commands;
#[path = "../common/mod.rs"]
mod common;
mod watch;
mod world;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use case::{CASE_VARIABLE, Case};
use commands::{COMMANDS, Command, Done};
use common::{PASSWORD, Seen, back_up, check_all, copy, init, lock, open, restore, same, soak};
use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::{BlobKind, Id, Lock, Node, NodeKind, Snapshot};
use lifeboat_repo::backend::{Backend, FileKind, FileName, MemoryBackend};
use lifeboat_repo::{
    BlobReader, CheckOptions, Identity, Index, KeyCost, LockGuard, PackListing, RepoError,
    Repository, all_locks, chain, remove_locks,
};
use lifeboat_testkit::faults::{FaultyBackend, Operation, Verb};
use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay::{self, Note};
use lifeboat_testkit::retry::RetryingBackend;
use watch::Watch;
use world::{NEW_PASSWORD, World};

/// Cases of a command in which something goes wrong, in a normal run.
const CASES: usize = 130;
/// What a normal run injects at least, over all commands.
const CASES_OF_ALL: usize = 2_000;
const _: () = assert!(COMMANDS.len() * CASES >= CASES_OF_ALL);
/// Of the cases of a command, so many in a hundred are storms.
const STORMS_PERCENT: usize = 15;
/// How often an operation is tried.
const ATTEMPTS: u32 = 4;

/// A backend that fails by plan, as a command sees it.
fn decorated(faulty: &FaultyBackend<MemoryBackend>) -> Arc<dyn Backend> {
    Arc::new(RetryingBackend::new(faulty.clone(), ATTEMPTS))
}

struct Matrix<'w> {
    world: &'w World,
    command: &'w Command,
    expected: String,
    operations: Vec<Operation>,
}

impl<'w> Matrix<'w> {
    /// Runs the command without faults.
    fn new(world: &'w World, command: &'w Command) -> Self {
        let recording = FaultyBackend::recording(base(world, command));
        let expected = (command.run)(world, &decorated(&recording)).unwrap();
        (command.holds)(world, recording.inner());
        Self {
            world,
            command,
            expected,
            operations: recording.log(),
        }
    }

    /// Runs a case; false if nothing went wrong in it, because its operation did not come.
    fn run(&self, case: &Case, number: u64) -> bool {
        let _note = Note::new(format!(
            "{CASE_VARIABLE}={case} repeats it, number {number}"
        ));
        let _watch = Watch::new(case);
        let base = base(self.world, self.command);
        let faulty = FaultyBackend::recording(base);
        faulty.remember(&self.world.newest);
        faulty.follow(case.plan());
        let done = (self.command.run)(self.world, &decorated(&faulty));
        if faulty.faults() == 0 {
            return false;
        }
        self.judge(case, &done);
        let bound = (self.operations.len() + 8) * ATTEMPTS as usize;
        let operations = faulty.log().len();
        assert!(operations <= bound, "{operations} operations");
        self.assert_left(faulty.inner(), done.is_ok() && !case.hides(), number);
        true
    }

    fn judge(&self, case: &Case, done: &Done) {
        match done {
            Ok(result) if !case.hides() => assert_eq!(*result, self.expected),
            Ok(_) => {}
            Err(why) => {
                assert!(!why.trim().is_empty() && !why.contains("panicked"), "{why}");
                assert!(!case.must_succeed(), "one more try would have done: {why}");
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
        if command.name != "init" && command.name != "key-passwd" {
            world.assert_valid(left, &trees, number);
        }
        let again = (command.run)(world, &(Arc::new(left.clone()) as Arc<dyn Backend>));
        assert_eq!(
            again.as_deref(),
            Ok(self.expected.as_str()),
            "without faults"
        );
        (command.holds)(world, left);
    }
}

/// What a command begins with.
fn base(world: &World, command: &Command) -> MemoryBackend {
    match command.name {
        "init" => MemoryBackend::new(),
        _ => world.backend.fork(),
    }
}

/// Runs cases of one command: all, some by a seed, or the one that the environment names.
fn meets_faults(name: &str) {
    let command = COMMANDS.iter().find(|command| command.name == name);
    let command = command.expect("a command of the table");
    let world = World::new();
    let matrix = Matrix::new(&world, command);
    if let Ok(text) = std::env::var(CASE_VARIABLE) {
        let case: Case = text.parse().expect(CASE_VARIABLE);
        if case.command == name {
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
    let mut number = 0;
    while soak() || injected < CASES {
        if cases.is_empty() {
            break;
        }
        let case = cases.swap_remove(random.index(cases.len()));
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
    unlock_meets_faults "unlock"
    cat_meets_faults "cat"
    dump_meets_faults "dump"
    diff_meets_faults "diff"
    find_meets_faults "find"
    stats_meets_faults "stats"
}

//! Prune on machines whose clocks are wrong, or are set while it runs.
//! None of them takes what is needed.

use std::sync::Arc;

use lifeboat_repo::backend::MemoryBackend;
use lifeboat_repo::prune::{Look, Removed};
use lifeboat_repo::{Index, PackListing, RepoError, Repository};
use lifeboat_testkit::replay::Note;

use crate::world::*;

/// A repository with a snapshot and packs that none needs, marked by a clock that shows this hour; and the index of a
/// writer without locks that began before. Gives how many packs were marked.
fn marked_at(hour: i64) -> (Arc<Repository>, Index, u64) {
    let repository = init(MemoryBackend::new());
    back_up(&repository, &blobs(0..10));
    let waste = back_up(&repository, &blobs(100..120));
    let known = index(&repository, PackListing::Compare).unwrap();
    repository.remove_snapshot(waste).unwrap();
    let (_, removed) = prune(&repository, options(), at(hour)).unwrap();
    assert!(removed.marked > 1 && removed.deleted == 0, "{removed:?}");
    (repository, known, removed.marked)
}

fn is_behind(pruned: Result<(Look, Removed), RepoError>) -> bool {
    matches!(pruned, Err(RepoError::ClockBehind { .. }))
}

#[test]
fn marks_of_a_clock_that_is_a_little_wrong_wait_about_as_long() {
    // Hours by which the other clock is ahead, and when by ours the packs go: 23 hours after the mark, or after the first
    // prune that finds the mark in the future.
    for (ahead, goes_at) in [(2, 24), (1, 24), (0, 23), (-2, 21)] {
        let _note = Note::new(format!("a clock that is {ahead} hours ahead"));
        let (repository, _, marked) = marked_at(ahead);
        for hour in [1, goes_at - 1, goes_at] {
            let (_, removed) = prune(&repository, options(), at(hour)).unwrap();
            let expected = if hour < goes_at { 0 } else { marked };
            assert_eq!(removed.deleted, expected, "at hour {hour}");
            assert_sound(&repository);
        }
    }
}

#[test]
fn clocks_that_contradict_each_other_are_named_and_take_nothing() {
    // Of a clock that is ahead: whose is wrong, nobody knows.
    let (repository, _, marked) = marked_at(40);
    for hour in [1, 23, 38] {
        assert!(is_behind(prune(&repository, options(), at(hour))), "{hour}");
        assert_sound(&repository);
    }
    for (hour, deleted) in [(39, 0), (61, 0), (62, marked)] {
        let (_, removed) = prune(&repository, options(), at(hour)).unwrap();
        assert_eq!(removed.deleted, deleted, "at hour {hour}");
        assert_sound(&repository);
    }
    // By a clock that is behind the newest snapshot.
    let (repository, _, _) = marked_at(0);
    for hour in [-3, -40, -400_000] {
        assert!(is_behind(prune(&repository, options(), at(hour))), "{hour}");
        assert_sound(&repository);
    }
}

#[test]
fn a_mark_takes_nothing_that_is_needed_by_then() {
    for ahead in [-2, -1, 0, 1] {
        let _note = Note::new(format!("a clock that is {ahead} hours ahead"));
        let (repository, known, _) = marked_at(ahead);
        write(&repository, known, &blobs(100..110)).unwrap();
        let (_, removed) = prune(&repository, options(), at(0)).unwrap();
        assert!(removed.recovered > 0, "{removed:?}");
        assert_sound(&repository);
        assert_end(&repository, &blobs((0..10).chain(100..110)), 1);
    }
}

#[test]
fn a_clock_that_is_set_while_a_prune_runs_decides_by_its_last_time() {
    for (times, is_due) in [([30, 3], false), ([3, 30], true), ([30, -30], false)] {
        let _note = Note::new(format!("set from hour {} to {}", times[0], times[1]));
        let (repository, _, marked) = marked_at(0);
        let pruned = prune_by(&repository, options(), times.map(at));
        if times[1] < 0 {
            assert!(is_behind(pruned));
        } else {
            let (_, removed) = pruned.unwrap();
            assert_eq!(removed.deleted, if is_due { marked } else { 0 });
        }
        assert_sound(&repository);
        assert_end(&repository, &blobs(0..10), 31);
    }
}

//! Prune on machines whose clocks are wrong, or are set while it runs.
//! None of them takes what is needed.

use std::sync::Arc;

use lifeboat_repo::backend::MemoryBackend;
use lifeboat_repo::{Index, PackListing, Repository};
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

#[test]
fn marks_of_a_clock_that_is_ahead_begin_anew_and_those_of_one_that_is_behind_wait_less() {
    // Hours by which the other clock is ahead, and when by ours the packs go: 23 hours after the mark, or after the first
    // prune that finds the mark in the future.
    for (ahead, goes_at) in [(40, 24), (2, 24), (1, 24), (0, 23), (-2, 21), (-22, 1)] {
        let _note = Note::new(format!("a clock that is {ahead} hours ahead"));
        let (repository, _, marked) = marked_at(ahead);
        for hour in [1, goes_at - 1, goes_at] {
            let (_, removed) = prune(&repository, options(), at(hour)).unwrap();
            let expected = if hour < goes_at { 0 } else { marked };
            assert_eq!(removed.deleted, expected, "at hour {hour}");
            assert_sound(&repository);
            if removed.deleted > 0 {
                break;
            }
        }
    }
}

#[test]
fn a_mark_that_a_clock_made_due_takes_nothing_that_is_needed_by_then() {
    // Nothing in the repository says that the clock was behind, so its marks are due at once: beside a writer without locks
    // they protect no more than `--instant-delete`. What has its snapshot by then is kept all the same.
    for ahead in [-40, -23, -1, 0, 1, 40] {
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
        let (_, removed) = prune_by(&repository, options(), times.map(at)).unwrap();
        assert_eq!(removed.deleted, if is_due { marked } else { 0 });
        assert_sound(&repository);
        assert_end(&repository, &blobs(0..10), 31);
    }
}

//! Work at once: the same on many things, until one fails, or two different things.
//! It must never begin another piece when one has failed or somebody wishes to stop.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use lifeboat_flow::Cancel;

use crate::RepoError;

/// Does the work on each item with so many threads, and gives the number of items.
///
/// # Errors
/// The first failure, or that somebody wishes to stop.
pub(crate) fn at_once<T: Sync>(
    threads: usize,
    items: &[T],
    cancel: &Cancel,
    work: impl Fn(&T) -> Result<(), RepoError> + Sync,
) -> Result<usize, RepoError> {
    let work = |(): &mut (), number: usize| {
        cancel.check()?;
        items.get(number).map_or(Ok(()), &work)
    };
    each_number(threads, items.len(), || (), work)?;
    Ok(items.len())
}

/// Does the work on each number below `count` with so many threads, each of which keeps what `begin` gives it.
///
/// # Errors
/// The first failure; no number is given out after it.
pub fn each_number<S, E: Send>(
    threads: usize,
    count: usize,
    begin: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1).min(count) {
            scope.spawn(|| {
                let mut kept = begin();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    if let Err(error) = work(&mut kept, number) {
                        next.store(count, Ordering::Relaxed);
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        failed.get_or_insert(error);
                        return;
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    failed
        .unwrap_or_else(PoisonError::into_inner)
        .map_or(Ok(()), Err)
}

/// Does two different things at once.
pub fn both<A: Send, B>(one: impl FnOnce() -> A + Send, other: impl FnOnce() -> B) -> (A, B) {
    std::thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        let one = one.join();
        (
            one.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            other,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_done_or_the_first_failure_told() {
        let items: Vec<usize> = (0..100).collect();
        let (cancel, sum) = (Cancel::new(), AtomicUsize::new(0));
        let add = |item: &usize| {
            sum.fetch_add(*item, Ordering::Relaxed);
            Ok(())
        };
        assert_eq!(at_once(7, &items, &cancel, add).unwrap(), 100);
        assert_eq!(sum.load(Ordering::Relaxed), 4950);
        let fails = |item: &usize| match item {
            3 => Err(RepoError::WriterFailed("three".into())),
            _ => Ok(()),
        };
        let error = at_once(1, &items, &cancel, fails).unwrap_err();
        assert!(matches!(error, RepoError::WriterFailed(why) if why == "three"));
        cancel.cancel();
        assert!(at_once(2, &items, &cancel, add).is_err());
        assert_eq!(sum.load(Ordering::Relaxed), 4950, "nothing more was begun");
    }
}

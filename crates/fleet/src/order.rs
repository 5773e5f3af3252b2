//! Whether the apps can be recovered one after the other, as their `after` says.
//! It never reports one cycle twice, nor takes longer than the file is long.

use std::collections::HashMap;

use crate::app::App;
use crate::key_path;
use crate::problems::Problems;

/// Where a walk along `after` has been.
#[derive(Clone, Copy, PartialEq)]
enum Mark {
    /// It can be recovered, or belongs to an earlier walk.
    Done,
    /// It waits for an app that waits too.
    Waits,
    /// The walk of this number came through.
    Walk(usize),
}

/// Notes each cycle, with the apps in it.
pub(crate) fn check(apps: &[App], problems: &mut Problems) {
    let names = apps.iter().enumerate();
    let index: HashMap<&str, usize> = names
        .map(|(at, app)| (app.name.value.as_str(), at))
        .collect();
    let mut marks = waiting(apps, &index);
    // Each that waits has one to wait for that waits too, so that a walk ends where it, or another, has been.
    let next = |at: usize, marks: &[Mark]| -> Option<(usize, usize)> {
        let after = apps.get(at)?.after.iter().enumerate();
        let mut after = after.filter_map(|(position, name)| {
            let before = *index.get(name.value.as_str())?;
            (marks.get(before).copied()? != Mark::Done).then_some((position, before))
        });
        after.next()
    };
    for first in 0..apps.len() {
        if marks.get(first) != Some(&Mark::Waits) {
            continue;
        }
        let mut way: Vec<(usize, usize)> = Vec::new();
        let mut at = first;
        while marks.get(at) == Some(&Mark::Waits) {
            let Some((position, before)) = next(at, &marks) else {
                break;
            };
            way.push((at, position));
            if let Some(mark) = marks.get_mut(at) {
                *mark = Mark::Walk(first);
            }
            at = before;
        }
        if marks.get(at) == Some(&Mark::Walk(first)) {
            let cycle = way.iter().skip_while(|(other, _)| *other != at);
            report(apps, cycle.copied().collect(), problems);
        }
    }
}

/// Which apps wait, directly or not, for themselves.
fn waiting(apps: &[App], index: &HashMap<&str, usize>) -> Vec<Mark> {
    let mut waiters: Vec<Vec<usize>> = vec![Vec::new(); apps.len()];
    let mut missing: Vec<usize> = vec![0; apps.len()];
    for (at, app) in apps.iter().enumerate() {
        let before = app.after.iter();
        for before in before.filter_map(|name| index.get(name.value.as_str())) {
            if let (Some(waiters), Some(missing)) = (waiters.get_mut(*before), missing.get_mut(at))
            {
                waiters.push(at);
                *missing += 1;
            }
        }
    }
    let mut marks = vec![Mark::Waits; apps.len()];
    let free = missing
        .iter()
        .enumerate()
        .filter(|(_, missing)| **missing == 0);
    let mut free: Vec<usize> = free.map(|(at, _)| at).collect();
    while let Some(at) = free.pop() {
        if let Some(mark) = marks.get_mut(at) {
            *mark = Mark::Done;
        }
        for waiter in waiters.get(at).into_iter().flatten() {
            if let Some(missing) = missing.get_mut(*waiter) {
                *missing -= 1;
                if *missing == 0 {
                    free.push(*waiter);
                }
            }
        }
    }
    marks
}

/// Each app of the cycle comes with the place in its `after` that leads on.
fn report(apps: &[App], mut cycle: Vec<(usize, usize)>, problems: &mut Problems) {
    let begins = cycle.iter().enumerate().min_by_key(|(_, (app, _))| *app);
    let begins = begins.map_or(0, |(position, _)| position);
    cycle.rotate_left(begins);
    let around = cycle.iter().chain(cycle.first());
    let names: Vec<&str> = around
        .filter_map(|(at, _)| Some(apps.get(*at)?.name.value.as_str()))
        .collect();
    let first = cycle.first();
    let Some((app, position)) = first.and_then(|(at, position)| Some((apps.get(*at)?, *position)))
    else {
        return;
    };
    let named = app.after.get(position);
    let spot = named.map_or(app.name.spot, |name| name.spot);
    let path = key_path::below(&key_path::below("apps", &app.name.value), "after");
    let what = format!("these apps wait for each other: {}", names.join(" → "));
    let hint = "one of them must be recovered first: remove an `after`".to_owned();
    problems.add(spot, key_path::item(&path, position), what, hint);
}

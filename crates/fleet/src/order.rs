//! Whether the apps can be recovered one after the other, as their `after` says.
//! It never reports one cycle twice.

use std::collections::HashMap;

use crate::app::App;
use crate::key_path;
use crate::problems::Problems;

/// Notes each cycle, with the apps in it.
pub(crate) fn check(apps: &[App], problems: &mut Problems) {
    let index: HashMap<&str, usize> = apps
        .iter()
        .enumerate()
        .map(|(at, app)| (app.name.value.as_str(), at))
        .collect();
    // Takes out whatever waits for nobody, until only cycles are left, and what waits for them.
    let mut left: Vec<bool> = vec![true; apps.len()];
    let waits = |at: usize, left: &[bool]| -> Option<(usize, usize)> {
        let after = apps.get(at)?.after.iter().enumerate();
        let found =
            after.filter_map(|(position, name)| Some((position, *index.get(name.value.as_str())?)));
        let mut found = found.filter(|(_, before)| left.get(*before).copied().unwrap_or(false));
        found.next()
    };
    loop {
        let free: Vec<usize> = (0..apps.len())
            .filter(|at| left.get(*at).copied().unwrap_or(false) && waits(*at, &left).is_none())
            .collect();
        if !free.is_empty() {
            free.into_iter().for_each(|at| set(&mut left, at));
            continue;
        }
        let Some(first) = left.iter().position(|left| *left) else {
            return;
        };
        // Each that is left waits for one that is left, so that the way leads back to itself.
        let mut way: Vec<usize> = Vec::new();
        let mut at = first;
        while !way.contains(&at) {
            way.push(at);
            let Some((_, before)) = waits(at, &left) else {
                return;
            };
            at = before;
        }
        let mut cycle: Vec<usize> = way.into_iter().skip_while(|other| *other != at).collect();
        let begins = cycle
            .iter()
            .enumerate()
            .min_by_key(|(_, app)| **app)
            .map_or(0, |(position, _)| position);
        cycle.rotate_left(begins);
        report(apps, &cycle, &waits, &left, problems);
        cycle.into_iter().for_each(|at| set(&mut left, at));
    }
}

fn set(left: &mut [bool], at: usize) {
    if let Some(is_left) = left.get_mut(at) {
        *is_left = false;
    }
}

fn report(
    apps: &[App],
    cycle: &[usize],
    waits: &impl Fn(usize, &[bool]) -> Option<(usize, usize)>,
    left: &[bool],
    problems: &mut Problems,
) {
    let around = cycle.iter().chain(cycle.first());
    let names: Vec<&str> = around
        .filter_map(|at| Some(apps.get(*at)?.name.value.as_str()))
        .collect();
    let Some(app) = cycle.first().and_then(|at| apps.get(*at)) else {
        return;
    };
    let position = cycle
        .first()
        .and_then(|at| waits(*at, left))
        .map_or(0, |(position, _)| position);
    let spot = app
        .after
        .get(position)
        .map_or(app.name.spot, |name| name.spot);
    let path = key_path::below(&key_path::below("apps", &app.name.value), "after");
    let what = format!("these apps wait for each other: {}", names.join(" → "));
    let hint = "one of them must be recovered first: remove an `after`".to_owned();
    problems.add(spot, key_path::item(&path, position), what, hint);
}

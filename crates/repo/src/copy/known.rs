//! Which snapshots the destination has already: restic's rule, so that both programs skip what either copied.
//! It must never take two snapshots for copies of each other that differ in anything but parent and origin.

use std::collections::HashMap;

use lifeboat_format::{Id, Snapshot};

/// Snapshots that are to be copied, and those that were, each with its ID in the destination.
pub(super) type Split = (Vec<(Id, Snapshot)>, Vec<(Id, Id)>);

/// Takes those apart that the destination has.
pub(super) fn split(selected: Vec<(Id, Snapshot)>, there: &[(Id, Snapshot)]) -> Split {
    // By the ID that a chain of copies began with, and by its own: a clone has the very same snapshots.
    let mut by_origin: HashMap<Id, Vec<&(Id, Snapshot)>> = HashMap::new();
    for known in there {
        by_origin.entry(known.0).or_default().push(known);
        if let Some(original) = known.1.original {
            by_origin.entry(original).or_default().push(known);
        }
    }
    let mut split = Split::default();
    for (id, snapshot) in selected {
        let origin = snapshot.original.unwrap_or(id);
        let candidates = by_origin.get(&origin).map(Vec::as_slice);
        let mut candidates = candidates.unwrap_or_default().iter();
        match candidates.find(|known| is_similar(&known.1, &snapshot)) {
            Some((there, _)) => split.1.push((id, *there)),
            None => split.0.push((id, snapshot)),
        }
    }
    split
}

fn is_similar(one: &Snapshot, other: &Snapshot) -> bool {
    let has_all = |all: &[String], wanted: &[String]| wanted.iter().all(|item| all.contains(item));
    one.time.unix_nanoseconds() == other.time.unix_nanoseconds()
        && one.tree == other.tree
        && one.hostname == other.hostname
        && one.username == other.username
        && (one.uid, one.gid) == (other.uid, other.gid)
        && one.excludes == other.excludes
        && one.paths.len() == other.paths.len()
        && has_all(&one.paths, &other.paths)
        && one.tags.len() == other.tags.len()
        && has_all(&one.tags, &other.tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change<'a> = &'a dyn Fn(&mut Snapshot);

    fn snapshot(change: impl FnOnce(&mut Snapshot)) -> Snapshot {
        let json = format!(
            r#"{{"time":"2026-01-02T03:04:05+01:00","tree":"{}","paths":["/a","/b"],"hostname":"h","tags":["x","y"]}}"#,
            Id::of(b"tree")
        );
        let mut snapshot = Snapshot::from_json(json.as_bytes()).unwrap();
        change(&mut snapshot);
        snapshot
    }

    #[test]
    fn a_copy_is_known_by_where_it_began() {
        let [first, copied, again] = [b"1", b"2", b"3"].map(|name| Id::of(name));
        let source = vec![(first, snapshot(|_| {}))];
        let copy = |original| snapshot(|s| s.original = original);
        for (there, known) in [
            (vec![(copied, copy(Some(first)))], Some(copied)),
            (vec![(first, copy(None))], Some(first)),
            (vec![(copied, copy(None))], None),
            (vec![(copied, copy(Some(again)))], None),
        ] {
            let (to_copy, skipped) = split(source.clone(), &there);
            assert_eq!(skipped.first().map(|(_, there)| *there), known);
            assert_eq!(to_copy.len(), usize::from(known.is_none()));
        }
        // A copy of a copy keeps the first ID.
        let source = vec![(copied, copy(Some(first)))];
        let (to_copy, skipped) = split(source, &[(again, copy(Some(first)))]);
        assert_eq!((to_copy.len(), skipped), (0, vec![(copied, again)]));
    }

    #[test]
    fn what_was_changed_since_is_another_snapshot() {
        let [first, copied] = [b"1", b"2"].map(|name| Id::of(name));
        let of = |change: Change<'_>| {
            snapshot(|s| {
                s.original = Some(first);
                change(s);
            })
        };
        let there = [(copied, of(&|_| {}))];
        let changes: [(Change<'_>, bool); 9] = [
            (&|s| s.time = "2026-01-02T02:04:05Z".parse().unwrap(), true),
            (&|s| s.paths.reverse(), true),
            (&|s| s.tags.reverse(), true),
            (&|s| s.parent = Some(first), true),
            (&|s| s.tags.push("z".into()), false),
            (&|s| s.hostname = "other".into(), false),
            (&|s| s.tree = first, false),
            (&|s| s.excludes.push("*.tmp".into()), false),
            (&|s| s.uid = 7, false),
        ];
        for (at, (change, same)) in changes.iter().enumerate() {
            let (_, skipped) = split(vec![(first, of(*change))], &there);
            assert_eq!(skipped.len(), usize::from(*same), "change {at}");
        }
    }
}

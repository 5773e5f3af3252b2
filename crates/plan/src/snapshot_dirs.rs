//! The directories that a mounted repository shows: snapshots by ID, time, host and tag, as templates say.
//! It must never give two snapshots one name, nor a name that leads out of its directory.

use std::collections::BTreeMap;

use jiff::tz::{Offset, TimeZone};
use lifeboat_format::{Id, Timestamp};

/// The paths that are shown if nobody says otherwise (restic's).
pub const PATH_TEMPLATES: [&str; 4] = ["ids/%i", "snapshots/%T", "hosts/%h/%T", "tags/%t/%T"];
/// How a time is shown if nobody says otherwise: RFC 3339, in the zone that the snapshot was made in (restic's).
pub const TIME_TEMPLATE: &str = "2006-01-02T15:04:05Z07:00";
/// Entries of one snapshot at most: a template with tags makes one for each.
const PATHS_PER_SNAPSHOT_MAX: usize = 1000;

/// A snapshot, as far as its names go.
#[derive(Clone, Debug)]
pub struct NamedSnapshot<'a> {
    /// Its ID.
    pub id: Id,
    /// Its time.
    pub time: Timestamp,
    /// Its host.
    pub hostname: &'a str,
    /// Its user.
    pub username: &'a str,
    /// Its tags.
    pub tags: &'a [String],
}

/// What is at a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotDir {
    /// A directory of more names; its number in [`SnapshotDirs`].
    Names(usize),
    /// The root of a snapshot.
    Snapshot(Id),
    /// A symbolic link to a name beside it.
    Link(String),
}

/// A tree of names with snapshots at its leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotDirs {
    dirs: Vec<BTreeMap<String, SnapshotDir>>,
}

/// A template can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the template {template:?} can't be used: {why}")]
pub struct TemplateError {
    template: String,
    why: String,
}

impl SnapshotDirs {
    /// The number of the top directory.
    pub const TOP: usize = 0;

    /// Names for snapshots, which come from old to new. `%i` is the short ID, `%I` the whole one, `%h` the host, `%u`
    /// the user, `%t` each tag, `%T` the time; where that is the end of a path, `latest` beside it leads to the newest.
    /// The time's template is one of strftime, or an example of 2006-01-02 15:04:05 as restic wants it.
    ///
    /// # Errors
    /// [`TemplateError`] for a template that names nothing, or that strftime does not know.
    pub fn build(
        snapshots: &[NamedSnapshot<'_>],
        paths: &[&str],
        time_template: &str,
    ) -> Result<Self, TemplateError> {
        let mut all = Self {
            dirs: vec![BTreeMap::new()],
        };
        for template in paths {
            let parts = parts(template)?;
            // The directories before the first variable are there even without snapshots.
            let mut dir = Self::TOP;
            for part in parts.iter().take_while(|part| !part.contains('%')) {
                dir = all.enter(dir, part);
            }
            for snapshot in snapshots {
                let time =
                    time_text(snapshot.time, time_template).map_err(|why| TemplateError {
                        template: time_template.to_owned(),
                        why,
                    })?;
                all.add(Self::TOP, &parts, snapshot, &time);
            }
        }
        Ok(all)
    }

    /// The names in a directory.
    #[must_use]
    pub fn names(&self, dir: usize) -> Option<&BTreeMap<String, SnapshotDir>> {
        self.dirs.get(dir)
    }

    /// The number of directories.
    #[must_use]
    pub fn len(&self) -> usize {
        self.dirs.len()
    }

    /// Whether there is no name at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names(Self::TOP).is_none_or(BTreeMap::is_empty)
    }

    fn add(&mut self, top: usize, parts: &[String], snapshot: &NamedSnapshot<'_>, time: &str) {
        let mut at = vec![top];
        let Some((last, above)) = parts.split_last() else {
            return;
        };
        for part in above {
            at = filled(part, snapshot, time, &at)
                .into_iter()
                .map(|(dir, name)| self.enter(dir, &name))
                .collect();
        }
        for (dir, name) in filled(last, snapshot, time, &at) {
            let is_latest = last.ends_with("%T");
            let Some(names) = self.dirs.get_mut(dir) else {
                continue;
            };
            let free = free_name(names, &name);
            names.insert(free.clone(), SnapshotDir::Snapshot(snapshot.id));
            if is_latest {
                let stem = last.strip_suffix("%T").unwrap_or_default();
                for (_, stem) in filled(stem, snapshot, time, &[dir]) {
                    let link = if stem == "_" {
                        "latest".into()
                    } else {
                        format!("{stem}latest")
                    };
                    // Snapshots come from old to new, so that the last one to be linked is the newest.
                    if !matches!(
                        names.get(&link),
                        Some(SnapshotDir::Snapshot(_) | SnapshotDir::Names(_))
                    ) {
                        names.insert(link, SnapshotDir::Link(free.clone()));
                    }
                }
            }
        }
    }

    /// The directory of this name, made if it is not there; a snapshot of that name gives way to it.
    fn enter(&mut self, dir: usize, name: &str) -> usize {
        let next = self.dirs.len();
        let Some(names) = self.dirs.get_mut(dir) else {
            return dir;
        };
        if let Some(SnapshotDir::Names(number)) = names.get(name) {
            return *number;
        }
        let free = free_name(names, name);
        names.insert(free, SnapshotDir::Names(next));
        self.dirs.push(BTreeMap::new());
        next
    }
}

fn parts(template: &str) -> Result<Vec<String>, TemplateError> {
    let parts: Vec<String> = template
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .map(str::to_owned)
        .collect();
    let why = if parts.is_empty() {
        "it is empty"
    } else if parts.iter().any(|part| part == "..") {
        "`..` would lead out of the mount"
    } else if !parts.last().is_some_and(|last| last.contains('%')) {
        "its last part must hold one of %i, %I, %h, %u, %t, %T"
    } else {
        return Ok(parts);
    };
    Err(TemplateError {
        template: template.to_owned(),
        why: why.to_owned(),
    })
}

/// One part of a template with its variables filled in, below each of these directories. Several tags give several
/// names, no tag none.
fn filled(
    part: &str,
    snapshot: &NamedSnapshot<'_>,
    time: &str,
    dirs: &[usize],
) -> Vec<(usize, String)> {
    let mut names = vec![String::new()];
    let mut chars = part.chars();
    while let Some(char) = chars.next() {
        let values: Vec<String> = match char {
            '%' => match chars.next() {
                Some('i') => vec![snapshot.id.short()],
                Some('I') => vec![snapshot.id.to_string()],
                Some('h') => vec![snapshot.hostname.to_owned()],
                Some('u') => vec![snapshot.username.to_owned()],
                Some('t') => snapshot.tags.iter().map(|tag| harmless(tag)).collect(),
                Some('T') => vec![time.to_owned()],
                Some(other) => vec![other.to_string()],
                None => vec!["%".to_owned()],
            },
            plain => vec![plain.to_string()],
        };
        names = names
            .iter()
            .flat_map(|name| values.iter().map(move |value| format!("{name}{value}")))
            .take(PATHS_PER_SNAPSHOT_MAX)
            .collect();
    }
    dirs.iter()
        .flat_map(|dir| names.iter().map(|name| (*dir, harmless(name))))
        .take(PATHS_PER_SNAPSHOT_MAX)
        .collect()
}

/// A name that is one: without slashes, not empty, neither of the two that mean directories.
fn harmless(name: &str) -> String {
    match name {
        "" | "." => "_".to_owned(),
        ".." => "__".to_owned(),
        name => name.replace(['/', '\0'], "_"),
    }
}

fn free_name(names: &BTreeMap<String, SnapshotDir>, name: &str) -> String {
    // A link makes way: `latest` is set anew with each snapshot.
    let is_taken = |name: &str| {
        matches!(
            names.get(name),
            Some(SnapshotDir::Snapshot(_) | SnapshotDir::Names(_))
        )
    };
    if !is_taken(name) {
        return name.to_owned();
    }
    let mut number = 1u32;
    loop {
        let candidate = format!("{name}-{number}");
        if !is_taken(&candidate) {
            return candidate;
        }
        number += 1;
    }
}

/// What restic's users write for a time is an example, as Go wants it.
fn strftime_of(template: &str, is_utc: bool) -> String {
    if template.contains('%') {
        return template.to_owned();
    }
    let zone = if is_utc { "Z" } else { "%:z" };
    let examples = [
        ("2006", "%Y"),
        ("January", "%B"),
        ("Jan", "%b"),
        ("Monday", "%A"),
        ("Mon", "%a"),
        ("Z07:00", zone),
        ("-07:00", "%:z"),
        ("-0700", "%z"),
        ("MST", "%Z"),
        ("01", "%m"),
        ("02", "%d"),
        ("15", "%H"),
        ("03", "%I"),
        ("04", "%M"),
        ("05", "%S"),
        ("06", "%y"),
    ];
    let mut out = String::new();
    let mut rest = template;
    while let Some(char) = rest.chars().next() {
        match examples
            .iter()
            .find(|(example, _)| rest.starts_with(example))
        {
            Some((example, meaning)) => {
                out.push_str(meaning);
                rest = rest.get(example.len()..).unwrap_or_default();
            }
            None => {
                out.push(char);
                rest = rest.get(char.len_utf8()..).unwrap_or_default();
            }
        }
    }
    out
}

fn time_text(time: Timestamp, template: &str) -> Result<String, String> {
    let time = time.confined();
    let offset = Offset::from_seconds(time.offset_seconds).unwrap_or(Offset::UTC);
    let instant = jiff::Timestamp::new(time.seconds, i32::try_from(time.nanoseconds).unwrap_or(0))
        .map_err(|error| error.to_string())?;
    let zoned = instant.to_zoned(TimeZone::fixed(offset));
    let template = strftime_of(template, time.offset_seconds == 0);
    jiff::fmt::strtime::format(template, &zoned).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(templates: &[&str], time: &str) -> Vec<String> {
        let tags = [
            vec![],
            vec!["nightly".into(), "a/b".into()],
            vec!["..".into()],
        ];
        let named = |number: u8, time: &str, tags| NamedSnapshot {
            id: Id([number; 32]),
            time: time.parse().unwrap(),
            hostname: if number == 3 { "other" } else { "vm" },
            username: "root",
            tags,
        };
        let snapshots = [
            named(1, "2026-11-20T01:02:03+01:00", &tags[0]),
            named(2, "2026-11-21T01:02:03+01:00", &tags[1]),
            named(3, "2026-11-21T00:02:03Z", &tags[2]),
        ];
        let dirs = SnapshotDirs::build(&snapshots, templates, time).unwrap();
        let mut paths = Vec::new();
        walk(&dirs, SnapshotDirs::TOP, "", &mut paths);
        paths
    }

    fn walk(dirs: &SnapshotDirs, dir: usize, above: &str, paths: &mut Vec<String>) {
        for (name, what) in dirs.names(dir).unwrap() {
            match what {
                SnapshotDir::Names(number) => {
                    walk(dirs, *number, &format!("{above}{name}/"), paths)
                }
                SnapshotDir::Snapshot(id) => paths.push(format!("{above}{name} = {}", id.0[0])),
                SnapshotDir::Link(to) => paths.push(format!("{above}{name} -> {to}")),
            }
        }
    }

    #[test]
    fn the_usual_directories_are_restics() {
        let paths = build(&PATH_TEMPLATES, TIME_TEMPLATE);
        let time = "2026-11-21T01:02:03+01:00";
        assert_eq!(
            paths,
            [
                "hosts/other/2026-11-21T00:02:03Z = 3".to_owned(),
                "hosts/other/latest -> 2026-11-21T00:02:03Z".to_owned(),
                "hosts/vm/2026-11-20T01:02:03+01:00 = 1".to_owned(),
                format!("hosts/vm/{time} = 2"),
                format!("hosts/vm/latest -> {time}"),
                "ids/01010101 = 1".to_owned(),
                "ids/02020202 = 2".to_owned(),
                "ids/03030303 = 3".to_owned(),
                "snapshots/2026-11-20T01:02:03+01:00 = 1".to_owned(),
                "snapshots/2026-11-21T00:02:03Z = 3".to_owned(),
                format!("snapshots/{time} = 2"),
                "snapshots/latest -> 2026-11-21T00:02:03Z".to_owned(),
                "tags/__/2026-11-21T00:02:03Z = 3".to_owned(),
                "tags/__/latest -> 2026-11-21T00:02:03Z".to_owned(),
                format!("tags/a_b/{time} = 2"),
                format!("tags/a_b/latest -> {time}"),
                format!("tags/nightly/{time} = 2"),
                format!("tags/nightly/latest -> {time}"),
            ]
        );
    }

    #[test]
    fn templates_are_the_users() {
        assert_eq!(
            build(&["%h/%u-%T"], "2006-01-02_15.04"),
            [
                "other/root-2026-11-21_00.02 = 3",
                "other/root-latest -> root-2026-11-21_00.02",
                "vm/root-2026-11-20_01.02 = 1",
                "vm/root-2026-11-21_01.02 = 2",
                "vm/root-latest -> root-2026-11-21_01.02",
            ]
        );
        assert_eq!(
            build(&["%T"], "%H"),
            ["00 = 3", "01 = 1", "01-1 = 2", "latest -> 00"],
            "one name for two snapshots gets a number"
        );
        assert_eq!(
            build(&["%I"], "%F").first().map(String::len),
            Some(64 + " = 1".len())
        );
        for wrong in ["", "/", "a/../%i", "a/b"] {
            let built = SnapshotDirs::build(&[], &[wrong], TIME_TEMPLATE);
            assert!(built.is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn empty_repositories_show_the_directories() {
        let dirs = SnapshotDirs::build(&[], &PATH_TEMPLATES, TIME_TEMPLATE).unwrap();
        let names: Vec<&String> = dirs.names(SnapshotDirs::TOP).unwrap().keys().collect();
        assert_eq!(names, ["hosts", "ids", "snapshots", "tags"]);
    }
}

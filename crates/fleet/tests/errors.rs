//! Proves what a person reads about each fault of a fleet file, with its place, its key and what to do.

use lifeboat_fleet::{ERRORS_MAX, Fleet};

/// A file that is fine, to which each case adds.
const HEAD: &str = "version: 1
name: home
repositories:
  nas: { url: /srv/restic, password: { file: /run/secrets/nas } }
  far: { url: \"s3:https://s3.example.net/b/{app}\", password: { env: FAR } }
policies:
  std: { schedule: daily, keep: { daily: 7 } }
  win: { schedule: daily, keep: { window: 14d } }
";

/// Cases that stand for themselves, and those that go on after the head (with `+` before them).
const CASES: &[&str] = &[
    "",
    "a: b: c\n",
    "[1, 2]\n",
    "version: 2\nnom: x\n",
    "version: 0\n",
    "version: \"1\"\n",
    "name: home\n",
    "version: 1\nname: Home Lab\n",
    "version: 1\nname: 5\n",
    "version: 1\nname: a\nname: b\n",
    "version: 1\nname: a\nnotfy: []\n---\nversion: 1\n",
    "version: 1\nname: a\n\"line\\nbreak\": 1\n",
    "version: 1\nname: a\ntimezone: Europe/Belrin\n",
    "version: 1\nname: a\ntimezone: CET+1\n",
    "version: 1\nname: a\nrepositories:\n",
    "version: 1\nname: a\nrepositories: { r: { url: /r, password: hunter2 } }\n",
    "version: 1\nname: a\nrepositories: { r: { url: /r, password: { hunter2: x } } }\n",
    "version: 1\nname: a\nrepositories: { r: { url: /r, password: { file: a, env: B } } }\n",
    "version: 1\nname: a\nrepositories: { r: { url: /r, password: { env: \"hunter 2\" } } }\n",
    "version: 1\nname: a\nrepositories: { r: { url: /r, password: {} } }\n",
    "version: 1\nname: a\nrepositories: { r: { url: \"rest:https://u:hunter2@h/\", password: { file: a } } }\n",
    "version: 1\nname: a\nrepositories: { r: { url: \"https://h/\", password: { file: a } } }\n",
    "version: 1\nname: a\nrepositories: { r: { url: \"b2:bucket\", password: { file: a } } }\n",
    "version: 1\nname: a\nrepositories: { r: { url: \"ftp://h\", password: { file: a } } }\n",
    "version: 1\nname: a\nrepositories: { r: { url: \"/r/{ap}\", password: { file: a } } }\n",
    "version: 1\nname: a\nrepositories: { r: { url: /r, password: { file: a }, env: \"AWS=hunter2\" } }\n",
    "version: 1\nname: a\nrepositories: { r: { url: /r, password: { file: a }, env: { AWS_KEY: hunter2 } } }\n",
    "version: 1\nname: a\nrepositories: { r: { url: /r, password: { file: a }, maintenance: { read_data: 0%, prune: nightly }, low_space: 5G } }\n",
    "version: 1\nname: a\nrepositories: { r: { url: /r, password: { file: a } }, s: { url: /r/, password: { file: a } } }\n",
    "version: 1\nname: a\npolicies: { p: { shedule: daily, keep: {} } }\n",
    "version: 1\nname: a\npolicies: { p: { schedule: daily, keep: { daily: 0, weekly: -1, hourly: many, monthly: 1.5 } } }\n",
    "version: 1\nname: a\npolicies: { p: { schedule: \"0 0 30 2 *\", keep: { last: 1 } } }\n",
    "version: 1\nname: a\npolicies: { p: { schedule: every 7h, jitter: often, keep: { within: 3 months, window: 0d } } }\n",
    "version: 1\nname: a\npolicies: { p: { schedule: hourly, jitter: 1h, keep: { last: 1 }, rpo: 2, drill: yearly } }\n",
    "+  cop: { schedule: daily, copies: [ { to: nas, schedule: daily, keep: { last: 1 } }, { to: nas, schedule: daily, keep: { last: 1 } }, { to: nass, schedule: daily } ] }\n",
    "+  cop: { copies: [] }\n",
    "+defaults: { policy: sdt, repositories: [nas, nas, fat] }\n",
    "+apps: { a: {} }\n",
    "+apps: { a/b: { exempt: no } }\n",
    "+apps: { a: { exempt: no }, b: { exempt: false } }\n",
    "+apps: { a: { volumes: { v: { path: /srv/v } } } }\n",
    "version: 1\nname: a\npolicies: { p: { schedule: daily, keep: { last: 1 } } }\napps: { a: { policy: p, volumes: { v: { path: /srv/v } } } }\n",
    "+apps: { a: { policy: std, volumes: { v: { path: /srv/v } }, commands: { v: ls } } }\n",
    "+apps: { a: { policy: win, volumes: { v: { path: /srv/v } } } }\n",
    "+apps: { a: { policy: win, databases: { d: { postgres: \"postgresql://h\", method: dump }, e: { postgres: \"postgresql://h\", wal: false } } } }\n",
    "+apps: { a: { policy: std, volumes: { v: { path: /srv/restic/data }, w: { path: /srv }, x: { path: /proc/1 }, y: { path: / } } } }\n",
    "+apps: { a: { policy: std, volumes: { v: /srv/v, w: { path: /srv/w, exclude: cache/, one_file_system: 1, sqlite: on, guard: true } } } }\n",
    "+apps: { a: { policy: std, databases: { d: { postgres: \"postgresql://u:hunter2@h/d\" }, e: { mysql: \"mysql://h\" }, f: { sqlite: /x.db }, g: { postgress: x } } } }\n",
    "+apps: { a: { policy: std, databases: { d: { postgres: \"host=h\", method: files, wal: true }, e: { postgres: \"postgresql://h\", method: dump, wal: true, data: rel }, f: { postgres: \"postgresql://h\", databases: [x] } } } }\n",
    "+apps: { a: { policy: std, commands: { c: { run: \"\" }, d: { timeout: 1h }, e: 5, f: \"\" } } }\n",
    "+apps: { a: { policy: std, commands: { config.xml: { run: ls, timout: 5m } } } }\n",
    "+apps: { a: { policy: std, commands: { c: ls }, hooks: { before: [ { run: x, on_failure: ignore } ], services: { stop: [w], pause: [w] } } } }\n",
    "+apps: { a: { policy: std, commands: { c: ls }, drill: { expect: { d: select 1 } } } }\n",
    "+apps: { a: { exempt: x, after: [b] }, b: { exempt: x, after: [c, d] }, c: { exempt: x }, d: { exempt: x, after: [a] }, e: { exempt: x, after: [e] } }\n",
    "+apps: { memos: { exempt: x }, b: { exempt: x, after: [memo, zzzzz] } }\n",
    "+apps: { a: { policy: fast, volumes: { v: { path: /srv/v } } } }\n  \n",
    "+  fast: { schedule: daily, keep: { last: 1 }, rpo: 2h }\napps: { a: { policy: fast, volumes: { v: { path: /srv/v } } } }\n",
    "+notify: [ {}, { url: \"gopher://h\" }, { url: \"ntfy://u:hunter2@h/t\" }, { url: \"ntfy://h/t\", run: x }, { url: \"ntfy://\", on: [failures] }, { url: \"https://h/?token=hunter2\" } ]\n",
    "+limits: { captures: 0, upload: 10MB, download: fast }\n",
    "+apps: { a: &x { polcy: std, exempt: y }, b: *x }\n",
];

fn told(case: &str) -> String {
    let text = match case.strip_prefix('+') {
        Some(rest) => format!("{HEAD}{rest}"),
        None => case.to_owned(),
    };
    match Fleet::parse("lifeboat.yaml", &text) {
        Ok(_) => "nothing is wrong".to_owned(),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn each_fault_is_told_with_its_place() {
    let mut all = String::new();
    for case in CASES {
        let error = told(case);
        assert!(!error.contains("hunter"), "a secret is shown: {error}");
        all.push_str(&format!(
            "-- {}\n{error}\n\n",
            case.trim_end().replace('\n', "\n-- ")
        ));
    }
    insta::assert_snapshot!("errors", all);
}

#[test]
fn faults_are_told_in_order_and_not_without_end() {
    let many: String = (0..ERRORS_MAX + 7)
        .map(|at| format!("k{at}: 1\n"))
        .collect();
    let errors = Fleet::parse("f", &format!("version: 1\nname: a\n{many}")).unwrap_err();
    assert_eq!((errors.told.len(), errors.untold), (ERRORS_MAX, 7));
    assert!(errors.told.is_sorted_by_key(|error| error.spot));
    assert!(errors.to_string().ends_with("\nand 7 more"));
}

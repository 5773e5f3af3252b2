//! A directory with a fleet file, what it protects, and its repositories.

use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;

use lifeboat_repo::backend::LocalBackend;
use lifeboat_repo::{Identity, KeyCost, Repository};
use lifeboat_testkit::restic::Said;
use serde_json::Value;

use crate::common::{Place, Program, objects};

/// What opens the repositories of a yard; it must be shown by nothing.
pub const SECRET: &str = "quite-a-secret-of-the-fleet";

/// The head of its file, with two repositories.
pub const HEAD: &str = r#"version: 1
name: home
timezone: UTC
repositories:
  near: { url: near, password: { file: secret } }
  far: { url: far, password: { command: "cat secret" } }
policies:
  chained: { schedule: hourly, jitter: none, keep: { hourly: 24 } }
  apart:
    copies:
      - { to: near, schedule: hourly, jitter: none, keep: { hourly: 24 } }
      - { to: far, schedule: "0 3 * * *", keep: { daily: 7 } }
defaults: { policy: chained, repositories: [near, far] }
"#;

pub struct Yard {
    place: Place,
}

impl Yard {
    /// With this below the head of the file, a volume `assets`, and both repositories.
    pub fn new(apps: &str) -> Self {
        let yard = Self {
            place: Place::empty(),
        };
        fs::write(yard.path("lifeboat.yaml"), format!("{HEAD}{apps}")).unwrap();
        fs::write(yard.path("secret"), format!("{SECRET}\n")).unwrap();
        fs::create_dir(yard.path("assets")).unwrap();
        fs::write(yard.path("assets/one"), vec![7; 100_000]).unwrap();
        fs::write(yard.path("assets/two"), "two").unwrap();
        yard.make("near");
        yard.make("far");
        yard
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path(name)
    }

    /// Makes a repository whose key costs nothing.
    fn make(&self, name: &str) {
        let who = Identity::of_this_process();
        let backend = Arc::new(LocalBackend::new(self.path(name)));
        Repository::init(backend, SECRET.as_bytes(), 2, None, &who, KeyCost::Test).unwrap();
    }

    /// Runs a command on the fleet; variables name another repository with another password.
    pub fn run(&self, command: &str, words: &[&str]) -> Said {
        let elsewhere = self.path("elsewhere");
        let program = Program::ours(&elsewhere);
        let said = program.run_in(command, words).within(&self.path("")).any();
        for text in [&said.text(), &said.stderr] {
            assert!(!text.contains(SECRET), "{text}");
        }
        assert!(!elsewhere.exists());
        said
    }

    /// Starts a command on the fleet.
    pub fn start(&self, command: &str, words: &[&str]) -> Child {
        let program = Program::ours(&self.path("elsewhere"));
        program
            .run_in(command, words)
            .within(&self.path(""))
            .start()
    }

    /// The same, which must end with this status.
    pub fn ends(&self, command: &str, words: &[&str], code: i32) -> Said {
        let said = self.run(command, words);
        assert_eq!(said.code(), code, "{}{}", said.text(), said.stderr);
        said
    }

    /// The steps of a backup: what was done to what, where.
    pub fn steps(&self, words: &[&str], code: i32) -> Vec<Value> {
        let said = self.ends("backup", &[&["--json"], words].concat(), code);
        let is_step = |object: &Value| object["message_type"] == "step";
        objects(&said).into_iter().filter(is_step).collect()
    }

    /// restic on a repository.
    pub fn restic(&self, name: &str) -> Program {
        Program::current(&self.path(name)).with_password(SECRET)
    }

    /// A file of the newest snapshot of a path, as restic gives it.
    pub fn dump(&self, repository: &str, path: &str, file: &str) -> Vec<u8> {
        let words = ["dump", "--host", "home", "--path", path, "latest", file];
        self.restic(repository).run(words).ok().stdout
    }

    /// The newest recovery point of an app.
    pub fn point(&self, repository: &str, app: &str) -> Value {
        let json = self.dump(repository, &format!("/apps/{app}"), "/recovery-point.json");
        serde_json::from_slice(&json).unwrap()
    }
}

/// What a step did, as `memos/assets near captured`.
pub fn told(steps: &[Value]) -> Vec<String> {
    let text = |step: &Value, key: &str| step[key].as_str().unwrap_or_default().to_owned();
    steps
        .iter()
        .map(|step| {
            let [app, member] = ["app", "member"].map(|key| text(step, key));
            let [repository, result] = ["repository", "result"].map(|key| text(step, key));
            format!("{app}/{member} {repository} {result}")
        })
        .collect()
}

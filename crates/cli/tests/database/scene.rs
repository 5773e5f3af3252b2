//! A cluster that archives into a repository of its own user, and what comes back of it: the scene of most proofs.
//! It must never let a restored server start before a test has said how it gets its log.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lifeboat_repo::backend::{BackendOptions, Secret, open};
use lifeboat_repo::{Identity, KeyCost, Repository};
use lifeboat_testkit::postgres::{Cluster, Options, give_away};
use lifeboat_testkit::program::copy_program;
use lifeboat_testkit::restic::{PASSWORD, Said};
use lifeboat_testkit::wait::until;
use rustix::process::{Pid, Signal};

use crate::capture::with_checksums;
use crate::common::{Place, Program, Run};

/// A cluster that archives into a repository of its own user.
pub struct Scene {
    pub cluster: Cluster,
    pub home: PathBuf,
    pub repository: String,
    /// What its captures are called.
    pub name: &'static str,
    /// What a user would set to reach the repository.
    pub variables: Vec<(String, String)>,
}

impl Scene {
    /// With a repository in a directory of the server's user.
    pub fn new() -> Self {
        let (cluster, repository) = Self::made();
        Self::of(cluster, repository)
    }

    /// The same, with a server that archives by this command.
    pub fn archiving(command: impl FnOnce(&Self) -> String) -> Self {
        let (cluster, repository) = Self::made();
        Self::with(cluster, repository, Some(command))
    }

    /// The same, with a server that does not archive by itself.
    pub fn silent() -> Self {
        let (cluster, repository) = Self::made();
        Self::with(cluster, repository, None::<fn(&Self) -> String>)
    }

    fn made() -> (Cluster, String) {
        let place = Place::new();
        let cluster = Cluster::make(with_checksums());
        let home = cluster.home().to_path_buf();
        copy_dir(&place.repository(), &home);
        give_all_away(&home.join("repository"));
        let repository = home.join("repository").display().to_string();
        (cluster, repository)
    }

    /// With a new repository on a server, as `-r` takes it.
    pub fn served(repository: &str) -> Self {
        init(repository, &BackendOptions::default());
        Self::of(Cluster::make(with_checksums()), repository.to_owned())
    }

    /// The same, with a server that does not archive by itself, and what is set to reach the repository.
    pub fn served_silently(repository: &str, variables: &[(&str, &str)]) -> Self {
        let mut options = BackendOptions::default();
        for (name, value) in variables {
            let value = Secret::new(*value);
            options.variables.insert((*name).to_owned(), value);
        }
        init(repository, &options);
        let cluster = Cluster::make(with_checksums());
        let scene = Self::with(cluster, repository.to_owned(), None::<fn(&Self) -> String>);
        let variables = variables.iter();
        Self {
            variables: variables
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..scene
        }
    }

    /// With a repository that is there, for a cluster whose server does not run yet.
    pub fn of(cluster: Cluster, repository: String) -> Self {
        Self::with(
            cluster,
            repository,
            Some(|scene: &Self| scene.words("push") + " %p"),
        )
    }

    fn with(
        cluster: Cluster,
        repository: String,
        command: Option<impl FnOnce(&Self) -> String>,
    ) -> Self {
        let home = cluster.home().to_path_buf();
        // What the server's user can use: a program and a password.
        copy_program(
            Path::new(env!("CARGO_BIN_EXE_lifeboat")),
            &home.join("lifeboat"),
        );
        give_away(&home.join("lifeboat"));
        fs::write(home.join("password.txt"), PASSWORD).unwrap();
        give_away(&home.join("password.txt"));
        let mut scene = Self {
            cluster,
            home,
            repository,
            name: "app/db",
            variables: Vec::new(),
        };
        if let Some(command) = command {
            let command = command(&scene);
            scene.cluster.set("archive_mode", "on");
            scene.cluster.set("archive_command", &command);
        }
        scene.cluster.start_again();
        scene
    }

    /// How the server calls the program.
    pub fn words(&self, command: &str) -> String {
        let words = words(&self.home, &self.repository, command);
        let variables = self.variables.iter();
        let set = variables.map(|(name, value)| format!("{name}={value} "));
        match set.collect::<String>() {
            set if set.is_empty() => words,
            // Settings of clients of such a server are looked for at home.
            set => format!("/usr/bin/env HOME={} {set}{words}", self.home.display()),
        }
    }

    pub fn ours(&self) -> Program {
        Program::ours(Path::new(&self.repository))
    }

    pub fn run(&self, area: &str, words: &[&str]) -> Run {
        let variables = self.variables.iter();
        variables.fold(self.ours().run_in(area, words), |run, (name, value)| {
            run.variable(name, value)
        })
    }

    pub fn capture(&self) {
        self.capture_of(&self.cluster);
    }

    /// Captures the cluster from another of its servers.
    pub fn capture_of(&self, server: &Cluster) {
        let url = server.url("postgres");
        self.run("db", &["capture", "--postgres", &url, "--name", self.name])
            .ok();
        let repository = Path::new(&self.repository);
        if repository.exists() {
            give_all_away(repository);
        }
    }

    /// Ends the segment and waits until it is archived; gives its name.
    pub fn switch(&self) -> String {
        switch(&self.cluster)
    }

    /// Restores, and gives the place; its server does not run yet.
    pub fn restored(&self, more: &[&str], code: i32) -> (Cluster, Said) {
        let fetch = self.words("fetch") + " %f %p";
        self.restored_by(&fetch, more, code)
    }

    /// Restores for a server that gets its log by this command.
    pub fn restored_by(&self, command: &str, more: &[&str], code: i32) -> (Cluster, Said) {
        let back = Cluster::place(Options::default());
        let data = back.data();
        let mut words = vec![
            "restore",
            "--name",
            self.name,
            "--target",
            data.to_str().unwrap(),
        ];
        words.extend(more);
        words.extend(["--restore-command", command]);
        let said = self.run("db", &words).ends(code);
        (back, said)
    }

    pub fn recovered(&self, more: &[&str]) -> Cluster {
        let (mut back, _) = self.restored(more, 0);
        back.start_again();
        back.recovered();
        back
    }

    /// A standby that streams, whose server runs; it archives as soon as it is promoted. `more` is for `pg_basebackup`.
    pub fn standby(&self, more: &[&str]) -> Cluster {
        let push = self.words("push") + " %p";
        let options = Options::default()
            .set("shared_buffers", "16MB")
            .set("archive_mode", "on")
            .set("archive_command", &push);
        Cluster::standby_of(&self.cluster, options, more)
    }

    /// The folder of a cluster's archive in a repository in a directory.
    pub fn archive(&self) -> PathBuf {
        let system = self
            .cluster
            .sql("select system_identifier from pg_control_system()");
        self.home.join(format!("repository/lifeboat/wal/{system}"))
    }

    pub fn archived(&self, segment: &str) -> PathBuf {
        self.archive().join(&segment[..8]).join(segment)
    }
}

fn init(repository: &str, options: &BackendOptions) {
    let backend = open(&repository.parse().unwrap(), options).unwrap();
    let who = Identity::of_this_process();
    Repository::init(backend, PASSWORD.as_bytes(), 2, None, &who, KeyCost::Test).unwrap();
}

fn words(home: &Path, repository: &str, command: &str) -> String {
    let home = home.display();
    // What a test starts ends with it, and so does what only one of them leaves behind.
    let alone = match command {
        "push" | "fetch" => "--no-resident ",
        _ => "",
    };
    format!(
        "{home}/lifeboat wal {command} {alone}--repo {repository} --password-file {home}/password.txt"
    )
}

/// Ends the segment of a server and waits until it is archived; gives its name.
pub fn switch(cluster: &Cluster) -> String {
    // Or there is nothing to switch from, and the segment that is named was not begun.
    cluster.sql("select pg_create_restore_point('switch')");
    let name = cluster.sql("select pg_walfile_name(pg_switch_wal())");
    let is_archived = format!("select last_archived_wal >= '{name}' from pg_stat_archiver");
    until("the segment is archived", || {
        cluster.sql(&is_archived) == "t"
    });
    name
}

pub fn copy_dir(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

pub fn give_all_away(dir: &Path) {
    if rustix::process::geteuid().is_root() {
        let given = Command::new("chown")
            .args(["-R", "65534:65534"])
            .arg(dir)
            .status();
        assert!(given.unwrap().success());
    }
}

/// The folder of a timeline in the archive; the server need not live any more.
pub fn folder(scene: &Scene, timeline: &str) -> PathBuf {
    let systems = fs::read_dir(scene.home.join("repository/lifeboat/wal")).unwrap();
    let system = systems.map(|entry| entry.unwrap().path()).next().unwrap();
    system.join(timeline)
}

/// What is in the folder of a timeline.
pub fn names(scene: &Scene, timeline: &str) -> Vec<String> {
    let entries = fs::read_dir(folder(scene, timeline)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

/// The pieces among them.
pub fn pieces(scene: &Scene, timeline: &str) -> Vec<String> {
    let names = names(scene, timeline).into_iter();
    names.filter(|name| name.contains('-')).collect()
}

/// A stream that runs, as the server's user.
pub struct Stream {
    child: Child,
    out: PathBuf,
}

impl Stream {
    pub fn start(scene: &Scene, cluster: &Cluster, more: &[&str]) -> Self {
        let out = tempfile::NamedTempFile::new().unwrap();
        let (file, out) = out.keep().unwrap();
        let words = scene.words("stream");
        let mut words = words.split(' ');
        let mut command = cluster.program(words.next().unwrap());
        command
            .args(words)
            .arg("--postgres")
            .arg(cluster.url("postgres"));
        command
            .arg("--create-slot")
            .args(more)
            .env("HOME", &scene.home);
        if !more.contains(&"--interval") {
            command.args(["--interval", "10ms"]);
        }
        command
            .stdin(Stdio::null())
            .stderr(file.try_clone().unwrap());
        let child = command.stdout(file).spawn().unwrap();
        Self { child, out }
    }

    /// Starts it, and waits until the server knows.
    pub fn begun(scene: &Scene, cluster: &Cluster, more: &[&str]) -> Self {
        let mut stream = Self::start(scene, cluster, more);
        until("the server streams", || {
            assert!(!stream.has_ended(), "{}", stream.said());
            cluster.sql("select count(*) from pg_stat_replication where application_name = 'lifeboat' and state = 'streaming'") == "1"
        });
        stream
    }

    pub fn said(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it ends by itself.
    pub fn ends(mut self, code: i32) -> String {
        until("the stream ended", || self.has_ended());
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(code), "{}", self.said());
        self.said()
    }

    pub fn stop(self) -> String {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        self.ends(0)
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        assert_eq!(self.child.wait().unwrap().signal(), Some(9));
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.out);
    }
}

/// Waits until the server was told that all that it has written is kept.
pub fn kept(cluster: &Cluster) {
    let now = "case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end";
    let now = cluster.sql(&format!("select {now}"));
    let is_kept = format!(
        "select flush_lsn >= '{now}' from pg_stat_replication where application_name = 'lifeboat'"
    );
    until("the log is kept", || cluster.sql(&is_kept) == "t");
}

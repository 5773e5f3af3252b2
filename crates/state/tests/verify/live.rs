//! A live cluster, the copies of it that are restored, and what is asked of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lifeboat_flow::Cancel;
use lifeboat_state::postgres::Lsn;
use lifeboat_state::postgres::client::Address;
use lifeboat_state::postgres::recovery::Recovery;
use lifeboat_state::postgres::verify::{
    Preload, Programs, Progress, Proof, Recovered, Request, ScratchOptions, ScratchServer, Verdict,
    verify,
};
use lifeboat_testkit::postgres::{Cluster, Options, USER, give_away};
use lifeboat_testkit::wait::until;

/// A cluster that archives its log, and what of it is restored.
pub struct Live {
    pub cluster: Cluster,
}

impl Live {
    pub fn start(options: Options) -> Self {
        let mut cluster = Cluster::make(
            options
                .set("wal_level", "replica")
                .set("archive_mode", "on")
                .set("autovacuum", "off")
                .set(
                    "archive_command",
                    "test ! -f ../archive/%f && cp %p ../archive/%f",
                ),
        );
        let archive = cluster.home().join("archive");
        fs::create_dir(&archive).unwrap();
        give_away(&archive);
        cluster.start_again();
        Self { cluster }
    }

    pub fn with_checksums() -> Self {
        Self::start(Options {
            initdb: vec!["--data-checksums".into()],
            ..Options::default()
        })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.cluster.home().join(name)
    }

    /// A base backup without its log, as a restored capture lies there.
    pub fn copy(&self, name: &str) -> PathBuf {
        let mut program = self.cluster.program("pg_basebackup");
        program.args([
            "--wal-method=none",
            "--checkpoint=fast",
            "--no-sync",
            "--no-manifest",
            "-d",
        ]);
        let output = program
            .arg(self.cluster.url("postgres"))
            .arg("-D")
            .arg(self.path(name))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        self.path(name)
    }

    /// Where the log is now; all before it is archived when this comes back.
    pub fn archived(&self) -> Lsn {
        let position = self
            .cluster
            .sql("select pg_current_wal_insert_lsn()")
            .parse()
            .unwrap();
        let file = self.cluster.sql("select pg_walfile_name(pg_switch_wal())");
        until("the log is archived", || {
            self.path("archive").join(&file).exists()
        });
        position
    }

    pub fn restore_command(&self) -> String {
        format!("cp {}/%f %p", self.path("archive").display())
    }

    pub fn options(&self, name: &str) -> ScratchOptions {
        ScratchOptions {
            data: self.path(name),
            run: self.path(&format!("run-{name}")),
            within: self.cluster.home().to_owned(),
            superuser: USER.into(),
            user: None,
            preload: Preload::default(),
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
        }
    }

    /// What is asked of a copy: all there is, from the archive.
    pub fn request(&self, name: &str) -> Request {
        Request {
            programs: None,
            other_dirs: Vec::new(),
            options: self.options(name),
            recovery: Recovery {
                restore_command: Some(self.restore_command()),
                ..Recovery::to_the_end()
            },
            at_least: None,
            baseline: None,
            stuck_after: None,
            amcheck: false,
            checksums: false,
        }
    }

    /// Nothing is left of a server on a copy.
    pub fn is_gone(&self, name: &str) -> bool {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let run = self.path(&format!("run-{name}"));
        let data = self.path(name);
        let is_ours = |process: &Path| {
            let words = fs::read(process.join("cmdline")).unwrap_or_default();
            let is_named = String::from_utf8_lossy(&words).contains(run.to_str().unwrap());
            is_named || fs::read_link(process.join("cwd")).is_ok_and(|dir| dir == data)
        };
        let is_running = processes
            .into_iter()
            .any(|process| is_ours(&process.path()));
        !is_running && !run.exists() && !data.join("postmaster.pid").exists()
    }
}

pub fn proven(request: &Request) -> Proof {
    verify(request, &Progress::default(), &Cancel::new()).unwrap()
}

pub fn not_recoverable(request: &Request) -> String {
    match proven(request).verdict {
        Verdict::NotRecoverable { words } => words,
        other => panic!("{}: {other:?}", request.options.data.display()),
    }
}

pub fn undetermined(request: &Request) -> String {
    match proven(request).verdict {
        Verdict::Undetermined { why } => why,
        other => panic!("{}: {other:?}", request.options.data.display()),
    }
}

pub fn programs(live: &Live) -> Programs {
    let major = fs::read_to_string(live.cluster.data().join("PG_VERSION")).unwrap();
    Programs::find(major.trim().parse().unwrap(), None, &[]).unwrap()
}

pub fn started(live: &Live, name: &str, recovery: &Recovery) -> ScratchServer {
    ScratchServer::start(&programs(live), &live.options(name), Some(recovery), None).unwrap()
}

pub fn recovered(server: &mut ScratchServer) -> Recovered {
    server
        .wait(None, &Progress::default(), &Cancel::new())
        .unwrap()
}

pub fn ask(server: &ScratchServer, sql: &str) -> String {
    let cancel = Cancel::new();
    let mut connection = server.connect("postgres", &cancel).unwrap();
    let rows = connection
        .query(sql, Some(Duration::from_secs(60)), &cancel)
        .unwrap();
    rows[0][0].clone().unwrap()
}

/// A recovery that waits for its log as long as the file `asked` is there.
pub fn waiting(live: &Live) -> Recovery {
    Recovery {
        restore_command: Some(format!(
            "touch {0}; while test -e {0}; do sleep 0.1; done; false",
            live.path("asked").display()
        )),
        ..Recovery::to_the_end()
    }
}

/// The address of the live server.
pub fn address(live: &Live) -> Address {
    Address::parse(&live.cluster.url("postgres"), USER).unwrap()
}

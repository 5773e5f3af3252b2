//! Every kind of recovery from every kind of capture: a sample of them, or all with `LIFEBOAT_SOAK`.
//! Each must end where it was told, with what was there then and nothing else.

use std::fs;

use lifeboat_testkit::postgres::{Cluster, Options, give_away};
use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay::{Note, seed};
use lifeboat_testkit::rest_server::{self, RestServer};

use crate::capture::{Load, SUMS, fill_by, pgbench};
use crate::scene::Scene;
use crate::timelines::follows;

/// Recoveries of a capture that are tried, unless all are.
const SAMPLE: usize = 3;

/// From where and beside what it is captured, and where the archive is.
#[derive(Clone, Copy, Debug)]
struct Origin {
    from_standby: bool,
    under_load: bool,
    served: bool,
}

impl Origin {
    fn all() -> Vec<Self> {
        let each = |bits: u32| Self {
            from_standby: bits & 1 != 0,
            under_load: bits & 2 != 0,
            served: bits & 4 != 0,
        };
        (0..8).map(each).collect()
    }
}

/// How far.
#[derive(Clone, Copy, Debug)]
enum Target {
    Capture,
    End,
    Time,
    Lsn,
    Name,
    Xid,
    BeforeXid,
}

const TARGETS: [Target; 7] = [
    Target::Capture,
    Target::End,
    Target::Time,
    Target::Lsn,
    Target::Name,
    Target::Xid,
    Target::BeforeXid,
];

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Another directory, with all tablespaces below one.
    Moved,
    /// Another directory, with each tablespace at a place of its own.
    Remapped,
    /// Where the original was, which is gone.
    Same,
}

// What needs the original comes first.
const WAYS: [Way; 3] = [Way::Moved, Way::Remapped, Way::Same];

/// What happened after the capture.
struct Story {
    time: String,
    lsn: String,
    xid: String,
}

impl Story {
    /// Steps with a mark of each kind between them; the segment with the last is archived.
    fn happens(scene: &Scene) -> Self {
        let cluster = &scene.cluster;
        step(cluster, 1);
        let now =
            "to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
        let time = cluster.sql(&format!("select {now}"));
        step(cluster, 2);
        let lsn = cluster.sql("select pg_current_wal_insert_lsn()");
        step(cluster, 3);
        cluster.sql("select pg_create_restore_point('it''s here')");
        let xid = step(cluster, 4);
        step(cluster, 5);
        scene.switch();
        Self { time, lsn, xid }
    }

    /// How it is said, and the last step that is there then.
    fn words(&self, target: Target) -> (Vec<&str>, u32) {
        match target {
            Target::Capture => (vec![], 0),
            Target::End => (vec!["--to-end"], 5),
            Target::Time => (vec!["--to-time", &self.time], 1),
            Target::Lsn => (vec!["--to-lsn", &self.lsn], 2),
            Target::Name => (vec!["--to-name", "it's here"], 3),
            Target::Xid => (vec!["--to-xid", &self.xid], 4),
            Target::BeforeXid => (vec!["--to-xid", &self.xid, "--before"], 3),
        }
    }
}

/// One transaction in the default tablespace and in another one; gives its number.
fn step(cluster: &Cluster, number: u32) -> String {
    cluster.sql(&format!(
        "with near as (insert into near values ({number})) insert into far values ({number}) returning pg_current_xact_id()"
    ))
}

/// A directory for a tablespace.
fn space(cluster: &Cluster, name: &str) -> String {
    let space = cluster.home().join(name);
    fs::create_dir(&space).unwrap();
    give_away(&space);
    space.display().to_string()
}

fn recoveries(origin: Origin, cells: &[(Way, Target)]) {
    let _note = Note::new(format!("{origin:?}"));
    let server = RestServer::start(rest_server::Options::default());
    let mut scene = match origin.served {
        true => Scene::served(&server.repository("nas")),
        false => Scene::new(),
    };
    let primary_space = space(&scene.cluster, "space");
    scene
        .cluster
        .sql(&format!("create tablespace far location '{primary_space}'"));
    scene
        .cluster
        .sql("create table near (n int); create table far (n int) tablespace far");
    fill_by(&scene.cluster, 1);
    let done = pgbench(&scene.cluster, &["--transactions=100"]).wait();
    assert!(done.unwrap().success());
    let mut standby = origin.from_standby.then(|| {
        let mapping = format!("--tablespace-mapping={primary_space}={primary_space}-standby");
        scene.standby(&[&mapping])
    });
    let load = origin.under_load.then(|| Load::start(&scene.cluster));
    step(&scene.cluster, 0);
    let captured_space = match &standby {
        Some(standby) => {
            follows(standby, &scene.cluster);
            scene.capture_of(standby);
            format!("{primary_space}-standby")
        }
        None => {
            scene.capture();
            primary_space
        }
    };
    let story = Story::happens(&scene);
    drop(load);
    scene.run("db", &["verify", "--name", "app/db"]).ok();
    let here = |cells: &[(Way, Target)], way: Way| {
        let of_way = cells.iter().filter(move |cell| cell.0 == way);
        of_way.map(|cell| cell.1).collect::<Vec<_>>()
    };
    let restore = |scene: &Scene, back: &Cluster, target: Target, more: &[&str]| {
        let (until, last) = story.words(target);
        let (data, fetch) = (back.data(), scene.words("fetch") + " %f %p");
        let mut words = vec!["restore", "--name", "app/db", "--target"];
        words.push(data.to_str().unwrap());
        words.extend(more);
        if !until.is_empty() {
            words.extend(until);
            words.extend(["--restore-command", &fetch]);
        }
        scene.run("db", &words).ok();
        last
    };
    for target in here(cells, Way::Moved) {
        let _note = Note::new(format!("{target:?}, moved"));
        let mut back = Cluster::place(Options::default());
        let below = back.home().join("spaces").display().to_string();
        let last = restore(&scene, &back, target, &["--tablespaces-below", &below]);
        looks_right(&mut back, last);
    }
    for target in here(cells, Way::Remapped) {
        let _note = Note::new(format!("{target:?}, remapped"));
        let mut back = Cluster::place(Options::default());
        let to = back.home().join("elsewhere");
        let mapping = format!("{captured_space}={}", to.display());
        let last = restore(&scene, &back, target, &["--tablespace", &mapping]);
        looks_right(&mut back, last);
        let found =
            back.sql("select pg_tablespace_location(oid) from pg_tablespace where spcname = 'far'");
        assert_eq!(found, to.display().to_string());
    }
    // From here on the original is gone.
    if let Some(standby) = &mut standby {
        standby.stop();
    }
    scene.cluster.stop();
    for target in here(cells, Way::Same) {
        let _note = Note::new(format!("{target:?}, same"));
        let data = standby.as_ref().unwrap_or(&scene.cluster).data();
        fs::remove_dir_all(data).unwrap();
        fs::remove_dir_all(&captured_space).unwrap();
        let last = restore(
            &scene,
            standby.as_ref().unwrap_or(&scene.cluster),
            target,
            &[],
        );
        let back = standby.as_mut().unwrap_or(&mut scene.cluster);
        back.set("archive_mode", "off");
        looks_right(back, last);
        back.stop();
    }
}

/// Starts it, and compares what is there with all steps up to the last.
fn looks_right(back: &mut Cluster, last: u32) {
    back.start_again();
    back.recovered();
    let steps: Vec<String> = (0..=last).map(|step| step.to_string()).collect();
    for table in ["near", "far"] {
        let found = back.sql(&format!(
            "select string_agg(n::text, ' ' order by n) from {table}"
        ));
        assert_eq!(found, steps.join(" "), "{table}");
    }
    assert_eq!(back.sql(SUMS), "t|t|t|t");
    back.sql("insert into far values (99); checkpoint");
}

#[test]
fn every_recovery_ends_where_it_was_told() {
    let seed = seed();
    let _note = Note::seed(seed);
    let mut random = Random::new(seed);
    let cells = WAYS
        .iter()
        .flat_map(|way| TARGETS.map(|target| (*way, target)));
    let mut cells: Vec<_> = cells.collect();
    let mut origins = Origin::all();
    if std::env::var_os("LIFEBOAT_SOAK").is_none() {
        origins = vec![*random.pick(&origins)];
        while cells.len() > SAMPLE {
            cells.remove(random.index(cells.len()));
        }
    }
    for origin in origins {
        recoveries(origin, &cells);
    }
}

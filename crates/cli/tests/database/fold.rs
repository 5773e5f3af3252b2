//! The folded log: a server recovers through it, restic keeps it and gives it back, and nothing of it is archived twice.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{Program, objects};
use crate::scene::{Scene, Stream, give_all_away, kept, names, pieces};
use crate::wal::stamps;

/// How many segments lie in the log, without the first, which is from before the capture and is left to `db forget`.
fn in_log(scene: &Scene) -> usize {
    let folder = scene.archived("000000010000000000000001");
    let files = fs::read_dir(folder.parent().unwrap()).unwrap();
    files
        .filter(|file| file.as_ref().unwrap().file_name().len() == 24)
        .count()
        - 1
}

fn fold(scene: &Scene, more: &[&str], code: i32) -> (Vec<Value>, String) {
    let words = [&["fold", "--json"][..], more].concat();
    let said = scene.run("wal", &words).ends(code);
    give_all_away(&scene.home.join("repository"));
    (objects(&said), said.stderr)
}

fn folds(scene: &Scene) -> usize {
    let said = scene
        .ours()
        .run(["snapshots", "--tag", "lifeboat", "--json"])
        .ok();
    let all: Vec<Value> = serde_json::from_slice(&said.stdout).unwrap();
    let is_fold = |snapshot: &&Value| snapshot["paths"][0].as_str().unwrap().starts_with("/wal/");
    all.iter().filter(is_fold).count()
}

/// A data directory without a log of its own, for `fetch` and `push`.
fn bare(scene: &Scene) -> PathBuf {
    let bare = scene.home.join("bare");
    fs::create_dir_all(bare.join("global")).unwrap();
    let control = "global/pg_control";
    fs::copy(scene.cluster.data().join(control), bare.join(control)).unwrap();
    bare
}

fn fetch(scene: &Scene, name: &str, code: i32) -> (PathBuf, String) {
    let (data, out) = (bare(scene), scene.home.join("out"));
    let _ = fs::remove_file(&out);
    let words = [
        "fetch",
        "--no-resident",
        name,
        out.to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
    ];
    let said = scene.run("wal", &words).ends(code);
    (out, said.stderr)
}

fn push(scene: &Scene, path: &Path, code: i32) -> String {
    let data = bare(scene);
    let words = [
        "push",
        "--no-resident",
        path.to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
    ];
    scene.run("wal", &words).ends(code).stderr
}

#[test]
fn a_server_recovers_through_a_fold_that_restic_kept() {
    let scene = Scene::new();
    let cluster = &scene.cluster;
    cluster.sql("create table stamps (stamp timestamptz)");
    scene.capture();
    let mut segments = Vec::new();
    let mut positions = Vec::new();
    for _ in 0..4 {
        stamps(cluster, 1);
        positions.push(cluster.sql("select pg_current_wal_insert_lsn()"));
        segments.push(scene.switch());
    }
    let before = in_log(&scene);
    let (out, _) = fetch(&scene, &segments[1], 0);
    let kept = fs::read(out).unwrap();

    let (said, _) = fold(&scene, &["--unfolded", "2", "--dry-run"], 0);
    let planned = said[0]["add"].as_array().unwrap().len();
    assert_eq!((in_log(&scene), folds(&scene)), (before, 0));
    let (said, _) = fold(&scene, &["--unfolded", "2"], 0);
    assert_eq!(said[0]["add"].as_array().unwrap().len(), planned);
    assert_eq!((in_log(&scene), folds(&scene)), (2, 1));
    let status = objects(&scene.run("wal", &["status", "--json"]).ok());
    let timeline = &status[0]["timelines"][0];
    assert_eq!(timeline["segments"], before + 1, "{timeline}");
    // What is folded, what is not, and what surely is not there.
    let (out, _) = fetch(&scene, &segments[1], 0);
    assert!(fs::read(out).unwrap() == kept);
    fetch(&scene, &segments[3], 0);
    fetch(&scene, "0000000100000000000000F0", 1);
    fetch(&scene, "00000002.history", 1);
    let back = scene.recovered(&["--to-lsn", &positions[1]]);
    assert_eq!(back.sql("select count(*) from stamps"), "2");
    drop(back);

    // A second fold holds the first one, and restic may keep no more than it.
    stamps(cluster, 1);
    segments.push(scene.switch());
    fold(&scene, &["--unfolded", "1"], 0);
    assert_eq!((in_log(&scene), folds(&scene)), (1, 1));
    let restic = Program::current(&scene.home.join("repository"));
    restic.run(["forget", "--keep-last", "1", "--prune"]).ok();
    restic.run(["check", "--read-data"]).ok();
    give_all_away(&scene.home.join("repository"));
    let back = scene.recovered(&["--to-end"]);
    assert_eq!(back.sql("select count(*) from stamps"), "5");
    let target = scene.home.join("plain");
    let words = ["restore", "latest"];
    let tag = format!(
        "wal={}",
        cluster.sql("select system_identifier from pg_control_system()")
    );
    let words = [
        &words[..2],
        &["--tag", &tag, "--target", target.to_str().unwrap()],
    ]
    .concat();
    restic.run(words).ok();
    let plain = target.join("00000001/00000000").join(&segments[1]);
    assert!(fs::read(plain).unwrap() == kept);
    // Nothing is new: nothing is written.
    let (said, _) = fold(&scene, &["--unfolded", "1"], 0);
    assert_eq!(
        (&said[0]["snapshot_id"], &said[0]["data_added"]),
        (&Value::Null, &0.into())
    );

    // The name of what is folded is given.
    let again = scene.home.join(&segments[1]);
    fs::write(&again, &kept).unwrap();
    assert_eq!(push(&scene, &again, 0), "");
    let mut other = kept.clone();
    other[(16 << 20) - 1] ^= 1;
    fs::remove_file(scene.archived(&segments[1])).unwrap();
    fs::write(&again, &other).unwrap();
    let said = push(&scene, &again, 1);
    assert!(said.contains("another server archives here"), "{said}");
    assert!(!scene.archived(&segments[1]).exists());
    // A copy of the repository has no log, and all that is folded.
    fs::rename(
        scene.home.join("repository/lifeboat"),
        scene.home.join("aside"),
    )
    .unwrap();
    fetch(&scene, &segments[2], 0);
    fetch(&scene, "0000000100000000000000F0", 1);
    let said = scene.run("wal", &["status"]).ok();
    assert!(said.text().contains("timeline 1: "), "{}", said.text());
    // One that came in twice is found when it is folded.
    fs::rename(
        scene.home.join("aside"),
        scene.home.join("repository/lifeboat"),
    )
    .unwrap();
    push(
        &scene,
        &{
            fs::write(&again, &kept).unwrap();
            again.clone()
        },
        0,
    );
    let (said, _) = fold(&scene, &["--unfolded", "1"], 0);
    assert_eq!(said[0]["again"], Value::from(vec![segments[1].clone()]));
    assert!(!scene.archived(&segments[1]).exists());

    // What is damaged is no end.
    for pack in walk(&scene.home.join("repository/data")) {
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(&pack)
            .unwrap();
        let mut byte = [0];
        let middle = file.metadata().unwrap().len() / 2;
        file.read_exact_at(&mut byte, middle).unwrap();
        file.write_all_at(&[byte[0] ^ 1], middle).unwrap();
    }
    let (mut failed, to) = (0, scene.home.join("fetched"));
    for segment in &segments[..4] {
        let data = bare(&scene);
        let words = [
            "fetch",
            "--no-resident",
            segment,
            to.to_str().unwrap(),
            "--data",
            data.to_str().unwrap(),
        ];
        let said = scene.run("wal", &words).any();
        assert_ne!(said.code(), 1, "{}", said.stderr);
        failed += usize::from(said.code() == 200);
    }
    assert!(failed > 0);
}

#[test]
fn pieces_stay_beside_a_fold() {
    let scene = Scene::silent();
    let cluster = &scene.cluster;
    cluster.sql("create table t (x int)");
    scene.capture();
    // What came before is in the capture, and the slot begins with this.
    cluster.sql("checkpoint");
    let rows = |count: usize| {
        let stream = Stream::begun(&scene, cluster, &[]);
        for _ in 0..count {
            cluster.sql("insert into t values (1)");
            kept(cluster);
        }
        stream.stop();
    };
    let count = || {
        let back = scene.recovered(&["--to-end"]);
        back.sql("select count(*) from t")
    };
    rows(3);
    let before = names(&scene, "00000001");
    assert!(
        !before.is_empty() && before == pieces(&scene, "00000001"),
        "{before:?}"
    );
    let (said, _) = fold(&scene, &["--unfolded", "0"], 0);
    assert_eq!(said[0]["add"], Value::from(Vec::<Value>::new()));
    assert_eq!(names(&scene, "00000001"), before);
    assert_eq!(count(), "3");
    // Now there is a whole segment, and pieces of the one behind it.
    cluster.sql("select pg_switch_wal()");
    rows(2);
    let before = pieces(&scene, "00000001");
    assert!(!before.is_empty());
    let (said, _) = fold(&scene, &["--unfolded", "0"], 0);
    assert_eq!(said[0]["add"].as_array().unwrap().len(), 1, "{said:?}");
    assert_eq!(names(&scene, "00000001"), before);
    assert_eq!(count(), "5");
}

pub fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let (dirs, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    files
        .into_iter()
        .chain(dirs.iter().flat_map(|dir| walk(dir)))
        .collect()
}

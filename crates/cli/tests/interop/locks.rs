//! Locks of living processes, ours and restic's: each blocks what must not run beside it, and `unlock` leaves them alone.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::common::{Place, Program, array};

const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// What restic says when somebody else has the lock; 0.14 has no status of its own for it.
const LOCKED: [(&str, i32); 2] = [("restic 0.19", 11), ("restic 0.14", 1)];

/// A process that holds a lock until its input ends.
struct Holder(Child);

impl Holder {
    fn start(place: &Place, program: &Program, words: &[&str]) -> Self {
        let holder = Self(program.run(words).start());
        wait_for(place, 1);
        holder
    }

    /// Lets it go on.
    fn finish(mut self, input: &[u8]) -> Output {
        let written = self.0.stdin.take().unwrap().write_all(input);
        let output = self.0.wait_with_output().unwrap();
        assert!(
            written.is_ok(),
            "it was gone before its input ended: {output:?}"
        );
        output
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn locks(repository: &Path) -> usize {
    let files = fs::read_dir(repository.join("locks")).unwrap();
    files.count()
}

fn wait_for(place: &Place, count: usize) {
    let began = Instant::now();
    while locks(&place.repository()) < count {
        assert!(began.elapsed() < PATIENCE, "no lock appeared");
        sleep(POLL);
    }
    // A lock counts when its holder has looked a second time, which takes 200 ms.
    sleep(Duration::from_millis(300));
}

fn tree(place: &Place) -> String {
    let tree = place.path("tree");
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("file"), "content").unwrap();
    tree.to_str().unwrap().to_owned()
}

#[test]
fn our_lock_blocks_what_restic_may_not_do_and_nothing_else() {
    let place = Place::new();
    let tree = tree(&place);
    let ours = place.ours();
    ours.run(["backup", &tree]).ok();
    let holder = Holder::start(&place, &ours, &["backup", "--stdin"]);
    for ((name, theirs), (_, code)) in Program::both(&place.repository()).into_iter().zip(LOCKED) {
        let refused = theirs.run(["prune"]).ends(code);
        assert!(
            refused.stderr.contains("already locked"),
            "{name}: {}",
            refused.stderr
        );
        theirs
            .run(["forget", "--keep-last", "1", "--prune"])
            .ends(code);
        // We live on this host, so that neither takes our lock for a forgotten one.
        theirs.run(["unlock"]).ok();
        assert_eq!(locks(&place.repository()), 1, "{name}");
        theirs.run(["prune"]).ends(code);
        theirs.run(["backup", &tree]).ok();
        theirs.run(["snapshots"]).ok();
    }
    ours.run(["forget", "--keep-last", "1"]).ends(11);
    ours.run(["unlock"]).ok();
    assert_eq!(locks(&place.repository()), 1);
    let done = holder.finish(b"streamed");
    assert!(done.status.success(), "{done:?}");
    assert_eq!(locks(&place.repository()), 0);
    let all = array(&ours.run(["snapshots", "--json"]).ok());
    assert_eq!(all.len(), 4);
    place.current().run(["prune"]).ok();
    place.current().run(["check", "--read-data"]).ok();
}

#[test]
fn restics_lock_blocks_what_we_may_not_do_and_nothing_else() {
    for current in [true, false] {
        let place = Place::new();
        let tree = tree(&place);
        let (name, theirs) = if current {
            ("restic 0.19", place.current())
        } else {
            ("restic 0.14", place.debian())
        };
        let ours = place.ours();
        theirs.run(["backup", &tree]).ok();
        let holder = Holder::start(&place, &theirs, &["backup", "--stdin"]);
        let refused = ours.run(["forget", "--keep-last", "1"]).ends(11);
        assert!(
            refused.stderr.contains("lock"),
            "{name}: {}",
            refused.stderr
        );
        ours.run(["tag", "--add", "x", "latest"]).ends(11);
        ours.run(["unlock"]).ok();
        assert_eq!(locks(&place.repository()), 1, "{name}");
        ours.run(["backup", &tree]).ok();
        ours.run(["check"]).ok();
        let waiting = ours
            .run(["--retry-lock", "1m", "forget", "--keep-last", "1"])
            .start();
        sleep(Duration::from_millis(500));
        assert!(holder.finish(b"streamed").status.success(), "{name}");
        let waited = waiting.wait_with_output().unwrap();
        assert!(waited.status.success(), "{name}: {waited:?}");
        // With an exclusive lock it waits for the new password.
        let holder = Holder::start(&place, &theirs, &["key", "passwd"]);
        ours.run(["backup", &tree]).ends(11);
        ours.run(["check"]).ends(11);
        ours.run(["--no-lock", "snapshots"]).ok();
        holder.kill();
        // Its holder is dead, on this host.
        ours.run(["unlock"]).ok();
        assert_eq!(locks(&place.repository()), 0, "{name}");
        ours.run(["backup", &tree]).ok();
    }
}

#[test]
fn locks_of_the_dead_hold_nobody_up() {
    let place = Place::new();
    let tree = tree(&place);
    let ours = place.ours();
    for (name, theirs) in Program::both(&place.repository()) {
        Holder::start(&place, &ours, &["backup", "--stdin"]).kill();
        assert_eq!(locks(&place.repository()), 1);
        theirs.run(["unlock"]).ok();
        assert_eq!(locks(&place.repository()), 0, "{name}");
        Holder::start(&place, &theirs, &["backup", "--stdin"]).kill();
        // What is plainly forgotten is no reason to stop.
        ours.run(["backup", &tree]).ok();
        ours.run(["forget", "--keep-last", "1"]).ok();
        ours.run(["unlock", "--remove-all"]).ok();
        assert_eq!(locks(&place.repository()), 0, "{name}");
    }
}

//! Whatever instructions the hot loops use, files are cut where restic cuts them; and a backup and its check go through with
//! the least memory.

use lifeboat_format::Kernel;
use lifeboat_testkit::random::Random;

use crate::common::{Place, summary};

#[test]
fn every_kernel_finds_the_chunks_that_restic_stored() {
    let (place, dir) = (Place::new(), tempfile::tempdir().unwrap());
    let large = Random::new(7).bytes(9 << 20);
    std::fs::write(dir.path().join("large"), &large).unwrap();
    std::fs::write(
        dir.path().join("twice"),
        [&large[5..], &large[..77]].concat(),
    )
    .unwrap();
    std::fs::write(dir.path().join("zeros"), vec![0; 3 << 20]).unwrap();
    let target = dir.path().to_str().unwrap();
    place.current().run(["backup", target]).ok();
    for kernel in Kernel::ALL {
        let backup = ["backup", "--force", "--json", target];
        let run = place.ours().run(backup);
        let run = run.variable("LIFEBOAT_KERNEL", kernel.name());
        if kernel.is_available() {
            let done = summary(&run.ok());
            assert_eq!(done["data_blobs"], 0, "{} {done}", kernel.name());
        } else {
            let said = run.ends(1);
            assert!(said.stderr.contains("it can run: "), "{}", said.stderr);
        }
    }
    let unknown = place.ours().run(["snapshots"]);
    let said = unknown.variable("LIFEBOAT_KERNEL", "mmx").ends(1);
    assert!(
        said.stderr.contains("LIFEBOAT_KERNEL=mmx"),
        "{}",
        said.stderr
    );
}

#[test]
fn little_memory_is_enough_and_too_little_is_refused() {
    let (place, dir) = (Place::new(), tempfile::tempdir().unwrap());
    let large = Random::new(8).bytes(40 << 20);
    std::fs::write(dir.path().join("large"), &large).unwrap();
    let target = dir.path().to_str().unwrap();
    let said = place
        .ours()
        .run(["backup", "--memory", "31", target])
        .ends(1);
    assert!(
        said.stderr.contains("32 MiB are the least"),
        "{}",
        said.stderr
    );
    // Also where it would make no difference.
    let said = place.ours().run(["snapshots"]);
    said.variable("LIFEBOAT_MEMORY", "31").ends(1);
    // One pack at a time is filled and sent.
    place.ours().run(["backup", "--memory", "32", target]).ok();
    place
        .ours()
        .run(["check", "--read-data"])
        .variable("LIFEBOAT_MEMORY", "32")
        .ok();
    place.current().run(["check", "--read-data"]).ok();
}

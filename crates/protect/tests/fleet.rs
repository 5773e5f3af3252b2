//! A fleet has one identity in its repository, whoever comes first.

mod common;

use std::sync::Barrier;

use common::init;
use lifeboat_flow::Timestamp;
use lifeboat_protect::{Fleet, FleetError};
use lifeboat_repo::backend::MemoryBackend;

const NOW: Timestamp = Timestamp {
    seconds: 1_790_000_000,
    ..Timestamp::ZERO
};
const TOGETHER: usize = 8;

#[test]
fn of_several_who_found_a_fleet_at_once_all_get_the_same() {
    let (repository, start) = (init(MemoryBackend::new()), Barrier::new(TOGETHER));
    let found = || {
        start.wait();
        Fleet::find_or_found(&repository, "nas", "box", NOW).unwrap()
    };
    let fleets: Vec<Fleet> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..TOGETHER).map(|_| scope.spawn(found)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(fleets.iter().all(|fleet| *fleet == fleets[0]), "{fleets:?}");
    assert_eq!(
        Fleet::find(&repository, "nas").unwrap().as_ref(),
        Some(&fleets[0])
    );
    let other = Fleet::find_or_found(&repository, "a name/of any\u{e4} kind", "box", NOW).unwrap();
    assert_ne!(other.fleet, fleets[0].fleet);
    assert_eq!(Fleet::find(&repository, "nobody").unwrap(), None);
}

#[test]
fn the_newest_epoch_counts_and_one_of_later_programs_is_refused() {
    let repository = init(MemoryBackend::new());
    let first = Fleet::find_or_found(&repository, "nas", "box", NOW).unwrap();
    let folder = repository.log().list(None).unwrap().remove(0).name;
    let (folder, _) = folder.as_str().rsplit_once('/').unwrap();
    let put = |epoch: &str, json: &[u8]| {
        let name = format!("{folder}/{epoch}").parse().unwrap();
        repository.log().append(&name, json).unwrap();
    };
    let adopted = format!(
        r#"{{"version":1,"fleet":"{}","name":"nas","epoch":10,"host":"new","since":"2026-11-22T00:00:00Z"}}"#,
        first.fleet
    );
    put("00000002", br#"{"version":1}"#);
    put("00000010", adopted.as_bytes());
    let found = Fleet::find_or_found(&repository, "nas", "box", NOW).unwrap();
    assert_eq!(
        (found.epoch, found.fleet, found.host.as_str()),
        (10, first.fleet, "new")
    );
    put("00000011", br#"{"version":2,"anything":true}"#);
    let refused = Fleet::find(&repository, "nas").unwrap_err();
    assert!(
        matches!(refused, FleetError::Version { version: 2, .. }),
        "{refused}"
    );
    put("00000012", b"?");
    assert!(matches!(
        Fleet::find(&repository, "nas"),
        Err(FleetError::Form { .. })
    ));
}

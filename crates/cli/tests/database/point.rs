//! The record that ties the captures of an app together, and the identity that they carry.

use lifeboat_testkit::postgres::Cluster;
use serde_json::Value;

use crate::capture::{capture_as, with_checksums};
use crate::common::{Place, array};

/// Captures under this name from this host.
fn captured(place: &Place, cluster: &Cluster, name: &str, host: &str) {
    let said = capture_as(place, cluster, (name, host), &[]);
    assert_eq!(said.code(), 0, "{}{}", said.text(), said.stderr);
}

/// The newest point of the app, as the real restic shows it.
fn point(place: &Place, host: &str) -> Value {
    let words = [
        "dump",
        "--host",
        host,
        "--path",
        "/apps/app",
        "latest",
        "/recovery-point.json",
    ];
    let said = place.current().run(words).ok();
    serde_json::from_slice(&said.stdout).unwrap()
}

fn tree(place: &Place, path: &str) -> Value {
    let words = [
        "snapshots",
        "--json",
        "--latest",
        "1",
        "--host",
        "nas",
        "--path",
        path,
    ];
    let found = array(&place.current().run(words).ok());
    assert_eq!(found.len(), 1, "{found:?}");
    found[0]["tree"].clone()
}

#[test]
fn a_point_ties_the_newest_captures_of_an_app_together() {
    let (place, cluster) = (Place::new(), Cluster::start(with_checksums()));
    captured(&place, &cluster, "app/one", "nas");
    let first = point(&place, "nas");
    assert_eq!(first["version"], 1, "{first}");
    assert_eq!(first["members"]["one"]["state"], "captured", "{first}");
    assert_eq!(first["instant"], first["members"]["one"]["instant"]);
    captured(&place, &cluster, "app/two", "nas");
    let second = point(&place, "nas");
    assert_eq!(second["members"]["one"]["state"], "carried", "{second}");
    assert_eq!(second["members"]["two"]["state"], "captured");
    assert_eq!(second["instant"], first["instant"], "as old as the oldest");
    assert_ne!(second["point"], first["point"]);
    assert_eq!(second["fleet"], first["fleet"]);
    for name in ["one", "two"] {
        let of_capture = tree(&place, &format!("/apps/app/{name}"));
        assert_eq!(second["members"][name]["tree"], of_capture);
    }
    // What is not of this app, or of another fleet, has nothing to do with it.
    captured(&place, &cluster, "other/one", "nas");
    captured(&place, &cluster, "app/three", "box");
    assert_eq!(point(&place, "nas"), second);
    let other = point(&place, "box");
    assert_ne!(other["fleet"], second["fleet"]);
    assert_eq!(other["members"].as_object().unwrap().len(), 1);
    // Every snapshot carries the identity of its fleet.
    let all = array(&place.current().run(["snapshots", "--json"]).ok());
    assert_eq!(all.len(), 8);
    for snapshot in all {
        let fleet = match snapshot["hostname"].as_str() {
            Some("nas") => &second["fleet"],
            _ => &other["fleet"],
        };
        let tag = format!("fleet={}", fleet.as_str().unwrap());
        let tags = snapshot["tags"].as_array().unwrap();
        assert!(tags.iter().any(|known| known == tag.as_str()), "{snapshot}");
    }
}

//! Passwords that one program adds, changes and removes open the repository for the others, or no longer.

use std::fs;

use crate::common::{Place, Program, array};

#[test]
fn keys_of_each_open_for_all() {
    let place = Place::new();
    let file = |name: &str| {
        let path = place.path(name);
        fs::write(&path, format!("{name}\n")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let [(_, current), (_, debian)] = Program::both(&place.repository());
    let ours = place.ours();
    ours.run([
        "key",
        "add",
        "--new-password-file",
        &file("of ours"),
        "--user",
        "me",
        "--host",
        "here",
    ])
    .ok();
    current
        .run(["key", "add", "--new-password-file", &file("of 0.19")])
        .ok();
    debian
        .run(["key", "add", "--new-password-file", &file("of 0.14")])
        .ok();
    for password in ["of ours", "of 0.19", "of 0.14"] {
        for (_, theirs) in Program::both(&place.repository()) {
            theirs.with_password(password).run(["snapshots"]).ok();
        }
        place.ours().with_password(password).run(["snapshots"]).ok();
    }
    // The first is that of the place.
    let list = |program: &Program| {
        let mut keys = array(&program.run(["key", "list", "--json"]).ok());
        keys.sort_by_key(|key| key["id"].to_string());
        keys
    };
    let (our, their) = (list(&ours), list(&current));
    assert_eq!((our.len(), their.len()), (4, 4));
    for (our, their) in our.iter().zip(&their) {
        let id = our["id"].as_str().unwrap();
        assert!(
            id.starts_with(their["id"].as_str().unwrap()),
            "{our} and {their}"
        );
        for field in ["current", "userName", "hostName"] {
            assert_eq!(our[field], their[field], "{our} and {their}");
        }
    }
    assert!(
        our.iter()
            .any(|key| key["userName"] == "me" && key["hostName"] == "here")
    );
    place
        .current()
        .with_password("of 0.19")
        .run(["key", "passwd", "--new-password-file", &file("changed")])
        .ok();
    place
        .ours()
        .with_password("of 0.19")
        .run(["snapshots"])
        .ends(12);
    place
        .ours()
        .with_password("changed")
        .run(["key", "passwd", "--new-password-file", &file("again")])
        .ok();
    place
        .current()
        .with_password("changed")
        .run(["snapshots"])
        .ends(12);
    place
        .current()
        .with_password("again")
        .run(["snapshots"])
        .ok();
    let of_ours = our.iter().find(|key| key["userName"] == "me").unwrap();
    let id = of_ours["id"].as_str().unwrap();
    current.run(["key", "remove", id]).ok();
    place
        .ours()
        .with_password("of ours")
        .run(["snapshots"])
        .ends(12);
    // The key in use stays, whoever is asked.
    let used = our.iter().find(|key| key["current"] == true).unwrap();
    ours.run(["key", "remove", used["id"].as_str().unwrap()])
        .ends(1);
    ours.run(["snapshots"]).ok();
}

//! What holds for any source and any target, whatever is behind it.
//! It must never use what only a volume has.

use lifeboat_flow::{Entry, EntryKind, EntryPath, Listing, Source, Target, Timestamp};

/// Names in strictly ascending order, none of which leads elsewhere.
pub fn listing_is_ordered(listing: &Listing) {
    let names: Vec<_> = listing
        .entries
        .iter()
        .map(|entry| entry.name.as_slice())
        .collect();
    assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    for name in names {
        assert!(!matches!(name, b"" | b"." | b".."), "{name:?}");
        assert!(!name.contains(&b'/') && !name.contains(&0), "{name:?}");
    }
}

/// A source says the same each time, agrees with itself, and refuses what it did not name.
pub fn any_source(source: &dyn Source, from: &EntryPath) {
    let walked = super::walk(source, from);
    assert!(!walked.tree.is_empty(), "a source of nothing tests nothing");
    let again = super::walk(source, from);
    super::assert_same(&walked.tree, &again.tree);
    for (path, (entry, content)) in &walked.tree {
        let path = EntryPath([from.0.as_slice(), b"/", path].concat());
        if entry.kind == EntryKind::File {
            let (read, bytes) = super::read(source, &path).expect("a file that was listed");
            assert_eq!(&read, entry, "the file and its listing tell the same");
            assert_eq!(&bytes, content);
            assert_eq!(read.size_bytes, bytes.len() as u64);
            assert!(
                source.list(&path).is_err(),
                "a file was listed as a directory"
            );
        } else {
            assert!(
                source.open(&path).is_err(),
                "{} was opened as a file",
                path.display()
            );
        }
        assert!(source.open(&path.join(b"no-such-name")).is_err());
    }
    assert!(
        source
            .list(&EntryPath(b"no/such/directory".to_vec()))
            .is_err()
    );
}

/// A target keeps its promises on names, replacement, links, content and metadata.
pub fn any_target(target: &dyn Target) {
    names_that_lead_elsewhere_are_refused(target);
    files_are_written_in_any_order(target);
    a_file_that_is_there_can_be_read_and_finished(target);
    anything_is_replaced_by_anything(target);
    links_share_content_until_one_is_written(target);
    target.sync().expect("synced");
}

fn path(text: &str) -> EntryPath {
    EntryPath(text.as_bytes().to_vec())
}

fn entry(kind: EntryKind) -> Entry {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let time = Timestamp::utc(-12_345, 678_901_234);
    Entry {
        permissions: 0o640,
        uid,
        gid,
        modified: time,
        accessed: time,
        ..Entry::bare(b"entry", kind)
    }
}

fn names_that_lead_elsewhere_are_refused(target: &dyn Target) {
    let link = Entry {
        link_target: b"x".to_vec(),
        ..entry(EntryKind::Symlink)
    };
    target.make_dir(&path("names")).expect("a directory");
    for name in [
        "..",
        ".",
        "names/../../escaped",
        "names/..",
        "names/.",
        "names//x",
        "/names/x",
        "names/",
        "names/a\0b",
    ] {
        let path = path(name);
        assert!(target.look(&path).is_err(), "look {name:?}");
        assert!(target.names(&path).is_err(), "names {name:?}");
        assert!(target.make_dir(&path).is_err(), "make_dir {name:?}");
        assert!(
            target.open_file(&path, false).is_err(),
            "open_file {name:?}"
        );
        assert!(target.open_file(&path, true).is_err(), "open_file {name:?}");
        assert!(
            target.make_special(&path, &link).is_err(),
            "make_special {name:?}"
        );
        assert!(
            target.make_link(&path, &self::path("names/ok")).is_err(),
            "make_link {name:?}"
        );
        assert!(target.finish(&path, &link).is_err(), "finish {name:?}");
        assert!(target.remove(&path).is_err(), "remove {name:?}");
    }
    assert!(
        target.remove(&EntryPath::top()).is_err(),
        "the top is not ours to remove"
    );
    assert_eq!(
        target.names(&path("names")).expect("names"),
        Vec::<Vec<u8>>::new()
    );
    assert!(target.open_file(&path("no/such/parent"), false).is_err());
}

fn files_are_written_in_any_order(target: &dyn Target) {
    let place = path("file");
    let file = target.open_file(&place, false).expect("a file");
    file.set_len(10).expect("a length");
    file.write_at(b"end", 7).expect("written");
    file.write_at(b"be", 0).expect("written");
    let mut buf = [1; 16];
    assert_eq!(
        file.read_at(&mut buf, 0).expect("read"),
        10,
        "fewer only at the end"
    );
    assert_eq!(&buf[..10], b"be\0\0\0\0\0end");
    assert_eq!(file.read_at(&mut buf, 10).expect("read"), 0);
    file.set_len(4).expect("a length");
    drop(file);
    let kept = target.open_file(&place, true).expect("a file");
    assert_eq!(kept.read_at(&mut buf, 0).expect("read"), 4);
    kept.finish(&entry(EntryKind::File)).expect("finished");
    drop(kept);
    let existing = target.look(&place).expect("looked").expect("there");
    assert_eq!(
        (existing.kind, existing.size_bytes, existing.links),
        (EntryKind::File, 4, 1)
    );
    assert_eq!(existing.modified, Timestamp::utc(-12_345, 678_901_234));
    let emptied = target.open_file(&place, false).expect("a file");
    assert_eq!(emptied.read_at(&mut buf, 0).expect("read"), 0);
    assert!(target.look(&path("nothing")).expect("looked").is_none());
    assert!(target.look(&path("file/below")).expect("looked").is_none());
}

fn a_file_that_is_there_can_be_read_and_finished(target: &dyn Target) {
    let place = path("there");
    let file = target.open_file(&place, false).expect("a file");
    file.write_at(b"content", 0).expect("written");
    file.finish(&entry(EntryKind::File)).expect("finished");
    drop(file);
    let found = target.read_file(&place).expect("a file");
    assert_eq!(found.len_bytes().expect("a length"), 7);
    let mut buf = [0; 8];
    assert_eq!(found.read_at(&mut buf, 0).expect("read"), 7);
    assert!(found.write_at(b"x", 0).is_err());
    assert!(found.set_len(1).is_err());
    let written = found.to_write().expect("the same file");
    written.write_at(b"CON", 0).expect("written");
    assert_eq!(found.read_at(&mut buf, 0).expect("read"), 7);
    assert_eq!(&buf[..7], b"CONtent");
    written.write_at(b"con", 0).expect("written");
    let later = Entry {
        permissions: 0o440,
        modified: Timestamp::utc(77, 0),
        ..entry(EntryKind::File)
    };
    found.finish(&later).expect("finished");
    let existing = target.look(&place).expect("looked").expect("there");
    assert_eq!(existing.modified, Timestamp::utc(77, 0));
    assert_eq!(found.read_at(&mut buf, 0).expect("read"), 7);
    assert_eq!(&buf[..7], b"content");
    drop(target.open_file(&path("other"), false).expect("a file"));
    target.rename(&path("other"), &place).expect("renamed");
    assert!(found.to_write().is_err(), "something else is there now");
    target.remove(&place).expect("removed");
    assert!(found.to_write().is_err(), "nothing is there now");
    target.make_dir(&path("no file")).expect("a directory");
    assert!(target.read_file(&path("no file")).is_err());
    assert!(target.read_file(&path("nowhere")).is_err());
}

/// Makes an entry of one kind at a path.
type Maker<'a> = &'a dyn Fn(&EntryPath);

fn anything_is_replaced_by_anything(target: &dyn Target) {
    let link = Entry {
        link_target: b"file".to_vec(),
        ..entry(EntryKind::Symlink)
    };
    let make: [(&str, Maker<'_>); 4] = [
        ("file", &|at| {
            drop(target.open_file(at, false).expect("a file"))
        }),
        ("dir", &|at| {
            target.make_dir(at).expect("a directory");
            drop(target.open_file(&at.join(b"inner"), false).expect("a file"));
        }),
        ("link", &|at| {
            target.make_special(at, &link).expect("a link")
        }),
        ("pipe", &|at| {
            target
                .make_special(at, &entry(EntryKind::Fifo))
                .expect("a pipe")
        }),
    ];
    let kinds = [
        EntryKind::File,
        EntryKind::Dir,
        EntryKind::Symlink,
        EntryKind::Fifo,
    ];
    for (from, make_from) in &make {
        for ((to, make_to), kind) in make.iter().zip(kinds) {
            let at = path(&format!("{from}-to-{to}"));
            make_from(&at);
            make_to(&at);
            assert_eq!(
                target.look(&at).expect("looked").expect("there").kind,
                kind,
                "{from} to {to}"
            );
            target.remove(&at).expect("removed");
            assert!(target.look(&at).expect("looked").is_none());
        }
    }
    target
        .remove(&path("nothing"))
        .expect("nothing to remove is fine");
}

fn links_share_content_until_one_is_written(target: &dyn Target) {
    let (one, two) = (path("one"), path("two"));
    let file = target.open_file(&one, false).expect("a file");
    file.write_at(b"shared", 0).expect("written");
    target.make_link(&one, &two).expect("linked");
    target.make_link(&one, &two).expect("linked again");
    assert_eq!(target.look(&two).expect("looked").expect("there").links, 2);
    for keep in [true, false] {
        let at = path("copy");
        target.make_link(&one, &at).expect("linked");
        let copy = target.open_file(&at, keep).expect("a file");
        let mut buf = [0; 8];
        assert_eq!(
            copy.read_at(&mut buf, 0).expect("read"),
            if keep { 6 } else { 0 }
        );
        copy.write_at(b"S", 0).expect("written");
        assert_eq!(file.read_at(&mut buf, 0).expect("read"), 6);
        assert_eq!(&buf[..6], b"shared", "writing to one name changed another");
        target.remove(&at).expect("removed");
    }
    assert!(target.make_link(&path("nothing"), &path("three")).is_err());
}

//! The mount of the matrix: all that snapshots hold is read through the kernel while the repository below fails.
//! What can't be read must be an error for who reads it, and never other content.

use std::sync::mpsc::channel;

use lifeboat_protect::{MountError, MountOptions, mount};

use super::commands::locked;
use super::*;

/// Mounts the repository, reads everything and unmounts it.
pub(crate) fn run_mount(world: &World, backend: &Arc<dyn Backend>) -> Done {
    let (repository, _lock) = locked(backend, false)?;
    let place = world.place();
    let options = MountOptions {
        place: place.path().to_owned(),
        path_templates: vec!["ids/%i".into(), "hosts/%h/%T".into()],
        time_template: "2006-01-02T15:04:05".into(),
        select: Box::new(|_| true),
        allow_other: false,
        no_default_permissions: true,
        owner_root: false,
    };
    let cancel = Cancel::new();
    let (ready, is_ready) = channel();
    let seen = Arc::new(Seen::default());
    let events: Arc<Seen> = Arc::clone(&seen);
    std::thread::scope(|scope| {
        let mounted = scope.spawn(|| {
            mount(repository, options, events, &cancel, move || {
                // Who waits for it hears of it also when this end goes.
                let _ = ready.send(());
            })
        });
        let mut said = String::new();
        let read = is_ready.recv().map(|()| read_all(place.path(), &mut said));
        cancel.cancel();
        match mounted.join().unwrap() {
            // A program that another test starts has our open files until it begins.
            Err(MountError::Unmount { place, .. }) => let_go(&place),
            ended => ended.map_err(|error| chain(&error))?,
        }
        match read {
            Ok(Ok(())) if seen.problems().is_empty() => Ok(said),
            Ok(Ok(())) => Err(format!("problems: {:?}", seen.problems())),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("it ended before it was ready".into()),
        }
    })
}

/// Unmounts what is still looked at, as the hint of the command says.
fn let_go(place: &Path) {
    let done = std::process::Command::new("umount")
        .arg("-l")
        .arg(place)
        .status();
    assert!(done.unwrap().success(), "{} stays", place.display());
}

/// Says of each entry what it is and what it holds. It must not panic: the mount would never end.
fn read_all(dir: &Path, said: &mut String) -> std::io::Result<()> {
    let entries = std::fs::read_dir(dir)?.collect::<std::io::Result<Vec<_>>>()?;
    let mut paths: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).collect();
    paths.sort();
    for path in paths {
        let what = std::fs::symlink_metadata(&path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        said.push_str(&format!("{name} {} ", what.len()));
        if what.is_dir() {
            read_all(&path, said)?;
        } else if what.is_symlink() {
            said.push_str(&format!("{:?}", std::fs::read_link(&path)?));
        } else {
            said.push_str(&Id::of(&std::fs::read(&path)?).short());
        }
        said.push('\n');
    }
    Ok(())
}

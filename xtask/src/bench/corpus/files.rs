//! A tree of many small files, copied from what is installed on the machine.
//! Where the machine has too few, copies with a difference fill up; no file is ever there twice.

use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result, While};
use crate::tools::create_dir;

const FILE_BYTES_MAX: u64 = 256 << 10;

/// Copies `wanted` files into `dir`.
pub(super) fn make(dir: &Path, wanted: u64) -> Result<()> {
    let mut tree = Growing {
        dir: dir.to_owned(),
        files: 0,
        wanted,
    };
    for (number, source) in sources().iter().enumerate() {
        // At most half from one place, so that one habit of naming and nesting does not rule.
        let limit = tree.wanted.min(tree.files + tree.wanted / 2);
        tree.copy(source, Path::new(&format!("{number}")), limit)?;
    }
    let real = dir.join("0");
    for round in 1.. {
        if tree.files >= wanted {
            return Ok(());
        }
        let before = tree.files;
        tree.vary(&real, &dir.join(format!("variation-{round}")), round)?;
        if tree.files == before {
            return Err(Failure::new("this machine has no small files to copy"));
        }
    }
    Ok(())
}

fn sources() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME")
        .map(PathBuf::from)
        .unwrap_or_default();
    let cargo = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    vec![
        cargo.join("registry/src"),
        "/usr".into(),
        home.join("go/pkg/mod"),
    ]
}

struct Growing {
    dir: PathBuf,
    files: u64,
    wanted: u64,
}

impl Growing {
    /// Copies small files below `from` until there are `limit` in all.
    fn copy(&mut self, from: &Path, to: &Path, limit: u64) -> Result<()> {
        // What cannot be listed or read is left out: any real file serves.
        let Ok(paths) = crate::tree::list(from) else {
            return Ok(());
        };
        let mut made_dir = false;
        for path in paths {
            if self.files >= limit {
                break;
            }
            let (Ok(meta), Some(name)) = (path.symlink_metadata(), path.file_name()) else {
                continue;
            };
            let inside = to.join(name);
            if meta.is_dir() {
                self.copy(&path, &inside, limit)?;
            } else if meta.is_file() && meta.len() <= FILE_BYTES_MAX {
                if !made_dir {
                    create_dir(&self.dir.join(to))?;
                    made_dir = true;
                }
                self.files += u64::from(std::fs::copy(&path, self.dir.join(inside)).is_ok());
            }
        }
        Ok(())
    }

    /// Copies `from` to `to` with a line at the end of each file that only this round has.
    fn vary(&mut self, from: &Path, to: &Path, round: u32) -> Result<()> {
        if !from.is_dir() {
            return Ok(());
        }
        create_dir(to)?;
        for path in crate::tree::list(from)? {
            let inside = to.join(path.file_name().unwrap_or_default());
            if path.is_dir() {
                self.vary(&path, &inside, round)?;
            } else if self.files < self.wanted {
                let mut content =
                    std::fs::read(&path).doing(|| format!("cannot read {}", path.display()))?;
                content.extend_from_slice(format!("\nvariation {round}\n").as_bytes());
                std::fs::write(&inside, content)
                    .doing(|| format!("cannot write {}", inside.display()))?;
                self.files += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use crate::tree;

    #[test]
    fn too_few_real_files_are_filled_up_with_variations() {
        let scratch = Scratch::create("files").unwrap();
        let real = scratch.join("real");
        std::fs::create_dir_all(real.join("sub")).unwrap();
        std::fs::write(real.join("a"), "a").unwrap();
        std::fs::write(real.join("sub/b"), "b").unwrap();
        let mut tree = Growing {
            dir: scratch.join("tree"),
            files: 0,
            wanted: 3,
        };
        tree.copy(&real, Path::new("0"), 3).unwrap();
        assert_eq!(tree.files, 2);
        tree.vary(&tree.dir.join("0"), &scratch.join("tree/variation-1"), 1)
            .unwrap();
        assert_eq!(tree::measure(&tree.dir).unwrap().files, 3);
    }
}

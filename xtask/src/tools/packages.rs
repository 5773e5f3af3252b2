//! Programs that the system's package manager provides.
//! On Debian and its kin missing ones are installed; elsewhere they are named and nothing is touched.

use std::process::Command;

use crate::failure::{Failure, Result};
use crate::shell;

/// A program and the Debian package that has it.
pub(crate) struct Package {
    pub program: &'static str,
    pub debian: &'static str,
}

const fn package(program: &'static str, debian: &'static str) -> Package {
    Package { program, debian }
}

pub(crate) const FOR_TESTS: &[Package] = &[
    package("cc", "gcc"),
    package("git", "git"),
    package("fusermount3", "fuse3"),
    package("make", "make"),
    package("openssl", "openssl"),
    package("setfacl", "acl"),
    package("getfattr", "attr"),
    package("runuser", "util-linux"),
    package("rclone", "rclone"),
    package("ssh", "openssh-client"),
    // Its folder is not on everybody's PATH, and it wants to be called by its whole path anyway.
    package("/usr/sbin/sshd", "openssh-server"),
];

pub(crate) const FOR_BENCH: &[Package] = &[
    package("cc", "gcc"),
    package("strace", "strace"),
    package("time", "time"),
];

/// The peer of captures and archives.
pub(crate) const PGBACKREST: Package = package("pgbackrest", "pgbackrest");
/// What makes TLS of what speaks none.
pub(crate) const STUNNEL: Package = package("stunnel", "stunnel4");

/// Installs the packages whose programs are missing.
pub(crate) fn ensure(packages: &[Package]) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|package| shell::find(package.program).is_none())
        .map(|package| package.debian)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        install(&missing)
    }
}

/// Installs Debian packages by their names, or says which ones are wanted.
pub(crate) fn install(names: &[&str]) -> Result<()> {
    let list = names.join(" ");
    if !is_debian() {
        return Err(Failure::new(format!(
            "please install what Debian calls: {list}"
        )));
    }
    println!("  installing {list}");
    // A fresh container has no package lists, and old ones name packages that are gone.
    shell::run(apt()?.args(["update", "-q"]))?;
    shell::run(
        apt()?
            .args(["install", "-q", "-y", "--no-install-recommends"])
            .args(names),
    )
}

/// Whether packages are Debian's, whatever the distribution calls itself.
pub(crate) fn is_debian() -> bool {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let of_kin = release.lines().any(|line| {
        line.split_once('=').is_some_and(|(key, value)| {
            (key == "ID" || key == "ID_LIKE")
                && value.trim_matches('"').split(' ').any(|id| id == "debian")
        })
    });
    of_kin && shell::find("apt-get").is_some()
}

fn apt() -> Result<Command> {
    let mut command = if is_root() {
        Command::new("apt-get")
    } else if shell::find("sudo").is_some() {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        sudo
    } else {
        return Err(Failure::new(
            "packages are missing, and neither root nor sudo is at hand to install them",
        ));
    };
    command.env("DEBIAN_FRONTEND", "noninteractive");
    Ok(command)
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

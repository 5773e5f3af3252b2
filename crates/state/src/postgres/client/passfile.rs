//! Passwords from a file as libpq keeps them: `host:port:database:user:password`, a line each.
//! It must never use a file that others may read, nor show what is in it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::address::{Address, Host, Secret};

/// A longer file is no list of passwords.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// A file of passwords that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PassfileError {
    /// It is there and can't be read.
    #[error("read the passwords in {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Somebody else may read it.
    #[error("{} may be read by others: `chmod 600` makes it usable", .0.display())]
    Open(PathBuf),
}

/// The password for an address (PostgreSQL manual, "The Password File"); none if the file is not there or names none.
///
/// # Errors
/// When the file is there and can't be used.
pub fn password_from(file: &Path, address: &Address) -> Result<Option<Secret>, PassfileError> {
    let failed = |cause| PassfileError::Read {
        path: file.to_path_buf(),
        cause,
    };
    let opened = match File::open(file) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let metadata = opened.metadata().map_err(failed)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(PassfileError::Open(file.to_path_buf()));
    }
    let mut text = String::new();
    opened
        .take(FILE_MAX_BYTES)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(find(&text, address))
}

fn find(text: &str, address: &Address) -> Option<Secret> {
    // The socket in its usual place is called by the name of this machine.
    let host = match &address.host {
        Host::Tcp(host) => host.clone(),
        Host::Socket(dir) if dir == Path::new(super::address::SOCKET_DIR) => "localhost".to_owned(),
        Host::Socket(dir) => dir.to_string_lossy().into_owned(),
    };
    let wanted = [
        host,
        address.port.to_string(),
        address.database.clone(),
        address.user.clone(),
    ];
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(fields).find_map(|fields| {
        let (password, known) = fields.split_last()?;
        let fits = |(known, wanted): (&String, &String)| known == "*" || known == wanted;
        let is_it = known.len() == wanted.len() && known.iter().zip(&wanted).all(fits);
        is_it.then(|| Secret(password.clone()))
    })
}

/// The fields of a line; a backslash takes what follows as it is, and so does the fifth field with colons.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut field, mut characters) = (Vec::new(), String::new(), line.chars());
    while let Some(character) = characters.next() {
        match character {
            '\\' => field.extend(characters.next()),
            ':' if fields.len() < 4 => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    fields.push(field);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, url: &str) -> Option<String> {
        let address = Address::parse(url, "me").expect("a URL");
        find(text, &address).map(|secret| secret.0)
    }

    #[test]
    fn the_first_line_that_fits_counts() {
        let text =
            "# a comment\ndb:5432:app:bob:one\ndb:*:*:bob:t\\:w:o\\\\\n*:*:*:*:rest\nshort:line";
        for (url, password) in [
            ("postgresql://bob@db/app", "one"),
            ("postgresql://bob@db:5433/app", "t:w:o\\"),
            ("postgresql://eve@db/app", "rest"),
        ] {
            assert_eq!(found(text, url).as_deref(), Some(password), "{url}");
        }
        assert_eq!(
            found("db:5432:app:bob:one", "postgresql://bob@db/other"),
            None
        );
        assert_eq!(
            found("localhost:5432:me:me:x", "postgresql://").as_deref(),
            Some("x")
        );
        assert_eq!(
            found("/run/pg:5432:me:me:x", "postgresql://?host=/run/pg").as_deref(),
            Some("x")
        );
    }

    #[test]
    fn a_file_that_others_may_read_is_not_used() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("pgpass");
        let address = Address::parse("postgresql://bob@db/app", "me").expect("a URL");
        assert!(password_from(&file, &address).expect("no file").is_none());
        std::fs::write(&file, "*:*:*:*:x\n").expect("a file");
        let set = |mode| {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("a mode")
        };
        set(0o640);
        assert!(matches!(
            password_from(&file, &address),
            Err(PassfileError::Open(_))
        ));
        set(0o600);
        assert_eq!(
            password_from(&file, &address).expect("a file"),
            Some(Secret("x".into()))
        );
    }
}

//! What fleets, apps, members and the rest may be called.
//! It must never let a name through that would be another path in a repository.

use crate::refusal::Refusal;

/// The longest name of a fleet: it stands where snapshots have the name of a host (RFC 1035, a label).
pub const FLEET_NAME_MAX_CHARS: usize = 63;
/// The longest name of anything else.
pub const NAME_MAX_CHARS: usize = 128;

/// [`check_fleet_name`] for editors.
pub(crate) const FLEET_NAME_PATTERN: &str = "^[._-]*[a-z0-9][a-z0-9._-]*$";
/// [`check_name`] for editors.
pub(crate) const NAME_PATTERN: &str = "^[._-]*[A-Za-z0-9][A-Za-z0-9._-]*$";
/// [`check_host`] for editors.
pub(crate) const HOST_PATTERN: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$";
/// [`check_variable`] for editors.
pub(crate) const VARIABLE_PATTERN: &str = "^[A-Za-z_][A-Za-z0-9_]*$";

/// Lets a fleet's name pass.
///
/// # Errors
/// When it is too long, or has other characters than small letters, digits, dots, dashes and underscores.
pub fn check_fleet_name(name: &str) -> Result<(), Refusal> {
    let fits = name.len() <= FLEET_NAME_MAX_CHARS;
    if fits && is_plain(name) && !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Ok(());
    }
    let hint = "write small letters, digits, dots, dashes and underscores, at most 63: `homelab`";
    Err(Refusal::unlike(name, "name of a fleet", hint))
}

/// Lets the name of an app, a member, a policy or a repository pass. The same names are allowed on the command line.
///
/// # Errors
/// When it is too long, or has other characters than letters, digits, dots, dashes and underscores, or no letter or digit.
pub fn check_name(name: &str) -> Result<(), Refusal> {
    if name.len() <= NAME_MAX_CHARS && is_plain(name) {
        return Ok(());
    }
    let hint = "write letters, digits, dots, dashes and underscores, at most 128";
    Err(Refusal::unlike(name, "name", hint))
}

/// Lets the name of a host pass.
pub(crate) fn check_host(name: &str) -> Result<(), Refusal> {
    let begins = name.starts_with(|first: char| first.is_ascii_alphanumeric());
    if name.len() <= 253 && begins && is_plain(name) {
        return Ok(());
    }
    let hint = "write the name that the machine calls itself, as `hostname` prints it";
    Err(Refusal::unlike(name, "name of a host", hint))
}

/// Lets the name of an environment variable pass.
pub(crate) fn check_variable(name: &str) -> Result<(), Refusal> {
    let begins = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if begins && name.bytes().all(plain) {
        return Ok(());
    }
    let hint = "write letters, digits and underscores, such as AWS_ACCESS_KEY_ID";
    // What stands here by mistake may be the value.
    Err(Refusal::new(
        "this is no name of an environment variable",
        hint,
    ))
}

fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    name.bytes().all(plain) && name.bytes().any(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for (name, fleet, other) in [
            ("homelab", true, true),
            ("a.b_c-9", true, true),
            ("Home", false, true),
            ("config.xml", true, true),
            ("..", false, false),
            ("", false, false),
            ("a/b", false, false),
            ("a b", false, false),
            ("ä", false, false),
        ] {
            assert_eq!(check_fleet_name(name).is_ok(), fleet, "{name}");
            assert_eq!(check_name(name).is_ok(), other, "{name}");
        }
        assert!(check_fleet_name(&"a".repeat(63)).is_ok());
        assert!(check_fleet_name(&"a".repeat(64)).is_err());
        assert!(check_name(&"a".repeat(129)).is_err());
    }
}

//! What a member is called: the app that it belongs to, and its name in it.
//! It must never let a name through that would be another path in the repository.

use std::fmt;
use std::str::FromStr;

use lifeboat_protect::path_of;

/// `APP/MEMBER`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberName {
    /// The app.
    pub app: String,
    /// Its name in the app.
    pub member: String,
}

impl MemberName {
    /// The path that captures of it have.
    pub fn path(&self) -> String {
        format!("{}/{}", path_of(&self.app), self.member)
    }
}

impl fmt::Display for MemberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.member)
    }
}

impl FromStr for MemberName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = |part: &str| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            part.bytes().all(is_plain) && part.bytes().any(|byte| byte.is_ascii_alphanumeric())
        };
        match text.split_once('/') {
            Some((app, member)) if is_name(app) && is_name(member) => Ok(Self {
                app: app.to_owned(),
                member: member.to_owned(),
            }),
            _ => Err(
                "it must be APP/MEMBER, of letters, digits, dots, dashes and underscores"
                    .to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_two_plain_words() {
        let name: MemberName = "memos/db-1".parse().unwrap();
        assert_eq!(
            (name.path().as_str(), name.to_string().as_str()),
            ("/apps/memos/db-1", "memos/db-1")
        );
        for wrong in [
            "", "memos", "/db", "memos/", "../x", "a/..", "a/b/c", "a b/c", "ä/b",
        ] {
            assert!(wrong.parse::<MemberName>().is_err(), "{wrong:?}");
        }
    }
}

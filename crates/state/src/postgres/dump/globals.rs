//! Roles as `pg_dumpall --globals-only` writes them, statement by statement, and which of them a server still lacks.
//! It must never change a role that is there, nor show a statement: passwords are in some.

use std::collections::BTreeSet;
use std::fmt;

/// A statement that is about a role.
#[derive(Clone, PartialEq, Eq)]
pub struct RoleStatement {
    /// The role that it makes or changes.
    pub role: String,
    /// Whether it makes it.
    pub makes: bool,
    /// The statement.
    pub sql: String,
}

impl fmt::Debug for RoleStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RoleStatement({:?}, makes: {})", self.role, self.makes)
    }
}

/// The roles and tablespaces of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Globals {
    /// What is said of roles, in its order.
    pub roles: Vec<RoleStatement>,
    /// The names of tablespaces.
    pub tablespaces: Vec<String>,
}

impl Globals {
    /// Reads what `pg_dumpall` wrote. What is neither about a role nor about a tablespace is passed over: settings of the
    /// session, and commands of `psql`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut globals = Self::default();
        for sql in statements(text) {
            let words = words(&sql);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let role = match words.as_slice() {
                ["CREATE" | "ALTER", "ROLE", role, ..] => Some(*role),
                ["COMMENT", "ON", "ROLE", role, ..] => Some(*role),
                ["SECURITY", "LABEL", ..] => behind(&words, "ROLE"),
                ["CREATE", "TABLESPACE", space, ..] => {
                    globals.tablespaces.push((*space).to_owned());
                    None
                }
                ["GRANT", .., "ON", "TABLESPACE", _, "TO", _] => None,
                ["GRANT", ..] if !words.contains(&"TABLESPACE") => behind(&words, "TO"),
                _ => None,
            };
            if let Some(role) = role {
                globals.roles.push(RoleStatement {
                    role: role.to_owned(),
                    makes: matches!(words.as_slice(), ["CREATE", ..]),
                    sql: sql.clone(),
                });
            }
        }
        globals
    }

    /// The statements for roles that are not there yet.
    #[must_use]
    pub fn lacking(&self, there: &BTreeSet<String>) -> Vec<RoleStatement> {
        let lacking = self.roles.iter();
        let lacking = lacking.filter(|statement| !there.contains(&statement.role));
        lacking.cloned().collect()
    }
}

/// The word behind the first of these keywords.
fn behind<'a>(words: &[&'a str], keyword: &str) -> Option<&'a str> {
    let at = words.iter().position(|word| *word == keyword)?;
    words.get(at + 1).copied()
}

/// Where the scanner is in a text of SQL.
#[derive(Clone, Copy, PartialEq, Eq)]
enum In {
    Nothing,
    /// `'…'`; the flag says whether a backslash escapes.
    Text(bool),
    Name,
    Comment,
}

/// The statements of a text, without comments and commands of `psql`.
fn statements(text: &str) -> Vec<String> {
    let (mut all, mut statement, mut state) = (Vec::new(), String::new(), In::Nothing);
    for line in text.split_inclusive('\n') {
        if state == In::Nothing && statement.trim().is_empty() && line.starts_with('\\') {
            continue;
        }
        let mut characters = line.chars().peekable();
        let mut before = ' ';
        while let Some(character) = characters.next() {
            match (state, character) {
                (In::Comment, '\n') => state = In::Nothing,
                (In::Comment, _) => {}
                (In::Nothing, ';') => {
                    all.push(std::mem::take(&mut statement).trim().to_owned());
                    continue;
                }
                (In::Nothing, '-') if characters.peek() == Some(&'-') => state = In::Comment,
                (In::Nothing, '\'') => state = In::Text(before == 'E'),
                (In::Nothing, '"') => state = In::Name,
                (In::Text(_), '\'') | (In::Name, '"') => state = In::Nothing,
                (In::Text(true), '\\') => {
                    statement.push(character);
                    statement.extend(characters.next());
                    continue;
                }
                _ => {}
            }
            if state != In::Comment {
                statement.push(character);
            }
            before = character;
        }
    }
    all.retain(|statement| !statement.is_empty());
    all
}

/// The words of a statement: names without their quotes, keywords as they stand. Texts are left out.
fn words(statement: &str) -> Vec<String> {
    let (mut words, mut word, mut characters) =
        (Vec::new(), String::new(), statement.chars().peekable());
    while let Some(character) = characters.next() {
        match character {
            '"' | '\'' => {
                let mut quoted = String::new();
                while let Some(inner) = characters.next() {
                    if inner == character && characters.next_if_eq(&character).is_none() {
                        break;
                    }
                    quoted.push(inner);
                }
                if character == '"' {
                    words.push(quoted);
                }
            }
            blank if blank.is_whitespace() || blank == ',' => {
                words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()));
            }
            other => word.push(other),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"--
-- it's a "comment;
--

\restrict hE7S;'x
SET default_transaction_read_only = off;
CREATE ROLE b;
ALTER ROLE b WITH LOGIN PASSWORD 'SCRAM;''x';
COMMENT ON ROLE b IS E'x\';
-- y';
CREATE ROLE "od;d'""x";
ALTER ROLE b SET search_path TO '$user', 'a b';
GRANT "od;d'""x" TO b WITH ADMIN OPTION GRANTED BY tester;
GRANT SET ON PARAMETER work_mem TO c;
CREATE TABLESPACE "t s" OWNER b LOCATION '/srv/ts';
GRANT ALL ON TABLESPACE "t s" TO b;
ALTER TABLESPACE "t s" SET (a=1);
\unrestrict x
"#;

    #[test]
    fn statements_are_told_by_their_role_and_existing_roles_are_left() {
        let globals = Globals::parse(TEXT);
        let roles: Vec<(&str, bool)> = globals
            .roles
            .iter()
            .map(|statement| (&*statement.role, statement.makes))
            .collect();
        let odd = "od;d'\"x";
        let expected = [
            ("b", true),
            ("b", false),
            ("b", false),
            (odd, true),
            ("b", false),
            ("b", false),
            ("c", false),
        ];
        assert_eq!(roles, expected);
        assert_eq!(globals.tablespaces, ["t s"]);
        assert_eq!(
            globals.roles[1].sql,
            "ALTER ROLE b WITH LOGIN PASSWORD 'SCRAM;''x'"
        );
        assert!(
            globals.roles[2].sql.ends_with("\n-- y'"),
            "{}",
            globals.roles[2].sql
        );
        let lacking = globals.lacking(&["b".to_owned(), "c".to_owned()].into());
        assert_eq!(lacking.len(), 1);
        assert_eq!(lacking[0].role, odd);
        assert!(!format!("{globals:?}").contains("SCRAM"));
    }
}

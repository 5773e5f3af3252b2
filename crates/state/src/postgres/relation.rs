//! The names of files that hold relations: the relation, its fork, and which gigabyte of it.
//! It must never take another file for one of these: what is left out with an unlogged relation must be nothing else.

/// What a file of a relation holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fork {
    /// The rows or entries themselves.
    Main,
    /// Where there is room.
    FreeSpace,
    /// What everybody can see.
    Visibility,
    /// What an unlogged relation begins with after a crash.
    Init,
}

/// A relation by the number that its files are named by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Relation {
    /// Its file number.
    pub number: u32,
    /// Whether it belongs to one session alone, and is gone with it.
    pub is_temporary: bool,
}

/// A file of a relation (PostgreSQL manual, "Database File Layout").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationFile {
    /// Of which relation.
    pub relation: Relation,
    /// Which of its forks.
    pub fork: Fork,
    /// Which file of the fork, from 0; each but the last has as many pages as the server was built for.
    pub part: u32,
}

impl RelationFile {
    /// From the name of a file in the directory of a database.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        let name = std::str::from_utf8(name).ok()?;
        let (name, part) = match name.split_once('.') {
            // The first has no number.
            Some((name, part)) => (name, number(part).filter(|part| *part > 0)?),
            None => (name, 0),
        };
        let (name, is_temporary) = match name.strip_prefix('t') {
            Some(rest) => {
                let (session, rest) = rest.split_once('_')?;
                number(session)?;
                (rest, true)
            }
            None => (name, false),
        };
        let (name, fork) = match name.split_once('_') {
            None => (name, Fork::Main),
            Some((name, "fsm")) => (name, Fork::FreeSpace),
            Some((name, "vm")) => (name, Fork::Visibility),
            Some((name, "init")) => (name, Fork::Init),
            Some(_) => return None,
        };
        let relation = Relation {
            number: number(name)?,
            is_temporary,
        };
        Some(Self {
            relation,
            fork,
            part,
        })
    }
}

/// A number as the server writes them: without a sign or zeros before it.
pub(super) fn number(text: &str) -> Option<u32> {
    let is_number =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(name: &str) -> Option<(u32, bool, Fork, u32)> {
        let file = RelationFile::parse(name.as_bytes())?;
        let Relation {
            number,
            is_temporary,
        } = file.relation;
        Some((number, is_temporary, file.fork, file.part))
    }

    #[test]
    fn names_tell_relation_fork_and_part() {
        assert_eq!(parsed("16384"), Some((16384, false, Fork::Main, 0)));
        assert_eq!(parsed("16384.12"), Some((16384, false, Fork::Main, 12)));
        assert_eq!(parsed("1259_fsm"), Some((1259, false, Fork::FreeSpace, 0)));
        assert_eq!(
            parsed("1259_vm.1"),
            Some((1259, false, Fork::Visibility, 1))
        );
        assert_eq!(parsed("16384_init"), Some((16384, false, Fork::Init, 0)));
        assert_eq!(parsed("t3_16390"), Some((16390, true, Fork::Main, 0)));
        assert_eq!(
            parsed("t3_16390_fsm.2"),
            Some((16390, true, Fork::FreeSpace, 2))
        );
    }

    #[test]
    fn all_other_names_are_no_relations() {
        for name in [
            "",
            "PG_VERSION",
            "pg_filenode.map",
            "pg_control",
            "16384_old",
            "16384.old",
            "16384.0",
            "16384.",
            "016384",
            "+1",
            "t_1",
            "t3",
            "t3_",
            "16384_fsm_vm",
            "99999999999",
            "16384.1.2",
            "16384 ",
        ] {
            assert_eq!(parsed(name), None, "{name:?}");
        }
        assert_eq!(RelationFile::parse(b"1\xff"), None);
    }
}

//! A list of tags that count together, as `--tag a,b` and `--keep-tag a,b` take it.
//! It must never be mistaken for a snapshot's own tags: an empty tag here stands for having none.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// Tags that a snapshot must have all of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagList(pub Vec<String>);

impl TagList {
    /// Whether a snapshot with these tags has all of the list's.
    ///
    /// An empty tag is had by a snapshot without any, and then what follows in the list is not asked for; a list
    /// without tags is had by every snapshot. Both as in restic.
    #[must_use]
    pub fn is_in(&self, tags: &[String]) -> bool {
        for tag in &self.0 {
            if tag.is_empty() && tags.is_empty() {
                return true;
            }
            if !tags.contains(tag) {
                return false;
            }
        }
        true
    }

    /// Whether one of the lists is in these tags, or there is no list to ask for.
    #[must_use]
    pub fn any_in(lists: &[Self], tags: &[String]) -> bool {
        lists.is_empty() || lists.iter().any(|list| list.is_in(tags))
    }

    /// The tags of all lists without the empty ones: what a backup gives its snapshot.
    #[must_use]
    pub fn flatten(lists: &[Self]) -> Vec<String> {
        lists
            .iter()
            .flat_map(|list| &list.0)
            .filter(|tag| !tag.is_empty())
            .cloned()
            .collect()
    }
}

impl FromStr for TagList {
    type Err = Infallible;

    /// Tags are separated by commas, and white space around them does not count.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(
            text.split(',').map(|tag| tag.trim().to_owned()).collect(),
        ))
    }
}

impl fmt::Display for TagList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", self.0.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::samples::strings;

    fn list(text: &str) -> TagList {
        let Ok(list) = text.parse();
        list
    }

    #[test]
    fn lists_are_read_and_shown_as_by_restic() {
        assert_eq!(list(" a , b,,c ").0, ["a", "b", "", "c"]);
        assert_eq!(list("").0, [""]);
        assert_eq!(list("a,b").to_string(), "[a, b]");
    }

    #[test]
    fn all_tags_of_a_list_are_asked_for() {
        for (wanted, tags, expected) in [
            ("a", &["a", "b"][..], true),
            ("a,b", &["b", "a"], true),
            ("a,c", &["a", "b"], false),
            ("a", &[], false),
            ("", &[], true),
            ("", &["a"], false),
            ("", &[""], true),
            // The order decides, because an empty tag ends the questions.
            (",a", &[], true),
            ("a,", &[], false),
        ] {
            assert_eq!(
                list(wanted).is_in(&strings(tags)),
                expected,
                "{wanted:?} {tags:?}"
            );
        }
        assert!(TagList::default().is_in(&[]));
    }

    #[test]
    fn one_list_of_several_is_enough() {
        let lists = [list("a,b"), list("c")];
        assert!(TagList::any_in(&lists, &strings(&["c"])));
        assert!(!TagList::any_in(&lists, &strings(&["a"])));
        assert!(TagList::any_in(&[], &[]));
        assert_eq!(
            TagList::flatten(&[list("a,,b"), list(""), list("a")]),
            ["a", "b", "a"]
        );
    }
}

//! A list of patterns, asked once for each path of a backup or a restore.
//! It must never allocate for ordinary paths: it is asked hundreds of thousands of times.

use crate::pattern::{Case, Components, Pattern, fold};
use crate::pattern_error::PatternError;

/// Components of a path that need no memory of their own; deeper paths are rare.
const STACK_COMPONENTS: usize = 64;

/// What a set says about a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// The path is matched: to exclude or to include, as the set is used.
    pub matched: bool,
    /// Something below the path may be matched. Only of use for including: below an excluded directory a backup
    /// looks at nothing, even if a later pattern takes something there back.
    pub child_may_match: bool,
}

/// Patterns in their order. Those that tell case apart and those that don't are two lists, each with its own order,
/// and a path is matched if either list matches it (restic's `--exclude` and `--iexclude`).
#[derive(Clone, Debug, Default)]
pub struct PatternSet {
    sensitive: Vec<Pattern>,
    insensitive: Vec<Pattern>,
}

impl PatternSet {
    /// A set of these patterns; without patterns it matches nothing.
    #[must_use]
    pub fn new(patterns: Vec<Pattern>) -> Self {
        let (sensitive, insensitive) = patterns
            .into_iter()
            .partition(|pattern| pattern.case() == Case::Sensitive);
        Self {
            sensitive,
            insensitive,
        }
    }

    /// A set of patterns as they come from a command line; empty ones are left out, as restic does.
    ///
    /// # Errors
    /// [`PatternError`] for the first malformed pattern.
    pub fn parse<T: AsRef<[u8]>>(
        texts: impl IntoIterator<Item = T>,
        case: Case,
    ) -> Result<Self, PatternError> {
        let mut patterns = Vec::new();
        for text in texts {
            if !text.as_ref().is_empty() {
                patterns.push(Pattern::parse(text.as_ref(), case)?);
            }
        }
        Ok(Self::new(patterns))
    }

    /// Whether there is nothing to match by.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sensitive.is_empty() && self.insensitive.is_empty()
    }

    /// What the set says about a path.
    ///
    /// Paths of a backup are absolute and clean, and so are those inside a snapshot: they begin with a slash and end
    /// without one. A path without bytes is matched by nothing. A path that the user named to be backed up is not to
    /// be asked about, nor what lies above it: what is asked for is never excluded (restic 0.19).
    #[must_use]
    pub fn decide(&self, path: &[u8]) -> Match {
        let mut answer = decide_by(&self.sensitive, path);
        if !self.insensitive.is_empty() {
            let other = decide_by(&self.insensitive, &fold(path, Case::Insensitive));
            answer.matched |= other.matched;
            answer.child_may_match |= other.child_may_match;
        }
        answer
    }
}

fn decide_by(patterns: &[Pattern], path: &[u8]) -> Match {
    if patterns.is_empty() || path.is_empty() {
        return Match::default();
    }
    with_components(path, |path| {
        let mut answer = Match::default();
        for pattern in patterns {
            // Each pattern can only change the answer in one direction; what can't change it is not asked.
            if pattern.is_negated() {
                if (answer.matched || answer.child_may_match) && pattern.matches(path) {
                    answer = Match::default();
                }
            } else {
                answer.matched = answer.matched || pattern.matches(path);
                answer.child_may_match = answer.child_may_match || pattern.child_may_match(path);
            }
        }
        answer
    })
}

/// Takes a path apart and hands its components on.
fn with_components<R>(path: &[u8], then: impl FnOnce(Components<'_>) -> R) -> R {
    let (rooted, path) = match path.strip_prefix(b"/") {
        Some(rest) => (true, rest),
        None => (false, path),
    };
    let mut names = path.split(|byte| *byte == b'/');
    let mut stack: [&[u8]; STACK_COMPONENTS] = [&[]; STACK_COMPONENTS];
    let mut used = 0;
    for slot in &mut stack {
        let Some(name) = names.next() else {
            break;
        };
        *slot = name;
        used += 1;
    }
    let taken = stack.get(..used).unwrap_or_default();
    match names.next() {
        None => then(Components {
            rooted,
            names: taken,
        }),
        Some(next) => {
            let all: Vec<&[u8]> = taken.iter().copied().chain([next]).chain(names).collect();
            then(Components {
                rooted,
                names: &all,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(patterns: &[&str]) -> PatternSet {
        PatternSet::parse(patterns, Case::Sensitive).unwrap()
    }

    fn matched(patterns: &[&str], path: &str) -> bool {
        set(patterns).decide(path.as_bytes()).matched
    }

    #[test]
    fn each_rule_is_kept() {
        for (pattern, path, expected) in [
            ("foo", "/foo", true),
            ("foo", "/a/foo", true),
            ("foo", "/a/foo/b/c", true),
            ("foo", "/a/foobar", false),
            ("foo", "foo", true),
            ("/foo", "/foo/a", true),
            ("/foo", "/a/foo", false),
            ("/foo", "foo", false),
            ("foo/bar", "/a/foo/bar/b", true),
            ("foo/bar", "/a/foo/x/bar", false),
            ("foo/", "/a/foo", true),
            ("./foo", "/a/foo", true),
            ("foo/../bar", "/a/bar", true),
            ("foo/*", "/foo", false),
            ("foo/*", "/foo/a/b", true),
            ("*.go", "/a/b.go/c", true),
            ("*.go", "/a/b.gone", false),
            ("/*/*.go", "/a/b.go", true),
            ("/*/*.go", "/a/b/c.go", false),
            ("/a/**/c", "/a/c", true),
            ("/a/**/c", "/a/b/b/c/d", true),
            ("/a/**/c", "/b/a/c", false),
            ("a/**/c", "/x/a/y/c", true),
            ("a/**/b/**/c", "/a/b/c", true),
            ("a/**/b/**/c", "/a/c/b/c", true),
            ("a/**/b/**/c", "/a/c/b", false),
            ("a/**", "/a", true),
            ("a/**", "/b", false),
            ("**/a", "/x/a", true),
            ("**/a", "a", true),
            ("/**/a", "/a", true),
            ("**", "/", true),
            ("**", "a", true),
            ("/", "/", true),
            ("/", "/a", true),
            ("/", "a", false),
            ("/**", "a", false),
            ("**/a/**", "/a", true),
            ("**/a/**", "a", false),
            ("/**/a/**", "/x/a", false),
            ("/**/a/**", "/x/a/y", true),
            ("a**", "/ab/c", true),
            ("a**b", "/a/b", false),
            ("", "/a", false),
            ("*", "/", true),
            ("*", "/a", true),
            ("?", "/", false),
            ("foo ", "/foo", false),
        ] {
            assert_eq!(matched(&[pattern], path), expected, "{pattern:?} {path}");
        }
    }

    #[test]
    fn a_later_pattern_takes_back_and_an_earlier_one_does_not() {
        assert!(!matched(&["*.c", "!main.c"], "/src/main.c"));
        assert!(matched(&["*.c", "!main.c"], "/src/other.c"));
        assert!(matched(&["!main.c", "*.c"], "/src/main.c"));
        assert!(matched(&["*.c", "!main.c", "/src"], "/src/main.c"));
        assert!(!matched(&["!main.c"], "/src/main.c"));
        assert!(!matched(&["a", "!a/b"], "/a/b/c"));
    }

    #[test]
    fn children_may_match_where_a_rooted_pattern_still_can() {
        let may =
            |patterns: &[&str], path: &str| set(patterns).decide(path.as_bytes()).child_may_match;
        for (pattern, path, expected) in [
            ("foo", "/x", true),
            ("/a/b/c", "/", true),
            ("/a/b/c", "/a", true),
            ("/a/b/c", "/a/b", true),
            ("/a/b/c", "/a/x", false),
            ("/a/b/c", "/a/b/c/d", true),
            ("/a/b/c", "/a/b/x/d", false),
            ("/a/**/c", "/a/x/y", true),
            ("/a/**/c", "/b", false),
            ("/*/b", "/x", true),
            ("/*/b", "/x/c", false),
            ("/a", "a", false),
        ] {
            assert_eq!(may(&[pattern], path), expected, "{pattern} {path}");
        }
        assert!(!may(&["/a/b", "!/a"], "/a"));
        assert!(may(&["!/a", "/a/b"], "/a"));
        assert!(!may(&["!a"], "/b"));
        assert!(!may(&[], "/b"));
    }

    #[test]
    fn case_counts_where_it_was_asked_for() {
        let patterns = vec![
            Pattern::parse("Ärger*".as_bytes(), Case::Insensitive).unwrap(),
            Pattern::parse(b"Foo", Case::Sensitive).unwrap(),
            // A list of its own: it takes nothing back from the list that ignores case.
            Pattern::parse("!*".as_bytes(), Case::Sensitive).unwrap(),
        ];
        let set = PatternSet::new(patterns);
        assert!(set.decide("/x/äRGERLICH".as_bytes()).matched);
        assert!(!set.decide(b"/x/Foo").matched);
        let set = PatternSet::parse(["[A-C]x"], Case::Insensitive).unwrap();
        assert!(set.decide(b"/BX").matched);
    }

    #[test]
    fn depth_has_no_limit() {
        for depth in [
            STACK_COMPONENTS - 1,
            STACK_COMPONENTS,
            STACK_COMPONENTS + 1,
            500,
        ] {
            let path = format!("{}/end", "/d".repeat(depth));
            assert!(matched(&["end"], &path), "{depth}");
            assert!(matched(&["/d/**/d/end"], &path), "{depth}");
            assert!(!matched(&["/d/d/end"], &path), "{depth}");
        }
    }

    #[test]
    fn names_need_not_be_utf8() {
        let set = PatternSet::parse([b"/a/\xff*".as_slice()], Case::Sensitive).unwrap();
        assert!(set.decide(b"/a/\xff\xfe/x").matched);
        assert!(!set.decide(b"/a/\xfe").matched);
    }

    /// The definition: the first `**` is written out as no, one, two … stars, as long as the parts are no more than
    /// the names (the root is both a part and a name), then the next, and the result is looked for anywhere.
    fn naive(pattern: &[&str], names: &[&str]) -> bool {
        if let Some(at) = pattern.iter().position(|part| *part == "**") {
            let limit = (names.len() + 1).checked_sub(pattern.len());
            return limit.is_some_and(|limit| {
                (0..=limit).any(|times| {
                    let stars = vec!["*"; times];
                    naive(
                        &[&pattern[..at], &stars, &pattern[at + 1..]].concat(),
                        names,
                    )
                })
            });
        }
        if pattern.is_empty() {
            return false;
        }
        let places = if pattern[0] == "/" {
            0..1
        } else {
            1..names.len()
        };
        let same = |part: &str, name: &str| part == name || (part == "*" && name != "/");
        places.into_iter().any(|at| {
            let here = names.get(at..at + pattern.len());
            here.is_some_and(|here| {
                pattern
                    .iter()
                    .zip(here)
                    .all(|(part, name)| same(part, name))
            })
        })
    }

    fn with_root(path: &str) -> Vec<&str> {
        match path.strip_prefix('/') {
            Some(rest) => std::iter::once("/").chain(rest.split('/')).collect(),
            None => path.split('/').collect(),
        }
    }

    proptest! {
        #[test]
        fn double_stars_mean_what_they_are_defined_as(
            pattern in "/?(a|b|\\*|\\*\\*)(/(a|b|\\*|\\*\\*)){0,3}",
            path in "(/[abc]){1,5}",
        ) {
            prop_assert_eq!(matched(&[&pattern], &path), naive(&with_root(&pattern), &with_root(&path)));
        }

        #[test]
        fn what_lies_below_a_match_matches_and_says_so(
            pattern in "/?(a|b|\\*|\\*\\*|\\?)(/(a|b|\\*|\\*\\*)){0,3}",
            path in "(/[abc]){1,4}",
            child in "[abc]",
        ) {
            let set = set(&[&pattern]);
            let here = set.decide(path.as_bytes());
            let below = set.decide(format!("{path}/{child}").as_bytes());
            prop_assert!(!here.matched || below.matched);
            prop_assert!(!here.matched || here.child_may_match);
            // Else a restore would not go down to what it should bring back.
            prop_assert!(!below.matched || here.child_may_match);
        }

        #[test]
        fn no_input_panics(pattern: Vec<u8>, path: Vec<u8>, insensitive: bool) {
            let case = if insensitive { Case::Insensitive } else { Case::Sensitive };
            if let Ok(set) = PatternSet::parse([&pattern], case) {
                let _ = set.decide(&path);
            }
        }
    }
}

//! One pattern of restic's language for excluding and including paths, compiled.
//! It must never take a path apart itself: the set does that once for all of its patterns.
//!
//! A pattern without a leading slash may begin at any component, `**` stands for any run of components, also an
//! empty one, and what lies below a match matches too (restic's documentation, "Excluding Files").

use std::borrow::Cow;

use crate::clean::clean_path;
use crate::glob::{Glob, first_character};
use crate::pattern_error::{PatternError, PatternFault};

/// Whether upper and lower case are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// `A` is not `a`.
    Sensitive,
    /// `A` is `a`, by Unicode's simple mapping to lower case, as for restic's `--iexclude`.
    Insensitive,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Vec<u8>,
    case: Case,
    negated: bool,
    rooted: bool,
    /// Runs of components, in order, with any number of components between two of them. The first run of a rooted
    /// pattern stands at the root; it may be empty.
    runs: Vec<Vec<Part>>,
}

#[derive(Clone, Debug)]
enum Part {
    Literal(Vec<u8>),
    Glob(Glob),
}

/// A path taken apart: whether it begins at the root, and its components.
#[derive(Clone, Copy)]
pub(crate) struct Components<'a> {
    pub(crate) rooted: bool,
    pub(crate) names: &'a [&'a [u8]],
}

impl Pattern {
    /// Compiles a pattern; a leading `!` takes matches back.
    ///
    /// # Errors
    /// [`PatternError`] when the pattern is empty or malformed. restic accepts some malformed patterns and warns
    /// later, once a name reaches the fault; here they are refused at once.
    pub fn parse(text: &[u8], case: Case) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::new(text, PatternFault::Empty));
        }
        // What is wrong is told in the words of the one who wrote it, so before letters are changed.
        Self::compile(text, text, case)?;
        Self::compile(text, &fold(text, case), case)
    }

    fn compile(original: &[u8], text: &[u8], case: Case) -> Result<Self, PatternError> {
        let (negated, text) = match text.strip_prefix(b"!") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let cleaned = clean_path(text);
        let (rooted, path) = match cleaned.strip_prefix(b"/") {
            Some(rest) => (true, rest),
            None => (false, cleaned.as_slice()),
        };
        let mut runs = Vec::new();
        let mut run = Vec::new();
        for name in path.split(|byte| *byte == b'/') {
            // The root alone has one empty name, which restic takes for `**`: all below the root.
            if name.is_empty() || name == b"**" {
                runs.push(std::mem::take(&mut run));
            } else {
                let part = Part::parse(name).map_err(|fault| PatternError::new(original, fault))?;
                run.push(part);
            }
        }
        runs.push(run);
        Ok(Self {
            text: original.to_vec(),
            case,
            negated,
            rooted,
            runs,
        })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Whether upper and lower case are told apart.
    #[must_use]
    pub fn case(&self) -> Case {
        self.case
    }

    /// Whether it takes back what patterns before it matched.
    #[must_use]
    pub fn is_negated(&self) -> bool {
        self.negated
    }

    /// Whether the path, or a directory above it, matches.
    pub(crate) fn matches(&self, path: Components<'_>) -> bool {
        let starts = if !self.rooted {
            0..=path.names.len()
        } else if path.rooted {
            0..=0
        } else {
            return false;
        };
        let Some(spare) = self.spare_names(path) else {
            return false;
        };
        starts
            .into_iter()
            .any(|start| self.matches_from(start, path.names, spare))
    }

    /// How many names are left for the `**` when every other part has one; the root counts as a name.
    fn spare_names(&self, path: Components<'_>) -> Option<usize> {
        let fixed: usize = self.runs.iter().map(Vec::len).sum();
        let there = path.names.len() + usize::from(path.rooted);
        there.checked_sub(fixed + usize::from(self.rooted))
    }

    /// Whether the first run stands at `start` and the others follow, each at the first place where it fits. The
    /// first place is the best, as whatever follows is free to lie further down.
    ///
    /// restic takes a `**` for as many names as are spare, less one for each `**` that is still to come. Thus
    /// `/**/cache/**` matches what is in a directory `cache` but not the directory, which `/**/cache` does.
    fn matches_from(&self, start: usize, names: &[&[u8]], spare: usize) -> bool {
        let Some((first, others)) = self.runs.split_first() else {
            return false;
        };
        let Some(mut left) = names.get(start..).and_then(|names| after(names, first)) else {
            return false;
        };
        let mut skipped = 0;
        let mut to_come = others.len();
        for run in others {
            let found = (0..=left.len()).find_map(|gap| Some((gap, after(left.get(gap..)?, run)?)));
            let Some((gap, behind)) = found else {
                return false;
            };
            left = behind;
            skipped += gap;
            to_come -= 1;
            if skipped + to_come > spare {
                return false;
            }
        }
        true
    }

    /// Whether something below the path can match, so that a walk for what is included must go down there.
    pub(crate) fn child_may_match(&self, path: Components<'_>) -> bool {
        if !self.rooted {
            return true;
        }
        let head = self.runs.first().map(Vec::as_slice).unwrap_or_default();
        // The root itself, which restic never asks about: everything lies below it.
        let is_root = path.names == [b"".as_slice()];
        path.rooted
            && (is_root
                || head
                    .iter()
                    .zip(path.names)
                    .all(|(part, name)| part.matches(name)))
    }
}

/// What follows a run that stands at the beginning of `names`.
fn after<'a, 'b>(names: &'b [&'a [u8]], run: &[Part]) -> Option<&'b [&'a [u8]]> {
    let (here, behind) = names.split_at_checked(run.len())?;
    let fits = run.iter().zip(here).all(|(part, name)| part.matches(name));
    fits.then_some(behind)
}

impl Part {
    fn parse(name: &[u8]) -> Result<Self, PatternFault> {
        if name.iter().any(|byte| b"\\[]*?".contains(byte)) {
            Ok(Self::Glob(Glob::parse(name)?))
        } else {
            Ok(Self::Literal(name.to_vec()))
        }
    }

    fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::Literal(literal) => literal == name,
            Self::Glob(glob) => glob.matches(name),
        }
    }
}

/// The bytes in lower case where case does not count.
///
/// As Go's `strings.ToLower`: one character becomes one character, and in a text with anything beyond ASCII each
/// byte that is no part of UTF-8 becomes U+FFFD.
pub(crate) fn fold(bytes: &[u8], case: Case) -> Cow<'_, [u8]> {
    if case == Case::Sensitive
        || bytes
            .iter()
            .all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase())
    {
        return Cow::Borrowed(bytes);
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((character, after)) = first_character(rest) {
        let lower = lower(character.unwrap_or(char::REPLACEMENT_CHARACTER));
        out.extend_from_slice(lower.encode_utf8(&mut [0; 4]).as_bytes());
        rest = after;
    }
    Cow::Owned(out)
}

fn lower(character: char) -> char {
    // The one character whose full mapping is longer than one character: İ becomes i with a dot above.
    character.to_lowercase().next().unwrap_or(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_marks_are_kept() {
        let pattern = Pattern::parse(b"!Foo/", Case::Insensitive).unwrap();
        assert_eq!(pattern.text(), b"!Foo/");
        assert!(pattern.is_negated());
        assert_eq!(pattern.case(), Case::Insensitive);
    }

    #[test]
    fn faults_show_the_pattern_as_it_was_written() {
        let error = Pattern::parse(b"!A/B[/c", Case::Insensitive).unwrap_err();
        assert_eq!(error.pattern, "!A/B[/c");
        assert_eq!(error.fault, PatternFault::UnclosedClass);
        let error = Pattern::parse(b"", Case::Sensitive).unwrap_err();
        assert_eq!(error.fault, PatternFault::Empty);
        let error = Pattern::parse(b"[\xff]", Case::Insensitive).unwrap_err();
        assert_eq!(error.fault, PatternFault::ClassNotUtf8);
    }

    #[test]
    fn folding_is_go_s() {
        let fold = |bytes| fold(bytes, Case::Insensitive).into_owned();
        assert_eq!(fold(b"aB/C1"), b"ab/c1");
        assert_eq!(fold("ÄÖÜ".as_bytes()), "äöü".as_bytes());
        assert_eq!(fold("İΣ".as_bytes()), "iσ".as_bytes());
        assert_eq!(fold(b"A\xffB"), b"a\xef\xbf\xbdb");
    }
}

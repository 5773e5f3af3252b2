//! A pattern for one name of a path, with the meaning of Go's `filepath.Match`, compiled once and matched often.
//! It must never allocate while matching, and never see a slash: the caller takes paths apart.

use crate::pattern_error::PatternFault;

/// A compiled pattern for one name.
#[derive(Clone, Debug)]
pub struct Glob {
    chunks: Vec<Chunk>,
    /// Whether the pattern ends in `*`.
    open_end: bool,
}

/// What stands between two stars.
#[derive(Clone, Debug)]
struct Chunk {
    after_star: bool,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    /// Plain bytes, which most patterns consist of.
    Literal(Vec<u8>),
    Tokens(Vec<Token>),
}

#[derive(Clone, Debug)]
enum Token {
    Byte(u8),
    /// `?`: one character, or one byte that is no part of UTF-8.
    AnyCharacter,
    Class {
        negated: bool,
        /// Inclusive ranges; one that ends before it begins holds nothing.
        ranges: Vec<(char, char)>,
    },
}

impl Glob {
    /// Compiles a pattern for one name.
    ///
    /// Go notices some faults only when a name gets as far as the fault; here each is found at once, because a
    /// pattern that works for some names only protects nobody.
    ///
    /// # Errors
    /// When it has no meaning; the fault says why.
    pub fn parse(mut pattern: &[u8]) -> Result<Self, PatternFault> {
        let mut chunks = Vec::new();
        let mut tokens = Vec::new();
        let mut after_star = false;
        while let Some((&first, rest)) = pattern.split_first() {
            pattern = rest;
            match first {
                b'*' => {
                    if !tokens.is_empty() {
                        chunks.push(Chunk::new(after_star, std::mem::take(&mut tokens)));
                    }
                    after_star = true;
                }
                b'?' => tokens.push(Token::AnyCharacter),
                b'[' => {
                    let (class, rest) = parse_class(pattern)?;
                    tokens.push(class);
                    pattern = rest;
                }
                b'\\' => {
                    let (&escaped, rest) =
                        pattern.split_first().ok_or(PatternFault::DanglingEscape)?;
                    tokens.push(Token::Byte(escaped));
                    pattern = rest;
                }
                byte => tokens.push(Token::Byte(byte)),
            }
        }
        let open_end = tokens.is_empty() && after_star;
        if !tokens.is_empty() {
            chunks.push(Chunk::new(after_star, tokens));
        }
        Ok(Self { chunks, open_end })
    }

    /// Whether the whole name matches.
    ///
    /// Each chunk takes the first place where it fits. That is as good as trying all of them, because a later chunk
    /// never needs an earlier one further right.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        let mut rest = name;
        let mut left = self.chunks.len();
        for chunk in &self.chunks {
            left -= 1;
            let to_the_end = left == 0 && !self.open_end;
            match chunk.consume(rest, to_the_end) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        self.open_end || rest.is_empty()
    }
}

impl Chunk {
    fn new(after_star: bool, tokens: Vec<Token>) -> Self {
        let bytes = tokens.iter().map(|token| match token {
            Token::Byte(byte) => Some(*byte),
            _ => None,
        });
        let body = match bytes.collect() {
            Some(bytes) => Body::Literal(bytes),
            None => Body::Tokens(tokens),
        };
        Self { after_star, body }
    }

    /// What is left of `name` behind the first place where the chunk fits, or behind the one that ends the name.
    fn consume<'a>(&self, name: &'a [u8], to_the_end: bool) -> Option<&'a [u8]> {
        let fits = |rest: &&[u8]| !to_the_end || rest.is_empty();
        match (&self.body, self.after_star) {
            (Body::Literal(bytes), false) => name.strip_prefix(bytes.as_slice()).filter(fits),
            (Body::Literal(bytes), true) if to_the_end => {
                name.ends_with(bytes).then_some(&[] as &[u8])
            }
            (body, false) => body.strip_from(name).filter(fits),
            // Also places within a character are tried, as Go moves on byte by byte.
            (body, true) => (0..=name.len())
                .filter_map(|start| body.strip_from(name.get(start..)?))
                .find(fits),
        }
    }
}

impl Body {
    /// What is left of `name` if it begins with this.
    fn strip_from<'a>(&self, name: &'a [u8]) -> Option<&'a [u8]> {
        match self {
            Self::Literal(bytes) => name.strip_prefix(bytes.as_slice()),
            Self::Tokens(tokens) => {
                let mut rest = name;
                for token in tokens {
                    rest = token.strip_from(rest)?;
                }
                Some(rest)
            }
        }
    }
}

impl Token {
    fn strip_from<'a>(&self, name: &'a [u8]) -> Option<&'a [u8]> {
        match self {
            Self::Byte(byte) => name
                .split_first()
                .filter(|(first, _)| *first == byte)
                .map(|(_, rest)| rest),
            Self::AnyCharacter => first_character(name).map(|(_, rest)| rest),
            Self::Class { negated, ranges } => {
                let (found, rest) = first_character(name)?;
                let found = found.unwrap_or(char::REPLACEMENT_CHARACTER);
                let within = ranges
                    .iter()
                    .any(|(low, high)| (*low..=*high).contains(&found));
                (within != *negated).then_some(rest)
            }
        }
    }
}

/// Reads a class behind its `[`, and gives it with what follows its `]`.
fn parse_class(mut pattern: &[u8]) -> Result<(Token, &[u8]), PatternFault> {
    let negated = pattern.first() == Some(&b'^');
    if negated {
        pattern = pattern.get(1..).unwrap_or_default();
    }
    let mut ranges = Vec::new();
    loop {
        if let (Some(b']'), false) = (pattern.first(), ranges.is_empty()) {
            let rest = pattern.get(1..).unwrap_or_default();
            return Ok((Token::Class { negated, ranges }, rest));
        }
        let (low, rest) = parse_member(pattern, PatternFault::EmptyClass)?;
        pattern = rest;
        let mut high = low;
        if let Some((b'-', rest)) = pattern.split_first() {
            (high, pattern) = parse_member(rest, PatternFault::StrayHyphen)?;
        }
        ranges.push((low, high));
    }
}

/// Reads a character of a class; `when_closed` is what a `]` here means.
fn parse_member(pattern: &[u8], when_closed: PatternFault) -> Result<(char, &[u8]), PatternFault> {
    let pattern = match pattern {
        [] => return Err(PatternFault::UnclosedClass),
        [b'-', ..] => return Err(PatternFault::StrayHyphen),
        [b']', ..] => return Err(when_closed),
        [b'\\', rest @ ..] => rest,
        _ => pattern,
    };
    match first_character(pattern) {
        None => Err(PatternFault::UnclosedClass),
        Some((None, _)) => Err(PatternFault::ClassNotUtf8),
        Some((Some(character), rest)) => Ok((character, rest)),
    }
}

/// The first character and the rest; a byte that is no part of UTF-8 counts as one, without a value.
pub(crate) fn first_character(bytes: &[u8]) -> Option<(Option<char>, &[u8])> {
    /// Bytes of the longest character in UTF-8.
    const CHARACTER_MAX_BYTES: usize = 4;
    let (&first, rest) = bytes.split_first()?;
    if first.is_ascii() {
        return Some((Some(char::from(first)), rest));
    }
    let window = bytes.get(..CHARACTER_MAX_BYTES).unwrap_or(bytes);
    let valid = match std::str::from_utf8(window) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(window.get(..error.valid_up_to())?).unwrap_or_default(),
    };
    match valid.chars().next() {
        Some(character) => Some((Some(character), bytes.get(character.len_utf8()..)?)),
        None => Some((None, rest)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Glob::parse(pattern.as_bytes())
            .unwrap()
            .matches(name.as_bytes())
    }

    /// Go's own table of `filepath.Match`, as far as it is about one name.
    #[test]
    fn go_s_examples_hold() {
        for (pattern, name, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "abc", true),
            ("*x", "xxx", true),
            ("a*b*c*d*e*", "axbxcxdxe", true),
            ("a*b*c*d*e*", "axbxcxdxexxx", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^b-d]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("a[^a][^a][^a]b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "x", true),
            ("[x\\-]", "-", true),
            ("[x\\-]", "z", false),
            ("[\\-x]", "x", true),
            ("[\\-x]", "-", true),
            ("[\\-x]", "a", false),
            ("*x", "", false),
            ("[b-a]", "a", false),
            ("[!a]", "!", true),
            ("[[]", "[", true),
            ("a]", "a]", true),
            ("{a,b}", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn each_fault_is_named() {
        use PatternFault::*;
        for (pattern, fault) in [
            ("a\\", DanglingEscape),
            ("[", UnclosedClass),
            ("[^", UnclosedClass),
            ("[^bc", UnclosedClass),
            ("a[", UnclosedClass),
            ("a[\\", UnclosedClass),
            ("[a-", UnclosedClass),
            ("[]a]", EmptyClass),
            ("[^]a]", EmptyClass),
            ("[-]", StrayHyphen),
            ("[x-]", StrayHyphen),
            ("[-x]", StrayHyphen),
            ("[a-b-c]", StrayHyphen),
            // Go finds this one only for names that begin with `a`.
            ("a*[", UnclosedClass),
        ] {
            assert_eq!(
                Glob::parse(pattern.as_bytes()).unwrap_err(),
                fault,
                "{pattern}"
            );
        }
        assert_eq!(Glob::parse(b"[\xff]").unwrap_err(), ClassNotUtf8);
    }

    #[test]
    fn bytes_that_are_no_utf8_count_as_one_character() {
        let glob = Glob::parse(b"a?b").unwrap();
        assert!(glob.matches(b"a\xffb"));
        assert!(!glob.matches(b"a\xff\xfeb"));
        assert!(Glob::parse(b"[\xef\xbf\xbd]").unwrap().matches(b"\xff"));
        assert!(Glob::parse(b"[^a]").unwrap().matches(b"\xff"));
        assert!(Glob::parse(b"\xff*").unwrap().matches(b"\xffx"));
        // A surrogate in UTF-8's clothes is three bytes, none of them a character.
        assert!(Glob::parse(b"???").unwrap().matches(b"\xed\xa0\x80"));
    }

    /// Tries every way to share out the name, which is slow and obviously right.
    fn naive(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, _) => name.is_empty(),
            (Some((b'*', rest)), _) => (0..=name.len()).any(|at| naive(rest, &name[at..])),
            (Some(_), None) => false,
            (Some((b'?', rest)), Some((_, left))) => naive(rest, left),
            (Some((byte, rest)), Some((first, left))) => byte == first && naive(rest, left),
        }
    }

    proptest! {
        #[test]
        fn stars_mean_the_same_as_trying_everything(pattern in "[ab*?]{0,9}", name in "[ab]{0,9}") {
            prop_assert_eq!(matches(&pattern, &name), naive(pattern.as_bytes(), name.as_bytes()));
        }

        #[test]
        fn no_input_panics(pattern: Vec<u8>, name: Vec<u8>) {
            if let Ok(glob) = Glob::parse(&pattern) {
                let _ = glob.matches(&name);
            }
        }

        #[test]
        fn an_escaped_name_matches_itself_alone(name: Vec<u8>, other: Vec<u8>) {
            let escaped: Vec<u8> = name.iter().flat_map(|byte| [b'\\', *byte]).collect();
            let glob = Glob::parse(&escaped).unwrap();
            prop_assert!(glob.matches(&name));
            prop_assert_eq!(glob.matches(&other), name == other);
        }
    }
}

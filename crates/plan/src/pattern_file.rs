//! The text of a file of patterns, as `--exclude-file` and its siblings take it.
//! It must never read the file or the environment: text and a look-up for variables are passed in.

use std::borrow::Cow;

use crate::glob::first_character;
use crate::pattern::{Case, Pattern};
use crate::pattern_error::{PatternError, PatternFault};

/// Longest line, in bytes, as restic's line scanner has it.
const LINE_MAX_BYTES: usize = 64 * 1024;

/// Looks a variable up by its name; `None` stands for one that is not set.
pub type Variables<'a> = &'a dyn Fn(&[u8]) -> Option<Vec<u8>>;

/// The patterns in a text, one a line.
///
/// White space around a line, empty lines and lines that begin with `#` do not count. `$NAME` and `${NAME}` are
/// replaced by what `variables` says, by nothing if it says nothing, and `$$` by `$`. UTF-16 is understood by its
/// byte order mark. `file` names the text in errors. (restic's documentation, "Excluding Files".)
///
/// # Errors
/// [`PatternError`] with file and line for the first line that is too long or malformed.
pub fn parse_pattern_lines(
    text: &[u8],
    file: &str,
    case: Case,
    variables: Variables<'_>,
) -> Result<Vec<Pattern>, PatternError> {
    let text = decode(text);
    let mut patterns = Vec::new();
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        if line.len() > LINE_MAX_BYTES {
            let beginning = line.get(..80).unwrap_or_default();
            let fault = PatternFault::LineTooLong(LINE_MAX_BYTES);
            return Err(PatternError::new(beginning, fault).at(file, number));
        }
        let line = trim(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let line = expand(line, variables);
        // A line of nothing but unset variables.
        if !line.is_empty() {
            patterns.push(Pattern::parse(&line, case).map_err(|error| error.at(file, number))?);
        }
    }
    Ok(patterns)
}

/// The text as UTF-8, without a byte order mark.
fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    let word: fn([u8; 2]) -> u16 = match text {
        [0xef, 0xbb, 0xbf, rest @ ..] => return Cow::Borrowed(rest),
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        _ => return Cow::Borrowed(text),
    };
    let pairs = text.get(2..).unwrap_or_default().chunks(2);
    // Half a character at the end is none.
    let words = pairs.map(|pair| <[u8; 2]>::try_from(pair).map_or(0xfffd, word));
    let characters =
        char::decode_utf16(words).map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER));
    Cow::Owned(characters.collect::<String>().into_bytes())
}

/// Without Unicode's white space at both ends.
fn trim(mut line: &[u8]) -> &[u8] {
    while let Some((Some(first), rest)) = first_character(line) {
        if !first.is_whitespace() {
            break;
        }
        line = rest;
    }
    while let Some(rest) = without_last_blank(line) {
        line = rest;
    }
    line
}

fn without_last_blank(line: &[u8]) -> Option<&[u8]> {
    // Every blank of Unicode is one to three bytes long.
    (1..=3.min(line.len())).find_map(|length| {
        let (rest, last) = line.split_at_checked(line.len() - length)?;
        let last = std::str::from_utf8(last).ok()?;
        last.chars().all(char::is_whitespace).then_some(rest)
    })
}

/// Replaces variables by the rules of Go's `os.Expand`.
fn expand<'a>(line: &'a [u8], variables: Variables<'_>) -> Cow<'a, [u8]> {
    if !line.contains(&b'$') {
        return Cow::Borrowed(line);
    }
    let mut out = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'$' || after.is_empty() {
            out.push(byte);
            continue;
        }
        let (name, used) = variable_name(after);
        match name {
            b"$" => out.push(b'$'),
            // A dollar sign without a name stands for itself; broken braces vanish.
            b"" if used == 0 => out.push(b'$'),
            b"" => {}
            _ => out.extend(variables(name).unwrap_or_default()),
        }
        rest = after.get(used..).unwrap_or_default();
    }
    Cow::Owned(out)
}

/// The name behind a dollar sign and how many bytes it takes there.
fn variable_name(text: &[u8]) -> (&[u8], usize) {
    let is_special = |byte: &u8| b"*#$@!?-0123456789".contains(byte);
    match text {
        [b'{', inside @ ..] => match inside.iter().position(|byte| *byte == b'}') {
            Some(end) => (inside.get(..end).unwrap_or_default(), end + 2),
            None => (b"", 1),
        },
        [first, ..] if is_special(first) => (text.get(..1).unwrap_or_default(), 1),
        _ => {
            let ends = |byte: &u8| *byte != b'_' && !byte.is_ascii_alphanumeric();
            let end = text.iter().position(ends).unwrap_or(text.len());
            (text.get(..end).unwrap_or_default(), end)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variables(name: &[u8]) -> Option<Vec<u8>> {
        match name {
            b"HOME" => Some(b"/home/me".to_vec()),
            b"A B" => Some(b"spaced".to_vec()),
            _ => None,
        }
    }

    fn lines(text: &[u8]) -> Vec<String> {
        let patterns = parse_pattern_lines(text, "ex", Case::Sensitive, &variables).unwrap();
        patterns
            .iter()
            .map(|pattern| String::from_utf8(pattern.text().to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn comments_and_blanks_do_not_count() {
        assert_eq!(
            lines(b"# no\n\n  *.o \t\r\n  # no\n!a#b\nlast"),
            ["*.o", "!a#b", "last"]
        );
        assert_eq!(lines("\u{a0}\u{3000}x\u{2003}\n".as_bytes()), ["x"]);
        assert_eq!(lines(b""), [""; 0]);
    }

    #[test]
    fn variables_are_replaced_as_by_go() {
        for (line, expected) in [
            ("$HOME/x", "/home/me/x"),
            ("${HOME}x", "/home/mex"),
            ("$HOMEx/y", "/y"),
            ("a$$b", "a$b"),
            ("a$", "a$"),
            ("a$/b", "a$/b"),
            ("a${", "a"),
            ("a${x", "ax"),
            ("a${}b", "ab"),
            ("a${A B}", "aspaced"),
            ("a$1b", "ab"),
            ("a${*}b", "ab"),
            ("$HOME$HOME", "/home/me/home/me"),
        ] {
            assert_eq!(lines(line.as_bytes()), [expected], "{line}");
        }
        assert_eq!(lines(b"$UNSET"), [""; 0]);
    }

    #[test]
    fn byte_order_marks_are_understood() {
        assert_eq!(lines(b"\xef\xbb\xbfx"), ["x"]);
        assert_eq!(lines(b"\xfe\xff\0x\0\n\x20\xac"), ["x", "€"]);
        assert_eq!(lines(b"\xff\xfex\0\n\0\xac\x20"), ["x", "€"]);
        assert_eq!(lines(b"\xff\xfex\0y"), ["x\u{fffd}"]);
    }

    #[test]
    fn faults_name_their_line() {
        let error = parse_pattern_lines(b"a\n\nb[\n", "my.excludes", Case::Sensitive, &variables)
            .unwrap_err();
        let origin = error.origin.unwrap();
        assert_eq!((origin.file.as_str(), origin.line), ("my.excludes", 3));
        let long = [b"a\n".as_slice(), &vec![b'x'; LINE_MAX_BYTES + 1]].concat();
        let error = parse_pattern_lines(&long, "f", Case::Sensitive, &variables).unwrap_err();
        assert_eq!(error.fault, PatternFault::LineTooLong(LINE_MAX_BYTES));
        assert_eq!(error.origin.unwrap().line, 2);
    }

    proptest! {
        #[test]
        fn no_text_panics(text: Vec<u8>) {
            let _ = parse_pattern_lines(&text, "ex", Case::Insensitive, &variables);
        }
    }
}

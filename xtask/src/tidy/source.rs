//! A Rust file with comments and strings blanked out and test code marked, so that rules look at code alone.
//! It is a lexer, not a parser: it knows where code is, never what it means.

use std::path::{Component, Path};

use super::text::TextFile;

pub(crate) struct Source<'a> {
    pub file: &'a TextFile,
    lines: Vec<Line<'a>>,
    whole_file_is_test: bool,
}

/// One line of a Rust file.
pub(crate) struct Line<'a> {
    /// Counted from 1.
    pub number: usize,
    /// As it was written.
    pub raw: &'a str,
    /// The same with comments and the content of strings as blanks.
    pub code: String,
    /// Compiled only for tests.
    pub is_test: bool,
}

impl<'a> Source<'a> {
    /// The Rust files of crates and chores; others are none.
    pub(super) fn of(file: &'a TextFile) -> Option<Self> {
        let ours = file.path.starts_with("crates")
            || file.path.starts_with("xtask")
            || file.path.starts_with("fuzz");
        if !ours || !file.has_extension("rs") {
            return None;
        }
        let code = blank_comments_and_strings(&file.text);
        let tests = test_lines(&code);
        let lines = file
            .text
            .split('\n')
            .zip(code.split('\n'))
            .zip(tests)
            .enumerate();
        Some(Self {
            file,
            lines: lines
                .map(|(index, ((raw, code), is_test))| Line {
                    number: index + 1,
                    raw,
                    code: code.to_owned(),
                    is_test,
                })
                .collect(),
            whole_file_is_test: is_test_path(&file.path),
        })
    }

    /// `format` for a file of `crates/format/`, `xtask` for one of the chores.
    pub(super) fn layer(&self) -> &str {
        let mut parts = self
            .file
            .path
            .components()
            .filter_map(|part| part.as_os_str().to_str());
        match parts.next() {
            Some("crates") => parts.next().unwrap_or_default(),
            Some(other) => other,
            None => "",
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.file.path
    }

    /// Whether cargo builds the file for tests only.
    pub(super) fn is_test_file(&self) -> bool {
        self.whole_file_is_test
    }

    pub(super) fn lines(&self) -> &[Line<'a>] {
        &self.lines
    }

    /// The lines that end up in what is shipped.
    pub(super) fn shipped_lines(&self) -> impl Iterator<Item = &Line<'a>> {
        self.lines
            .iter()
            .filter(|line| !self.whole_file_is_test && !line.is_test)
    }
}

/// Files of `tests/`, `benches/` and `examples/`, and modules called `tests`.
fn is_test_path(path: &Path) -> bool {
    let in_test_dir = path.components().any(|part| match part {
        Component::Normal(name) => name == "tests" || name == "benches" || name == "examples",
        _ => false,
    });
    in_test_dir || path.file_name().is_some_and(|name| name == "tests.rs")
}

/// Whether `code` has `word` standing alone, not as a part of a longer name.
pub(super) fn has_word(code: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let starts_as_name = word.starts_with(is_name);
    let ends_as_name = word.ends_with(is_name);
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let goes_on = (starts_as_name && before.is_some_and(is_name))
            || (ends_as_name && after.is_some_and(is_name));
        !goes_on
    })
}

fn blank_comments_and_strings(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => line_comment_end(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => block_comment_end(&chars, at),
            '"' => string_end(&chars, at),
            'r' if starts_raw_string(&chars, at) => raw_string_end(&chars, at),
            '\'' => char_end(&chars, at),
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(
                chars[at..end]
                    .iter()
                    .map(|&c| if c == '\n' { '\n' } else { ' ' }),
            );
            at = end;
        }
    }
    out
}

fn line_comment_end(chars: &[char], start: usize) -> usize {
    chars[start..]
        .iter()
        .position(|&c| c == '\n')
        .map_or(chars.len(), |length| start + length)
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let mut depth = 0_u32;
    let mut at = start;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) if depth == 1 => return at + 2,
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    chars.len()
}

fn string_end(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

fn starts_raw_string(chars: &[char], start: usize) -> bool {
    let is_name = |c: &char| c.is_alphanumeric() || *c == '_';
    let before = start.checked_sub(1).map(|at| chars[at]);
    let is_prefixed = before.is_some_and(|c| c == 'b' || c == 'c')
        && !start.checked_sub(2).is_some_and(|at| is_name(&chars[at]));
    if before.is_some_and(|c| is_name(&c)) && !is_prefixed {
        return false;
    }
    chars[start + 1..].iter().find(|&&c| c != '#') == Some(&'"')
}

fn raw_string_end(chars: &[char], start: usize) -> usize {
    let hashes = chars[start + 1..].iter().take_while(|&&c| c == '#').count();
    let mut at = start + hashes + 2;
    while at < chars.len() {
        if chars[at] == '"'
            && chars[at + 1..]
                .iter()
                .take(hashes)
                .filter(|&&c| c == '#')
                .count()
                == hashes
        {
            return at + 1 + hashes;
        }
        at += 1;
    }
    chars.len()
}

/// The end of a character literal; a lifetime is code and ends where it starts.
fn char_end(chars: &[char], start: usize) -> usize {
    match (chars.get(start + 1), chars.get(start + 2)) {
        (Some('\\'), _) => {
            let escaped = start + 3;
            let close = chars
                .get(escaped..)
                .and_then(|rest| rest.iter().position(|&c| c == '\''));
            close.map_or(chars.len(), |length| escaped + length + 1)
        }
        (Some(_), Some('\'')) => start + 3,
        _ => start,
    }
}

/// For each line, whether it belongs to an item under `#[cfg(test)]`.
fn test_lines(code: &str) -> Vec<bool> {
    let mut marks = vec![false; code.split('\n').count()];
    for attribute in ["#[cfg(test)]", "#[cfg(all(test", "#[cfg(any(test"] {
        for (start, _) in code.match_indices(attribute) {
            let end = start + item_length(&code[start..]);
            let first = code[..start].matches('\n').count();
            let last = code[..end].matches('\n').count();
            marks[first..=last].fill(true);
        }
    }
    marks
}

/// The length of an item from its first attribute to its closing brace or semicolon.
fn item_length(code: &str) -> usize {
    let (mut braces, mut others) = (0_i32, 0_i32);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => others += 1,
            ')' | ']' => others -= 1,
            '{' => braces += 1,
            '}' => {
                braces -= 1;
                if braces == 0 && others == 0 {
                    return at;
                }
            }
            ';' if braces == 0 && others == 0 => return at,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped(text: &str) -> String {
        let file = TextFile::sample("crates/format/src/a.rs", text);
        let source = Source::of(&file).unwrap();
        source
            .shipped_lines()
            .map(|line| line.code.trim_end())
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn comments_and_strings_are_blank_and_code_stays() {
        for (text, code) in [
            ("a(); // panic!\nb();", "a();\nb();"),
            ("a(/* x /* y */ z */);", "a( );"),
            ("a(\"x\\\"panic!\", 1);", "a( , 1);"),
            ("a(r#\"say \"hi\" \"#, br\"x\", 1);", "a( , b , 1);"),
            (
                "let r#type = for_r; \"a\n b\"; c",
                "let r#type = for_r;\n ; c",
            ),
            (
                "fn f<'a>(x: &'a str) { m('\"', '\\'', b'{') }",
                "fn f<'a>(x: &'a str) { m( , , b ) }",
            ),
        ] {
            let mut squeezed = shipped(text);
            while squeezed.contains("  ") {
                squeezed = squeezed.replace("  ", " ");
            }
            assert_eq!(squeezed, code, "{text}");
        }
    }

    #[test]
    fn blanking_keeps_every_column() {
        let text = "a(\"ä\n\", 'b', r\"c\"); /* d */ // e";
        let blank = blank_comments_and_strings(text);
        assert_eq!(blank.chars().count(), text.chars().count());
        assert_eq!(blank.matches('\n').count(), 1);
    }

    #[test]
    fn items_for_tests_are_not_shipped() {
        assert_eq!(
            shipped("a();\n#[cfg(test)]\nmod tests {\n  fn b() {}\n}\nc();"),
            "a();\nc();"
        );
        assert_eq!(shipped("#[cfg(test)]\nuse x::{\n y};\na();"), "a();");
        assert_eq!(
            shipped("#[cfg(test)]\n#[derive(A)]\nfn x(y: [u8; 3]) {\n {}\n}\na();"),
            "a();"
        );
        assert_eq!(shipped("#[cfg(all(test, unix))]\nmod tests;\na();"), "a();");
    }

    #[test]
    fn a_word_is_no_part_of_a_longer_one() {
        assert!(has_word("unsafe { x }", "unsafe"));
        assert!(!has_word("#![deny(unsafe_code)]", "unsafe"));
        assert!(!has_word("eprintln!(1)", "println!"));
        assert!(has_word("x.unwrap()", ".unwrap()"));
        assert!(!has_word("brand(1)", "rand"));
    }

    #[test]
    fn the_layer_comes_from_the_path() {
        for (path, layer, is_test) in [
            ("crates/repo/src/backend/local.rs", "repo", false),
            ("crates/repo/tests/local.rs", "repo", true),
            ("crates/repo/src/index/tests.rs", "repo", true),
            ("xtask/src/main.rs", "xtask", false),
        ] {
            let file = TextFile::sample(path, "");
            let source = Source::of(&file).unwrap();
            assert_eq!(
                (source.layer(), source.is_test_file()),
                (layer, is_test),
                "{path}"
            );
        }
        assert!(Source::of(&TextFile::sample("docs/a.md", "")).is_none());
    }
}

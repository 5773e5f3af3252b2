//! Go's `strconv.Quote` and `strconv.Unquote`, without the outer quotes: how restic writes names of any bytes into JSON.
//! It must never be lossy: unquoting what was quoted gives the same bytes.

use crate::FormatError;
use crate::go_print::is_print;

/// Appends a name as Go's `strconv.Quote` writes it, without the quotes around it.
pub fn quote(name: &[u8], out: &mut String) {
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            quote_char(character, out);
        }
        for byte in chunk.invalid() {
            push_hex(out, "\\x", u32::from(*byte), 2);
        }
    }
}

fn quote_char(character: char, out: &mut String) {
    match character {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        c if is_print(c) => out.push(c),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0C' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0B' => out.push_str("\\v"),
        c if c < ' ' || c == '\x7F' => push_hex(out, "\\x", c as u32, 2),
        c if (c as u32) < 0x1_0000 => push_hex(out, "\\u", c as u32, 4),
        c => push_hex(out, "\\U", c as u32, 8),
    }
}

fn push_hex(out: &mut String, prefix: &str, value: u32, digits: u32) {
    out.push_str(prefix);
    for digit in (0..digits).rev() {
        out.push(char::from_digit(value >> (4 * digit) & 15, 16).unwrap_or('0'));
    }
}

/// The bytes of a name that Go quoted.
///
/// # Errors
/// When it is no text between Go's double quotes.
pub fn unquote(text: &str) -> Result<Vec<u8>, FormatError> {
    if !text
        .bytes()
        .any(|byte| matches!(byte, b'\\' | b'"' | b'\n'))
    {
        return Ok(text.as_bytes().to_vec());
    }
    let bad = |reason| FormatError::Quoting {
        text: text.chars().take(80).collect(),
        reason,
    };
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            '"' => return Err(bad("a quote stands in it")),
            '\n' => return Err(bad("a line break stands in it")),
            '\\' => match rest.next() {
                Some('a') => out.push(7),
                Some('b') => out.push(8),
                Some('f') => out.push(12),
                Some('n') => out.push(b'\n'),
                Some('r') => out.push(b'\r'),
                Some('t') => out.push(b'\t'),
                Some('v') => out.push(11),
                Some('\\') => out.push(b'\\'),
                Some('"') => out.push(b'"'),
                Some('x') => out.push(
                    take_number(&mut rest, 16, 2)
                        .and_then(|n| u8::try_from(n).ok())
                        .ok_or_else(|| bad("\\x needs two hexadecimal digits"))?,
                ),
                Some('u') => push_char(&mut out, take_number(&mut rest, 16, 4))
                    .ok_or_else(|| bad("\\u needs four hexadecimal digits of a character"))?,
                Some('U') => push_char(&mut out, take_number(&mut rest, 16, 8))
                    .ok_or_else(|| bad("\\U needs eight hexadecimal digits of a character"))?,
                Some(first @ '0'..='7') => {
                    let tail = take_number(&mut rest, 8, 2)
                        .ok_or_else(|| bad("an octal escape needs three digits"))?;
                    let value = first.to_digit(8).unwrap_or(0) * 64 + tail;
                    out.push(u8::try_from(value).map_err(|_| bad("an octal escape is above 377"))?);
                }
                _ => return Err(bad("a backslash starts no escape")),
            },
            plain => out.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Ok(out)
}

fn take_number(rest: &mut std::str::Chars<'_>, radix: u32, digits: u32) -> Option<u32> {
    let mut value = 0u32;
    for _ in 0..digits {
        value = value
            .checked_mul(radix)?
            .checked_add(rest.next()?.to_digit(radix)?)?;
    }
    Some(value)
}

fn push_char(out: &mut Vec<u8>, code: Option<u32>) -> Option<()> {
    let character = char::from_u32(code?)?;
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(name: &[u8]) -> String {
        let mut out = String::new();
        quote(name, &mut out);
        out
    }

    #[test]
    fn names_are_written_as_go_writes_them() {
        // Each pair was printed by Go 1.26's strconv.Quote.
        for (name, expected) in [
            (&b"plain.txt"[..], "plain.txt"),
            (b"a\"b\\c", "a\\\"b\\\\c"),
            (b"\x07\x08\x0c\n\r\t\x0b", "\\a\\b\\f\\n\\r\\t\\v"),
            (b"\x01\x7f", "\\x01\\x7f"),
            (b"\xff\xc3(", "\\xff\\xc3("),
            ("ä€😀".as_bytes(), "ä€😀"),
            (
                "\u{a0}\u{ad}\u{2028}\u{feff}".as_bytes(),
                "\\u00a0\\u00ad\\u2028\\ufeff",
            ),
            ("\u{e0001}\u{10ffff}".as_bytes(), "\\U000e0001\\U0010ffff"),
            ("\u{fffd}".as_bytes(), "\u{fffd}"),
        ] {
            assert_eq!(quoted(name), expected);
        }
    }

    #[test]
    fn every_short_byte_string_survives() {
        for first in 0..=255u8 {
            for second in [0, b'"', b'\\', b'x', 0x80, 0xc3, 0xff] {
                let name = [first, second, first];
                assert_eq!(unquote(&quoted(&name)).unwrap(), name);
            }
        }
    }

    #[test]
    fn octal_is_read_and_nonsense_refused() {
        assert_eq!(unquote("\\101").unwrap(), b"A");
        for text in [
            "\\",
            "\\q",
            "\\x1",
            "\\xzz",
            "\\ud800",
            "\\U00110000",
            "\\777",
            "a\"b",
            "\n",
        ] {
            assert!(unquote(text).is_err(), "{text}");
        }
    }
}

//! A message of HTTP/1.1: its head, and where its body ends.
//! It must never read a byte of the next message, nor rewrite a header that nobody asked to change.

use std::io::{self, BufRead, Read, Write};

/// Longest head that is read, in bytes.
const HEAD_MAX_BYTES: u64 = 256 * 1024;

/// The first line of a message and its headers, as they were written.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    pub(super) start: String,
    pub(super) fields: Vec<(String, String)>,
}

impl Head {
    /// Reads a head; `None` if the connection ends before it begins.
    pub(super) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut from = from.take(HEAD_MAX_BYTES);
        let mut head = Self::default();
        loop {
            let mut line = Vec::new();
            from.read_until(b'\n', &mut line)?;
            let is_whole = line.ends_with(b"\n");
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            match (is_whole, line.is_empty()) {
                (false, true) if head.start.is_empty() => return Ok(None),
                (false, _) => return Err(io::ErrorKind::UnexpectedEof.into()),
                // An empty line before the first one is allowed.
                (true, true) if head.start.is_empty() => {}
                (true, true) => return Ok(Some(head)),
                (true, false) if head.start.is_empty() => head.start = line,
                (true, false) => {
                    let (name, value) = line.split_once(':').unwrap_or((line.as_str(), ""));
                    let field = (name.to_owned(), value.trim().to_owned());
                    head.fields.push(field);
                }
            }
        }
    }

    /// A word of the first line.
    pub(super) fn word(&self, number: usize) -> &str {
        self.start.split(' ').nth(number).unwrap_or_default()
    }

    /// The status of an answer.
    pub(super) fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or(0)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self
            .fields
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.fields
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    /// Sets a header, in its place if it is there.
    pub(super) fn set(&mut self, name: &str, value: String) {
        let found = self
            .fields
            .iter_mut()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        match found {
            Some((_, known)) => *known = value,
            None => self.fields.push((name.to_owned(), value)),
        }
    }

    /// Whether a header has this among its words.
    pub(super) fn says(&self, name: &str, word: &str) -> bool {
        self.get(name).is_some_and(|value| {
            let mut words = value.split(',');
            words.any(|found| found.trim().eq_ignore_ascii_case(word))
        })
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.start);
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// With an empty chunk.
    Chunked,
    /// With the connection.
    UntilClose,
}

impl Framing {
    pub(super) fn of_request(head: &Head) -> Self {
        Self::told(head).unwrap_or(Self::None)
    }

    pub(super) fn of_answer(head: &Head, method: &str) -> Self {
        let status = head.status();
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Self::None;
        }
        Self::told(head).unwrap_or(Self::UntilClose)
    }

    fn told(head: &Head) -> Option<Self> {
        if head.says("transfer-encoding", "chunked") {
            return Some(Self::Chunked);
        }
        let length = head.get("content-length")?.parse().ok()?;
        Some(Self::Length(length))
    }

    /// Passes a body on as it is, and returns its length in bytes with everything around it.
    pub(super) fn relay(self, from: &mut impl BufRead, to: &mut impl Write) -> io::Result<u64> {
        match self {
            Self::None => Ok(0),
            Self::Length(length) => relay(from, to, length),
            Self::UntilClose => relay_rest(from, to),
            Self::Chunked => {
                let mut passed = 0;
                loop {
                    let line = line(from)?;
                    let size = chunk_size(&line)?;
                    to.write_all(&line)?;
                    passed += line.len() as u64;
                    if size > 0 {
                        passed += relay(from, to, size + 2)?;
                        continue;
                    }
                    // Trailers, and the empty line that ends them.
                    loop {
                        let line = self::line(from)?;
                        to.write_all(&line)?;
                        passed += line.len() as u64;
                        if line.trim_ascii().is_empty() {
                            return Ok(passed);
                        }
                    }
                }
            }
        }
    }

    /// The content of a body.
    pub(super) fn read(self, from: &mut impl BufRead) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        if self != Self::Chunked {
            self.relay(from, &mut content)?;
            return Ok(content);
        }
        loop {
            let size = chunk_size(&line(from)?)?;
            if size == 0 {
                while !line(from)?.trim_ascii().is_empty() {}
                return Ok(content);
            }
            relay(from, &mut content, size)?;
            line(from)?;
        }
    }
}

fn relay(from: &mut impl BufRead, to: &mut impl Write, length: u64) -> io::Result<u64> {
    let mut left = length;
    while left > 0 {
        let found = from.fill_buf()?;
        if found.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let count = found.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        to.write_all(&found[..count])?;
        from.consume(count);
        left -= count as u64;
    }
    Ok(length)
}

fn relay_rest(from: &mut impl BufRead, to: &mut impl Write) -> io::Result<u64> {
    let mut passed = 0;
    loop {
        let found = from.fill_buf()?;
        if found.is_empty() {
            return Ok(passed);
        }
        let count = found.len();
        to.write_all(found)?;
        from.consume(count);
        passed += count as u64;
    }
}

fn line(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    from.take(HEAD_MAX_BYTES).read_until(b'\n', &mut line)?;
    if line.ends_with(b"\n") {
        Ok(line)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn chunk_size(line: &[u8]) -> io::Result<u64> {
    let text = String::from_utf8_lossy(line);
    let size = text.split(';').next().unwrap_or_default().trim();
    u64::from_str_radix(size, 16).map_err(io::Error::other)
}

/// A whole answer in memory.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
    /// Whether the head may tell a length without a body: that of a HEAD.
    pub(super) is_head_only: bool,
}

impl Answer {
    /// An answer of the proxy's own.
    pub(super) fn new(status: &str, fields: &[(&str, String)], body: &str) -> Self {
        let own = |(name, value): &(&str, String)| ((*name).to_owned(), value.clone());
        let head = Head {
            start: format!("HTTP/1.1 {status}"),
            fields: fields.iter().map(own).collect(),
        };
        let mut answer = Self {
            head,
            body: body.as_bytes().to_vec(),
            is_head_only: false,
        };
        answer.fit_length();
        answer
    }

    /// Makes the told length that of the body.
    pub(super) fn fit_length(&mut self) {
        self.head.remove("transfer-encoding");
        if !self.is_head_only {
            self.head.set("Content-Length", self.body.len().to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_ends_where_its_head_says() {
        let text = b"PUT /a?b HTTP/1.1\r\nHost: h:1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\nrest";
        let mut from = &text[..];
        let head = Head::read(&mut from).unwrap().unwrap();
        assert_eq!((head.word(0), head.word(1)), ("PUT", "/a?b"));
        assert_eq!(Framing::of_request(&head).read(&mut from).unwrap(), b"abc");
        let next = Head::read(&mut from).unwrap().unwrap();
        assert_eq!(Framing::of_request(&next), Framing::None);
        assert_eq!(from, b"rest");
        assert!(Head::read(&mut &b""[..]).unwrap().is_none());
        assert!(Head::read(&mut &b"GET / HT"[..]).is_err());
    }

    #[test]
    fn chunks_pass_as_they_are_and_are_joined_when_they_are_read() {
        let text = b"4;x=y\r\nwiki\r\n5\r\npedia\r\n0\r\nTrailer: 1\r\n\r\nnext";
        let mut from = &text[..];
        let mut to = Vec::new();
        let passed = Framing::Chunked.relay(&mut from, &mut to).unwrap();
        assert_eq!((from, passed as usize), (&b"next"[..], to.len()));
        assert_eq!(&text[..to.len()], to);
        assert_eq!(Framing::Chunked.read(&mut &text[..]).unwrap(), b"wikipedia");
        assert!(Framing::Length(9).read(&mut &b"short"[..]).is_err());
    }

    #[test]
    fn answers_without_a_body_are_known() {
        let head = |start: &str| Head {
            start: start.into(),
            fields: vec![("content-length".into(), "9".into())],
        };
        assert_eq!(
            Framing::of_answer(&head("HTTP/1.1 200 OK"), "HEAD"),
            Framing::None
        );
        assert_eq!(
            Framing::of_answer(&head("HTTP/1.1 204 No Content"), "GET"),
            Framing::None
        );
        assert_eq!(
            Framing::of_answer(&head("HTTP/1.1 200 OK"), "GET"),
            Framing::Length(9)
        );
    }
}

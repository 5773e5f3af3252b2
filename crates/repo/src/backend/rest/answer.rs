//! What an answer of a REST server means: kinds of trouble, and words for people.
//! It must never put more of an answer into words than a line, nor a query or credentials of a URL.

use std::io::{self, Read};

use crate::backend::Trouble;
use crate::backend::http::{Response, TransportError};

/// How much of what a server says is told.
const WORDS_MAX_BYTES: u64 = 300;
/// How much of a file is looked at to tell whether it is a page.
const PAGE_HEAD_BYTES: u64 = 512;
/// How pages begin. No encrypted file does, but one in 2^36 and less.
const PAGE_BEGINS: [&str; 5] = ["<!doctype html", "<html", "<head", "<body", "<script"];
/// What is read at once to compare or to skip, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// What kind of failure a status is, where it is one.
pub(super) fn trouble(status: u16) -> Trouble {
    match status {
        300..=399 => Trouble::WrongPlace,
        401 | 407 => Trouble::Credentials,
        403 => Trouble::Denied,
        // rest-server answers 507 beyond its --max-size, a proxy before it 413 beyond its own limit.
        413 | 507 => Trouble::Full,
        408 | 425 | 429 | 500 | 502..=504 => Trouble::Transient,
        509..=599 => Trouble::Transient,
        _ => Trouble::Protocol,
    }
}

/// A status for people.
pub(super) fn status(status: u16) -> String {
    let name = match status {
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        507 => "Insufficient Storage",
        _ => return status.to_string(),
    };
    format!("{status} {name}")
}

/// Why a request failed, in words.
pub(super) fn why(response: &mut Response, has_credentials: bool) -> String {
    let status = status(response.status);
    match response.status {
        401 if has_credentials => {
            format!("the server answered {status}: it does not accept this user and password here")
        }
        401 => format!(
            "the server answered {status}, and no user and password were given: they belong into RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD, or into the URL"
        ),
        300..=399 => match response.header("location").map(without_secrets) {
            Some(to) => format!("the server answered {status}: it sends us on to {to}"),
            None => format!("the server answered {status}, and not where to"),
        },
        _ => match words(response) {
            Some(words) if !status.ends_with(&words) => {
                format!("the server answered {status}: {words}")
            }
            _ => format!("the server answered {status}"),
        },
    }
}

/// Refuses what a web server, a login page or a captive portal says instead of a REST server. rest-server guesses the type
/// of a file from how it begins, and one in a million encrypted ones begins as a page might: that of a file is a page only
/// if it begins as one does.
pub(super) fn refuse_web_page(
    response: &mut Response,
    is_file: bool,
) -> Result<(), TransportError> {
    let is_page = response
        .header("content-type")
        .is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/html"));
    let is_success = (200..=299).contains(&response.status);
    if !is_page || !is_success || (is_file && !begins_as_page(response)) {
        return Ok(());
    }
    Err(TransportError {
        trouble: Trouble::Protocol,
        why: "a web page came back: something else than a REST server answers at this URL".into(),
    })
}

/// Whether the body begins as pages do; it can be read from its beginning afterwards.
fn begins_as_page(response: &mut Response) -> bool {
    let mut head = Vec::new();
    let mut body = std::mem::replace(&mut response.body, Box::new(io::empty()));
    // What fails here fails again when the body is read.
    let _ = body.by_ref().take(PAGE_HEAD_BYTES).read_to_end(&mut head);
    let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let begins = PAGE_BEGINS.iter().any(|begin| text.starts_with(begin));
    response.body = Box::new(io::Cursor::new(head).chain(body));
    begins
}

/// Whether rclone sent it.
pub(super) fn is_of_rclone(response: &Response) -> bool {
    response
        .header("server")
        .is_some_and(|server| server.starts_with("rclone/"))
}

/// Whether a part of a file starts where it was asked for.
pub(super) fn starts_at(response: &Response, offset_bytes: u64) -> bool {
    // `bytes 10-19/100`
    let range = response.header("content-range").unwrap_or_default();
    let start = range
        .strip_prefix("bytes ")
        .and_then(|range| range.split_once('-'));
    start.is_some_and(|(start, _)| start.trim().parse() == Ok(offset_bytes))
}

/// Reads so many bytes and forgets them.
pub(super) fn skip(response: &mut Response, count_bytes: u64) -> Result<(), TransportError> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut left_bytes = count_bytes;
    while left_bytes > 0 {
        let wanted = usize::try_from(left_bytes).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        let part = piece.get_mut(..wanted).unwrap_or_default();
        response
            .body
            .read_exact(part)
            .map_err(|cause| broken(&cause))?;
        left_bytes = left_bytes.saturating_sub(wanted as u64);
    }
    Ok(())
}

/// Whether the body is exactly this.
pub(super) fn is_same(response: &mut Response, data: &[&[u8]]) -> Result<bool, TransportError> {
    let mut piece = vec![0; PIECE_BYTES];
    for expected in data.iter().flat_map(|data| data.chunks(PIECE_BYTES)) {
        let part = piece.get_mut(..expected.len()).unwrap_or_default();
        match response.body.read_exact(part) {
            Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            read => read.map_err(|cause| broken(&cause))?,
        }
        if part != expected {
            return Ok(false);
        }
    }
    let more = response
        .body
        .read(&mut [0])
        .map_err(|cause| broken(&cause))?;
    Ok(more == 0)
}

/// The connection broke while an answer was read.
pub(super) fn broken(cause: &io::Error) -> TransportError {
    TransportError {
        trouble: Trouble::Transient,
        why: format!("the answer broke off: {cause}"),
    }
}

/// The first line of what a server says, if it is text for people.
fn words(response: &mut Response) -> Option<String> {
    let is_text = response
        .header("content-type")
        .is_none_or(|kind| kind.starts_with("text/plain"));
    if !is_text {
        return None;
    }
    let mut said = Vec::new();
    // What arrived is told, also if the rest is lost.
    let _ = (&mut response.body)
        .take(WORDS_MAX_BYTES)
        .read_to_end(&mut said);
    let said = String::from_utf8_lossy(&said);
    let line: String = said
        .lines()
        .next()?
        .chars()
        .filter(|letter| !letter.is_control())
        .collect();
    Some(line.trim().to_owned()).filter(|line| !line.is_empty())
}

/// A URL without what may be secret in it.
fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}/{path}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)], body: &'static str) -> Response {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Response {
            status,
            headers: headers.collect(),
            has_body: true,
            length_bytes: Some(body.len() as u64),
            body: Box::new(body.as_bytes()),
        }
    }

    #[test]
    fn words_of_a_server_are_told_once_and_in_one_line() {
        let text = ("content-type", "text/plain; charset=utf-8");
        for (mut answer, expected) in [
            (
                answer(500, &[text], "Internal Server Error\n"),
                "the server answered 500 Internal Server Error",
            ),
            (
                answer(
                    400,
                    &[text],
                    "Client sent an HTTP request to an HTTPS server.\nmore",
                ),
                "the server answered 400 Bad Request: Client sent an HTTP request to an HTTPS server.",
            ),
            (
                answer(503, &[("content-type", "text/html")], "<html>"),
                "the server answered 503 Service Unavailable",
            ),
            (
                answer(
                    301,
                    &[("location", "https://me:secret@host/a/?token=secret")],
                    "",
                ),
                "the server answered 301 Moved Permanently: it sends us on to https://host/a/",
            ),
        ] {
            assert_eq!(why(&mut answer, true), expected);
        }
    }

    #[test]
    fn content_is_the_same_byte_by_byte_and_to_its_end() {
        for (kept, is_the_same) in [
            ("abcdef", true),
            ("abcdex", false),
            ("abcde", false),
            ("abcdefg", false),
            ("", false),
        ] {
            let mut answer = answer(200, &[], kept);
            assert_eq!(
                is_same(&mut answer, &[b"abc", b"", b"def"]).unwrap(),
                is_the_same,
                "{kept}"
            );
        }
    }

    #[test]
    fn a_part_starts_where_it_says() {
        let part = |range| answer(206, &[("content-range", range)], "");
        assert!(starts_at(&part("bytes 10-19/100"), 10));
        assert!(starts_at(&part("bytes 0-19/*"), 0));
        for wrong in ["bytes 1-19/100", "", "bytes */100", "0-19/100"] {
            assert!(!starts_at(&part(wrong), 0), "{wrong}");
        }
    }
}

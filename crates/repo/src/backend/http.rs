//! One request over HTTP and its answer, for the backends that speak it: over TCP with or without TLS.
//! It must never take part of an answer for the whole, follow a redirect by itself, or put a URL's query in an error.

mod download;
mod stdio;
mod tcp;
mod upload;

use std::io::Read;

use super::Trouble;

pub(super) use stdio::StdioConnection;
pub(super) use tcp::TcpTransport;

/// A request. Bodies lie in memory: packs do, so that a request can be sent again.
pub(super) struct Request<'a> {
    /// `GET`, `PUT`, …
    pub(super) method: &'static str,
    /// The whole URL.
    pub(super) url: &'a str,
    /// Headers without `Content-Length`, which the transport adds.
    pub(super) headers: &'a [(&'a str, String)],
    /// The body in pieces to be joined.
    pub(super) body: &'a [&'a [u8]],
}

/// An answer whose head has arrived.
pub(super) struct Response {
    /// The status.
    pub(super) status: u16,
    /// Headers, names in lower case.
    pub(super) headers: Vec<(String, String)>,
    /// Length of the body in bytes, if the server told; the answer to a `HEAD` tells that of a body which it has not.
    pub(super) length_bytes: Option<u64>,
    /// Whether there is a body at all.
    pub(super) has_body: bool,
    /// The body; it ends with an error when the connection breaks before `length_bytes`.
    pub(super) body: Box<dyn Read + Send>,
}

impl Response {
    /// A header by its name in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// How long the server wishes to be left alone.
    pub(super) fn retry_after(&self) -> Option<std::time::Duration> {
        let seconds = self.header("retry-after")?.trim().parse().ok()?;
        Some(std::time::Duration::from_secs(seconds))
    }

    /// The whole body, if it is no longer than that; with what it has been told to be long, not a byte less.
    pub(super) fn read(&mut self, limit_bytes: u64) -> Result<Vec<u8>, TransportError> {
        let mut content = Vec::new();
        let mut body = (&mut self.body).take(limit_bytes.saturating_add(1));
        body.read_to_end(&mut content)
            .map_err(|error| TransportError::from_read(&error))?;
        if content.len() as u64 > limit_bytes {
            return Err(TransportError {
                trouble: Trouble::Protocol,
                why: format!("the answer is longer than {limit_bytes} bytes"),
            });
        }
        self.check_length(content.len() as u64)?;
        Ok(content)
    }

    /// Exactly `buf.len()` bytes, which must be all there is.
    pub(super) fn read_exact(&mut self, buf: &mut [u8]) -> Result<(), TransportError> {
        self.body
            .read_exact(buf)
            .map_err(|error| TransportError::from_read(&error))?;
        // Reads the end too: only then the connection can be used again.
        let mut more = [0u8; 1];
        match self.body.read(&mut more) {
            Ok(0) => self.check_length(buf.len() as u64),
            Ok(_) => Err(TransportError {
                trouble: Trouble::Transient,
                why: "the answer is longer than what was asked for".into(),
            }),
            Err(error) => Err(TransportError::from_read(&error)),
        }
    }

    fn check_length(&self, got_bytes: u64) -> Result<(), TransportError> {
        match self.length_bytes {
            Some(told) if self.has_body && told != got_bytes => Err(TransportError {
                trouble: Trouble::Transient,
                why: format!("the answer ended after {got_bytes} of {told} bytes"),
            }),
            _ => Ok(()),
        }
    }
}

/// A request got no answer, or not the whole.
#[derive(Clone, Debug)]
pub(super) struct TransportError {
    /// What kind of failure.
    pub(super) trouble: Trouble,
    /// Why.
    pub(super) why: String,
}

impl TransportError {
    fn from_read(error: &std::io::Error) -> Self {
        Self {
            trouble: Trouble::Transient,
            why: format!("the answer broke off: {error}"),
        }
    }
}

/// Sends requests, several at once.
pub(super) trait Transport: Send + Sync {
    /// Sends one and waits for the head of the answer, whatever its status.
    fn send(&self, request: &Request<'_>) -> Result<Response, TransportError>;
}

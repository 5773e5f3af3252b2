//! What an S3 server says when it does not do what it was asked, and what that means.
//! It must never let a secret through, whoever wrote it into a message.

use std::time::Duration;

use super::answer::Element;
use crate::backend::Trouble;
use crate::backend::http::{Response, TransportError};

/// Longest answer to a failed request that is read, in bytes.
const ERROR_MAX_BYTES: u64 = 64 * 1024;
/// How much of a server's words is shown, in characters.
const SHOWN_MAX_CHARS: usize = 300;

/// A request that failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) trouble: Trouble,
    pub(super) why: String,
    pub(super) retry_after: Option<Duration>,
    /// The status; 0 without an answer.
    pub(super) status: u16,
    /// S3's word for it; empty where it said none.
    pub(super) code: String,
    /// The region that would have been right, if the server told.
    pub(super) region: Option<String>,
    /// What the server's clock said.
    pub(super) date: Option<String>,
    /// The size of the object whose end a range was beyond.
    pub(super) size_bytes: Option<u64>,
}

impl From<TransportError> for Failure {
    fn from(error: TransportError) -> Self {
        Self {
            trouble: error.trouble,
            ..Self::protocol(error.why)
        }
    }
}

impl Failure {
    /// The server answered what it should not.
    pub(super) fn protocol(why: impl Into<String>) -> Self {
        Self {
            trouble: Trouble::Protocol,
            why: why.into(),
            retry_after: None,
            status: 0,
            code: String::new(),
            region: None,
            date: None,
            size_bytes: None,
        }
    }

    /// What an answer says whose status is no good one.
    pub(super) fn of(response: &mut Response) -> Self {
        let body = match response.read(ERROR_MAX_BYTES) {
            Ok(body) => body,
            // A status alone may be that of something between, and says less than what was lost.
            Err(error) if error.trouble == Trouble::Transient => return error.into(),
            Err(_) => Vec::new(),
        };
        let told = Element::parse(&body).filter(|root| root.name() == "Error");
        let mut failure = Self::told(response.status, told.as_ref());
        let header = |name: &str| response.header(name).map(str::to_owned);
        failure.retry_after = response.retry_after();
        failure.date = header("date");
        failure.region = header("x-amz-bucket-region").or(failure.region);
        failure.size_bytes = header("content-range")
            .and_then(|range| range.strip_prefix("bytes */")?.trim().parse().ok());
        failure
    }

    /// What an error in XML says, which may come with a good status.
    pub(super) fn told(status: u16, told: Option<&Element>) -> Self {
        let text = |name: &str| {
            let text = told.and_then(|told| told.text(name)).unwrap_or_default();
            shown(text)
        };
        let (code, message) = (text("Code"), text("Message"));
        let trouble = trouble(status, &code, &message);
        let why = match (message.is_empty(), code.is_empty()) {
            (false, false) => format!("{message} ({code})"),
            (true, false) => code.clone(),
            (false, true) => message,
            (true, true) => match status {
                300..=399 => format!(
                    "the answer is {status}, a redirect: is this the address of the S3 service itself?"
                ),
                _ => {
                    format!("the answer is {status}, without the words that an S3 server would say")
                }
            },
        };
        let region = Some(text("Region")).filter(|region| !region.is_empty());
        Self {
            status,
            code,
            region,
            trouble,
            ..Self::protocol(why)
        }
    }

    /// Whether it is about the region that was signed for.
    pub(super) fn is_of_region(&self) -> bool {
        self.trouble == Trouble::WrongPlace && self.region.is_some()
    }
}

/// What a status and S3's words for it mean (Amazon's "Error responses"; for Garage, what it says).
fn trouble(status: u16, code: &str, message: &str) -> Trouble {
    let says = |part: &str| message.contains(part);
    match code {
        "NoSuchBucket" => Trouble::NoPlace,
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "Redirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException"
        | "IncorrectEndpoint" => Trouble::WrongPlace,
        "RequestTimeTooSkewed" | "RequestExpired" => Trouble::Clock,
        "InvalidRequest" if says("Date is too old") => Trouble::Clock,
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "NotSignedUp"
        | "InvalidSecurity"
        | "MissingSecurityHeader"
        | "CredentialsNotSupported" => Trouble::Credentials,
        "AccessDenied" if says("Invalid signature") || says("No such key") => Trouble::Credentials,
        _ if says("quota") => Trouble::Full,
        "QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage" => Trouble::Full,
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" | "InvalidObjectState"
        | "MethodNotAllowed" | "ObjectLocked" => Trouble::Denied,
        "SlowDown"
        | "ServiceUnavailable"
        | "InternalError"
        | "RequestTimeout"
        | "Busy"
        | "OperationAborted"
        | "ConditionalRequestConflict"
        | "XAmzContentSHA256Mismatch"
        | "InvalidDigest"
        | "BadDigest"
        | "IncompleteBody" => Trouble::Transient,
        _ => match status {
            300..=399 => Trouble::Protocol,
            401 => Trouble::Credentials,
            403 => Trouble::Denied,
            408 | 429 | 500 | 502..=504 => Trouble::Transient,
            507 => Trouble::Full,
            _ if code.is_empty() => Trouble::Protocol,
            _ => Trouble::Other,
        },
    }
}

/// A server's words on one line, and not too many.
fn shown(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let printable = |character: &char| !character.is_control();
    let shown = words.join(" ");
    shown
        .chars()
        .filter(printable)
        .take(SHOWN_MAX_CHARS)
        .collect()
}

/// What a `Content-Range` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContentRange {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) size_bytes: u64,
}

/// The range of an answer.
pub(super) fn content_range(response: &Response) -> Option<ContentRange> {
    let text = response.header("content-range")?.strip_prefix("bytes ")?;
    let (range, size) = text.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some(ContentRange {
        first: first.trim().parse().ok()?,
        last: last.trim().parse().ok()?,
        size_bytes: size.trim().parse().ok()?,
    })
}

//! What goes wrong with a request on its way, and which one: a plan that a seed repeats.
//! No fault here may be one that networks and servers do not have.

use std::fmt;
use std::sync::Arc;

use crate::random::Random;

/// How a request goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HttpFault {
    /// 503 with S3's `SlowDown`, and nothing is done.
    SlowDown,
    /// 429 with a `Retry-After` of no time, and nothing is done.
    TooManyRequests,
    /// It is done, and the answer is 500.
    ErrorAfter,
    /// It never arrives, and nobody says so.
    StallBefore,
    /// It is done, and the answer never comes.
    StallAfter,
    /// The connection ends in the middle of the answer's body, or of its head if it has none.
    Truncate,
    /// The answer's body lacks its last byte, and its length agrees.
    Shorten,
    /// The answer's body has one byte more, and its length agrees.
    Lengthen,
    /// A part of a file is said to begin elsewhere than was asked for.
    WrongRange,
    /// One bit of the answer's body is another.
    FlipBit,
    /// The connection is reset before the request is read.
    ResetBefore,
    /// The connection is reset in the middle of the request's body.
    ResetInBody,
    /// It is done, and the connection is reset after the head of the answer.
    ResetAfterHead,
    /// It is done twice, and the answer is that of the second time.
    Duplicate,
    /// A listing is what it was when it was asked for last.
    StaleListing,
    /// The answer says that it was made an hour ago.
    OldDate,
    /// The server finds the request's time too different from its own: 403, and nothing is done.
    RefuseClock,
}

impl HttpFault {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::SlowDown,
        Self::TooManyRequests,
        Self::ErrorAfter,
        Self::StallBefore,
        Self::StallAfter,
        Self::Truncate,
        Self::Shorten,
        Self::Lengthen,
        Self::WrongRange,
        Self::FlipBit,
        Self::ResetBefore,
        Self::ResetInBody,
        Self::ResetAfterHead,
        Self::Duplicate,
        Self::StaleListing,
        Self::OldDate,
        Self::RefuseClock,
    ];
}

impl fmt::Display for HttpFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One request, numbered in the order in which their heads arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Its number, from 0.
    pub number: u64,
    /// `GET`, `PUT`, …
    pub method: String,
    /// Path and query.
    pub target: String,
}

impl Exchange {
    /// Whether it asks for a listing: of a bucket, or of a folder of a REST server.
    #[must_use]
    pub fn is_listing(&self) -> bool {
        let (path, query) = self
            .target
            .split_once('?')
            .unwrap_or((self.target.as_str(), ""));
        let of_bucket = query
            .split('&')
            .any(|part| part == "list-type=2" || part.starts_with("prefix="));
        self.method == "GET" && (of_bucket || (query.is_empty() && path.ends_with('/')))
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "request {}: {} {}",
            self.number, self.method, self.target
        )
    }
}

type Rule = dyn Fn(&Exchange) -> Option<HttpFault> + Send + Sync;

/// Which requests go wrong, and how.
#[derive(Clone)]
pub struct HttpPlan(Arc<Rule>);

impl HttpPlan {
    /// A rule of one's own.
    pub fn new(rule: impl Fn(&Exchange) -> Option<HttpFault> + Send + Sync + 'static) -> Self {
        Self(Arc::new(rule))
    }

    /// Nothing goes wrong; requests are written down.
    #[must_use]
    pub fn none() -> Self {
        Self::new(|_| None)
    }

    /// One request goes wrong.
    #[must_use]
    pub fn at(number: u64, fault: HttpFault) -> Self {
        Self::new(move |exchange| (exchange.number == number).then_some(fault))
    }

    /// All requests go wrong from this one on.
    #[must_use]
    pub fn from(number: u64, fault: HttpFault) -> Self {
        Self::new(move |exchange| (exchange.number >= number).then_some(fault))
    }

    /// So many requests in a hundred go wrong, in one of these ways, chosen by a seed and the request's number.
    #[must_use]
    pub fn random(seed: u64, percent: u64, faults: &[HttpFault]) -> Self {
        let faults = faults.to_vec();
        Self::new(move |exchange| {
            let mut random = Random::new(seed ^ exchange.number.wrapping_mul(0x9e37_79b9));
            random.chance(percent).then(|| *random.pick(&faults))
        })
    }

    pub(super) fn fault(&self, exchange: &Exchange) -> Option<HttpFault> {
        (self.0)(exchange)
    }
}

impl fmt::Debug for HttpPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpPlan")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_are_told_from_files() {
        let is_listing = |method: &str, target: &str| {
            let exchange = Exchange {
                number: 0,
                method: method.into(),
                target: target.into(),
            };
            exchange.is_listing()
        };
        for (method, target, expected) in [
            ("GET", "/bucket?list-type=2&prefix=a%2Flocks%2F", true),
            ("GET", "/bucket/?prefix=locks", true),
            ("GET", "/repo/locks/", true),
            ("GET", "/repo/config", false),
            ("POST", "/repo/?create=true", false),
            ("PUT", "/repo/locks/", false),
            ("GET", "/bucket/?location", false),
        ] {
            assert_eq!(is_listing(method, target), expected, "{method} {target}");
        }
    }
}

//! Signed requests to one bucket, and what is learned from refused ones: the region, and how wrong the clock is.
//! It must never send a request more than a few times by itself; whether to try again later is for others.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

use super::credentials::{self, Credentials};
use super::failure::Failure;
use super::settings::{Lookup, Settings};
use super::signature::{self, Signed};
use crate::backend::http::{Request, Response, Transport};
use crate::backend::{BackendOptions, OptionError, Trouble};

/// The region where nobody names another.
const REGION_DEFAULT: &str = "us-east-1";
/// A request is sent again when the region was learned, and when the time was.
const SENDINGS_MAX: usize = 3;
/// How far clocks may be apart before that is what a refusal is about, in seconds. Amazon allows 15 minutes.
const CLOCK_SLACK_SECONDS: i64 = 5 * 60;

/// One request.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) method: &'static str,
    /// The object; nothing for the bucket itself.
    pub(super) key: Option<&'a str>,
    pub(super) query: &'a [(&'a str, String)],
    /// Names in lower case.
    pub(super) headers: &'a [(&'a str, String)],
    pub(super) body: &'a [&'a [u8]],
}

impl<'a> Ask<'a> {
    pub(super) fn new(method: &'static str, key: &'a str) -> Self {
        Self {
            key: Some(key),
            ..Self::of_bucket(method)
        }
    }

    pub(super) fn of_bucket(method: &'static str) -> Self {
        Self {
            method,
            key: None,
            query: &[],
            headers: &[],
            body: &[],
        }
    }
}

/// A bucket that requests are sent to.
pub(super) struct Client {
    transport: Box<dyn Transport>,
    scheme: String,
    host: String,
    bucket: String,
    is_dns: bool,
    credentials: Option<Credentials>,
    region: Mutex<String>,
    /// Whether the user named the region with `-o`, so that it is not for us to choose another.
    is_region_fixed: bool,
    /// How much the server's clock is before ours.
    offset_seconds: AtomicI64,
}

impl Client {
    pub(super) fn new(
        transport: Box<dyn Transport>,
        endpoint: &str,
        bucket: &str,
        settings: &Settings,
        options: &BackendOptions,
    ) -> Result<Self, OptionError> {
        let found = credentials::find(options, settings.anonymous)?;
        let (scheme, host) = endpoint.split_once("://").unwrap_or(("https", endpoint));
        let port = if scheme == "http" { ":80" } else { ":443" };
        let host = host.strip_suffix(port).unwrap_or(host).to_ascii_lowercase();
        let is_dns = match settings.lookup {
            Lookup::Dns => true,
            Lookup::Path => false,
            // A dot in the name would need a certificate that Amazon does not have.
            Lookup::Auto => amazon(&host).is_some() && !(scheme == "https" && bucket.contains('.')),
        };
        let of_host = amazon(&host).and_then(|amazon| amazon.region);
        let region = settings.region.clone().or(of_host).or(found.region);
        Ok(Self {
            transport,
            scheme: scheme.to_owned(),
            host,
            bucket: bucket.to_owned(),
            is_dns,
            credentials: found.credentials,
            region: Mutex::new(region.unwrap_or_else(|| REGION_DEFAULT.to_owned())),
            is_region_fixed: settings.region.is_some(),
            offset_seconds: AtomicI64::new(0),
        })
    }

    /// The region as far as it is known.
    pub(super) fn region(&self) -> String {
        let region = self.region.lock().unwrap_or_else(PoisonError::into_inner);
        region.clone()
    }

    /// Sends a request and returns a good answer. A refusal that tells the region or the time is learned from.
    pub(super) fn send(&self, ask: &Ask<'_>) -> Result<Response, Failure> {
        let content_hash = signature::content_hash(ask.body);
        let mut sent = 1;
        loop {
            let region = self.region();
            let offset_seconds = self.offset_seconds.load(Ordering::Relaxed);
            let failure = match self.send_once(ask, &content_hash, &region, offset_seconds) {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            let is_learned = sent < SENDINGS_MAX
                && (self.learn_region(&failure, &region)
                    || self.learn_time(&failure, offset_seconds));
            if !is_learned {
                return Err(self.told(failure, &region));
            }
            sent += 1;
        }
    }

    fn send_once(
        &self,
        ask: &Ask<'_>,
        content_hash: &str,
        region: &str,
        offset_seconds: i64,
    ) -> Result<Response, Failure> {
        let host = self.host(region);
        let key = ask.key.unwrap_or_default();
        let path = match self.is_dns {
            true => signature::path(&format!("/{key}")),
            false => signature::path(&format!("/{}/{key}", self.bucket)),
        };
        let query = signature::query(ask.query);
        let mark = if query.is_empty() { "" } else { "?" };
        let url = format!("{}://{host}{path}{mark}{query}", self.scheme);
        let mut headers = ask.headers.to_vec();
        if let Some(credentials) = &self.credentials {
            let moment = moment(now_seconds().saturating_add(offset_seconds));
            headers.push(("x-amz-content-sha256", content_hash.to_owned()));
            headers.push(("x-amz-date", moment.clone()));
            if let Some(token) = &credentials.session_token {
                headers.push(("x-amz-security-token", token.reveal().to_owned()));
            }
            let mut signed = vec![("host", host.as_str())];
            signed.extend(headers.iter().map(|(name, value)| (*name, value.as_str())));
            let signed = Signed {
                method: ask.method,
                path: &path,
                query: &query,
                headers: &signed,
                content_hash,
            };
            let authorization = signed.authorization(credentials, region, &moment);
            headers.push(("authorization", authorization));
        }
        let mut response = self.transport.send(&Request {
            method: ask.method,
            url: &url,
            headers: &headers,
            body: ask.body,
        })?;
        match response.status {
            200..=299 => Ok(response),
            _ => Err(Failure::of(&mut response)),
        }
    }

    /// Where a bucket in that region is asked for. Amazon has a host for each region.
    fn host(&self, region: &str) -> String {
        let moved = amazon(&self.host)
            .filter(|amazon| amazon.region.as_deref().unwrap_or(REGION_DEFAULT) != region)
            .map(|amazon| format!("s3.{region}.{}", amazon.domain));
        let host = moved.unwrap_or_else(|| self.host.clone());
        match self.is_dns {
            true => format!("{}.{host}", self.bucket),
            false => host,
        }
    }

    fn learn_region(&self, failure: &Failure, used: &str) -> bool {
        // An answer to `HEAD` has no words; only a header can say it, and it is there with good reasons too.
        let is_of_region = failure.is_of_region()
            || failure.code.is_empty() && matches!(failure.status, 301 | 307 | 400);
        let told = failure.region.as_deref().filter(|told| *told != used);
        match told {
            Some(told) if is_of_region && !self.is_region_fixed && is_region(told) => {
                let mut region = self.region.lock().unwrap_or_else(PoisonError::into_inner);
                told.clone_into(&mut region);
                true
            }
            _ => false,
        }
    }

    /// Takes over the server's time if that may be why it refused.
    fn learn_time(&self, failure: &Failure, used_seconds: i64) -> bool {
        if !matches!(failure.status, 400 | 401 | 403) {
            return false;
        }
        let Some(server) = failure.date.as_deref().and_then(seconds) else {
            return false;
        };
        let offset = server.saturating_sub(now_seconds());
        let is_off = offset.saturating_sub(used_seconds).saturating_abs() > CLOCK_SLACK_SECONDS;
        if is_off {
            self.offset_seconds.store(offset, Ordering::Relaxed);
        }
        is_off
    }

    /// With what we know beside the server's words, and without what nobody may see.
    fn told(&self, mut failure: Failure, used: &str) -> Failure {
        match failure.trouble {
            Trouble::WrongPlace => {
                let right = failure.region.as_deref().filter(|right| *right != used);
                if let Some(right) = right {
                    failure.why = format!(
                        "the bucket is in the region {right}, not in {used}: {}",
                        failure.why
                    );
                }
            }
            Trouble::Clock => {
                let offset = self.offset_seconds.load(Ordering::Relaxed);
                failure.why = format!(
                    "{}; this machine's clock is {} the server's",
                    failure.why,
                    match offset {
                        0 => "as".to_owned(),
                        ahead if ahead < 0 => format!("{} seconds before", -ahead),
                        behind => format!("{behind} seconds behind"),
                    }
                );
            }
            _ => {}
        }
        let secrets = self.credentials.iter().flat_map(|credentials| {
            [
                Some(&credentials.secret),
                credentials.session_token.as_ref(),
            ]
        });
        for secret in secrets.flatten() {
            failure.why = failure.why.replace(secret.reveal(), "***");
        }
        failure
    }
}

/// A host of Amazon's.
struct Amazon {
    region: Option<String>,
    domain: &'static str,
}

/// Reads `s3.amazonaws.com`, `s3.eu-west-1.amazonaws.com`, `s3-eu-west-1.amazonaws.com`. Others, such as those of
/// private networks, are used as they are.
fn amazon(host: &str) -> Option<Amazon> {
    let (rest, domain) = ["amazonaws.com", "amazonaws.com.cn"]
        .iter()
        .find_map(|domain| {
            let rest = host.strip_suffix(domain)?.strip_suffix('.')?;
            Some((rest, *domain))
        })?;
    let region = match rest {
        "s3" => None,
        rest => Some(
            rest.strip_prefix("s3.")
                .or_else(|| rest.strip_prefix("s3-"))?,
        ),
    };
    if region.is_some_and(|region| region.contains('.') || !is_region(region)) {
        return None;
    }
    let region = region.map(str::to_owned);
    Some(Amazon { region, domain })
}

fn is_region(text: &str) -> bool {
    let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.bytes().all(is_sign)
}

fn now_seconds() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(0))
}

fn moment(unix_seconds: i64) -> String {
    let moment = Timestamp::from_second(unix_seconds).unwrap_or_default();
    moment.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The moment of a `Date` header.
fn seconds(date: &str) -> Option<i64> {
    let parser = jiff::fmt::rfc2822::DateTimeParser::new();
    let moment = parser.parse_timestamp(date.trim()).ok()?;
    Some(moment.as_second())
}

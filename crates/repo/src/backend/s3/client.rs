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

/// Shorter ones are no secrets, and would make holes into every sentence.
const SECRET_MIN_BYTES: usize = 8;

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
                    "{}; this machine's clock is {} seconds {} the server's",
                    failure.why,
                    offset.saturating_abs(),
                    if offset < 0 { "before" } else { "behind" }
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
        let secrets = secrets.flatten();
        for secret in secrets.filter(|secret| secret.reveal().len() >= SECRET_MIN_BYTES) {
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

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::sync::Arc;

    use super::*;
    use crate::backend::Secret;
    use crate::backend::http::TransportError;

    type Answer = (u16, Vec<(&'static str, String)>, String);

    /// Gives one answer after the other and keeps what was asked.
    #[derive(Clone, Default)]
    struct Scripted {
        answers: Arc<Mutex<Vec<Answer>>>,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl Transport for Scripted {
        fn send(&self, request: &Request<'_>) -> Result<Response, TransportError> {
            let header = |wanted: &str| {
                let found = request.headers.iter().find(|(name, _)| *name == wanted);
                found.map_or("", |(_, value)| value.as_str())
            };
            let authorization = header("authorization");
            let scope = authorization.split('/').nth(2).unwrap_or("anonymous");
            let asked = format!(
                "{} {} {scope} {}",
                request.method,
                request.url,
                header("x-amz-date")
            );
            self.asked.lock().unwrap().push(asked);
            let mut answers = self.answers.lock().unwrap();
            let (status, headers, body) = match answers.is_empty() {
                true => (200, Vec::new(), String::new()),
                false => answers.remove(0),
            };
            let headers = headers.into_iter();
            Ok(Response {
                status,
                headers: headers
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect(),
                length_bytes: Some(body.len() as u64),
                has_body: true,
                body: Box::new(Cursor::new(body)),
            })
        }
    }

    fn client(endpoint: &str, bucket: &str, set: &[(&str, &str)], script: &Scripted) -> Client {
        let mut options = BackendOptions::default();
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "a long secret"),
        ] {
            options.variables.insert(name.into(), Secret::new(value));
        }
        for (name, value) in set {
            options.settings.insert((*name).into(), (*value).into());
        }
        let settings = Settings::read(&options).unwrap();
        Client::new(
            Box::new(script.clone()),
            endpoint,
            bucket,
            &settings,
            &options,
        )
        .unwrap()
    }

    /// URL and region of every request.
    fn asked(script: &Scripted) -> Vec<String> {
        let asked = std::mem::take(&mut *script.asked.lock().unwrap());
        let cut = asked
            .iter()
            .map(|line| line.rsplit_once(' ').unwrap().0.to_owned());
        cut.collect()
    }

    fn error(code: &str, more: &str) -> String {
        format!("<Error><Code>{code}</Code><Message>words</Message>{more}</Error>")
    }

    #[test]
    fn the_bucket_is_where_the_server_wants_it() {
        let path: &[_] = &[("s3.bucket-lookup", "path")];
        let dns: &[_] = &[("s3.bucket-lookup", "dns")];
        for (endpoint, bucket, set, expected) in [
            (
                "https://s3.example.net",
                "b",
                &[][..],
                "GET https://s3.example.net/b/k us-east-1",
            ),
            (
                "https://s3.example.net:443",
                "b",
                dns,
                "GET https://b.s3.example.net/k us-east-1",
            ),
            (
                "http://[::1]:3900",
                "b",
                &[],
                "GET http://[::1]:3900/b/k us-east-1",
            ),
            ("http://Host:80", "b", &[], "GET http://host/b/k us-east-1"),
            (
                "https://s3.amazonaws.com",
                "b",
                &[],
                "GET https://b.s3.amazonaws.com/k us-east-1",
            ),
            (
                "https://s3.amazonaws.com",
                "b.c",
                &[],
                "GET https://s3.amazonaws.com/b.c/k us-east-1",
            ),
            (
                "https://s3.amazonaws.com",
                "b",
                path,
                "GET https://s3.amazonaws.com/b/k us-east-1",
            ),
            (
                "https://s3.eu-west-1.amazonaws.com",
                "b",
                &[],
                "GET https://b.s3.eu-west-1.amazonaws.com/k eu-west-1",
            ),
            (
                "https://s3.cn-north-1.amazonaws.com.cn",
                "b",
                path,
                "GET https://s3.cn-north-1.amazonaws.com.cn/b/k cn-north-1",
            ),
            (
                "https://bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com",
                "b",
                &[("s3.region", "eu-west-1")],
                "GET https://bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com/b/k eu-west-1",
            ),
        ] {
            let script = Scripted::default();
            let client = client(endpoint, bucket, set, &script);
            client.send(&Ask::new("GET", "k")).unwrap();
            assert_eq!(asked(&script), [expected]);
        }
    }

    #[test]
    fn amazons_buckets_are_followed_to_their_regions() {
        for (endpoint, answer) in [
            (
                "https://s3.amazonaws.com",
                (
                    400,
                    Vec::new(),
                    error("AuthorizationHeaderMalformed", "<Region>eu-west-3</Region>"),
                ),
            ),
            (
                "https://s3.amazonaws.com",
                (
                    301,
                    vec![("x-amz-bucket-region", "eu-west-3".to_owned())],
                    String::new(),
                ),
            ),
            (
                "https://s3.eu-west-1.amazonaws.com",
                (
                    301,
                    vec![("x-amz-bucket-region", "eu-west-3".to_owned())],
                    error("PermanentRedirect", ""),
                ),
            ),
        ] {
            let script = Scripted::default();
            script.answers.lock().unwrap().push(answer.clone());
            let followed = client(endpoint, "b", &[], &script);
            followed.send(&Ask::new("HEAD", "k")).unwrap();
            followed.send(&Ask::new("HEAD", "k")).unwrap();
            let asked = asked(&script);
            assert_eq!(asked.len(), 3);
            assert_eq!(
                asked[1],
                "HEAD https://b.s3.eu-west-3.amazonaws.com/k eu-west-3"
            );
            assert_eq!(asked[2], asked[1], "it is remembered");

            script.answers.lock().unwrap().push(answer);
            let fixed = client(endpoint, "b", &[("s3.region", "eu-west-2")], &script);
            assert!(fixed.send(&Ask::new("HEAD", "k")).is_err());
        }
    }

    #[test]
    fn a_region_that_is_told_with_another_error_is_not_learned() {
        let script = Scripted::default();
        let answer = (
            404,
            Vec::new(),
            error("NoSuchKey", "<Region>eu-west-3</Region>"),
        );
        script.answers.lock().unwrap().push(answer);
        let client = client("https://host", "b", &[], &script);
        let failure = client.send(&Ask::new("GET", "k")).map(|_| ()).unwrap_err();
        assert_eq!(
            (failure.code.as_str(), asked(&script).len()),
            ("NoSuchKey", 1)
        );
    }

    #[test]
    fn the_time_is_learned_from_a_refusal() {
        let script = Scripted::default();
        let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
        let ahead = Timestamp::from_second(now_seconds() + 7200).unwrap();
        let date = printer.timestamp_to_rfc9110_string(&ahead).unwrap();
        let skewed = (403, vec![("date", date)], error("RequestTimeTooSkewed", ""));
        script.answers.lock().unwrap().push(skewed.clone());
        let client = client("https://host", "b", &[], &script);
        client.send(&Ask::new("GET", "k")).unwrap();
        let asked: Vec<String> = script.asked.lock().unwrap().clone();
        let seconds = |line: &String| {
            let text = line.rsplit_once(' ').unwrap().1;
            let moment = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).unwrap();
            moment
                .to_zoned(jiff::tz::TimeZone::UTC)
                .unwrap()
                .timestamp()
                .as_second()
        };
        let learned = seconds(&asked[1]) - seconds(&asked[0]);
        assert!((7190..7210).contains(&learned), "{learned}");
        // The server still says so although the time is what it said.
        script
            .answers
            .lock()
            .unwrap()
            .extend([skewed.clone(), skewed]);
        let failure = client.send(&Ask::new("GET", "k")).map(|_| ()).unwrap_err();
        assert_eq!(failure.trouble, Trouble::Clock);
        assert!(
            failure.why.contains("seconds behind the server's"),
            "{}",
            failure.why
        );
    }

    #[test]
    fn who_is_nobody_signs_nothing() {
        let script = Scripted::default();
        let client = client(
            "https://host",
            "b",
            &[("s3.unsafe-anonymous-auth", "yes")],
            &script,
        );
        client.send(&Ask::new("GET", "k")).unwrap();
        assert_eq!(asked(&script), ["GET https://host/b/k anonymous"]);
    }
}

//! HTTP over TCP and TLS: connections kept open, certificates as the user wishes, no silence without an end.
//! It must never trust a certificate that neither the system nor the user trusts.

use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy, SendBody};

use super::{Request, Response, Transport, TransportError};
use crate::backend::{BackendOptions, OptionError, TlsOptions, Trouble};

/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(20);
/// How long a name may take to be looked up.
const RESOLVE_MAX: Duration = Duration::from_secs(20);
/// How long an unused connection is kept. Servers close theirs after a minute or so, and a write into a closed one
/// costs a retry.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// What is told to servers.
const USER_AGENT: &str = concat!("lifeboat/", env!("CARGO_PKG_VERSION"));
/// What is sent or read at once, in bytes.
const BUFFER_BYTES: usize = 128 * 1024;
/// Bodies from this length on, in bytes, are sent when the server has said that it wants them: one that refuses closes
/// the connection, and what it said would be lost behind the broken write.
const EXPECT_MIN_BYTES: usize = 1 << 20;
/// How long that word is waited for; a server that does not know it says nothing.
const EXPECT_MAX: Duration = Duration::from_secs(2);
/// How the standard library begins what the resolver says.
const LOOKUP_FAILED: &str = "failed to lookup address information";
/// Variables that name a proxy for servers that speak TLS, in the order in which they count …
const PROXIES_TLS: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
/// … and for others.
const PROXIES_PLAIN: [&str; 4] = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
/// What no proxy leads to, as with Go's programs: this machine.
const OURSELVES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// HTTP over TCP, with TLS for `https`.
pub(in crate::backend) struct TcpTransport {
    agent: Agent,
}

impl TcpTransport {
    /// A transport to one server that keeps at most so many connections open.
    pub(in crate::backend) fn new(
        url: &str,
        options: &BackendOptions,
        connections: usize,
    ) -> Result<Self, OptionError> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(USER_AGENT)
            .accept("")
            .accept_encoding("")
            .tls_config(tls(&options.tls)?)
            .proxy(proxy(url, options)?)
            .timeout_await_100(Some(EXPECT_MAX))
            .timeout_resolve(Some(RESOLVE_MAX))
            .timeout_connect(Some(CONNECT_MAX))
            .timeout_recv_response(Some(options.stall))
            .timeout_per_read(Some(options.stall))
            .timeout_per_write(Some(options.stall))
            .input_buffer_size(BUFFER_BYTES)
            .output_buffer_size(BUFFER_BYTES)
            .max_idle_connections(connections)
            .max_idle_connections_per_host(connections)
            .max_idle_age(IDLE_MAX)
            .build();
        Ok(Self {
            agent: config.new_agent(),
        })
    }
}

impl Transport for TcpTransport {
    fn send(&self, request: &Request<'_>) -> Result<Response, TransportError> {
        let mut builder = ureq::http::Request::builder()
            .method(request.method)
            .uri(request.url);
        for (name, value) in request.headers {
            builder = builder.header(*name, value);
        }
        let length_bytes: usize = request.body.iter().map(|piece| piece.len()).sum();
        let is_head = request.method == "HEAD";
        let has_body = matches!(request.method, "PUT" | "POST");
        if has_body {
            builder = builder.header("Content-Length", length_bytes);
        }
        if has_body && length_bytes >= EXPECT_MIN_BYTES {
            builder = builder.header("Expect", "100-continue");
        }
        let unusable = |error: ureq::http::Error| TransportError {
            trouble: Trouble::Other,
            why: format!("the request can't be made: {error}"),
        };
        let answered = if has_body {
            let mut pieces = Pieces(request.body, 0);
            let body = SendBody::from_reader(&mut pieces);
            self.agent.run(builder.body(body).map_err(unusable)?)
        } else {
            self.agent.run(builder.body(()).map_err(unusable)?)
        };
        let response = answered.map_err(|error| of_ureq(&error))?;
        let (head, body) = response.into_parts();
        let headers = head.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        let headers: Vec<(String, String)> = headers.collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length_bytes = length.and_then(|(_, value)| value.trim().parse().ok());
        Ok(Response {
            status: head.status.as_u16(),
            length_bytes,
            has_body: !is_head,
            headers,
            body: Box::new(body.into_with_config().limit(u64::MAX).reader()),
        })
    }
}

/// Reads the pieces of a body one after the other.
struct Pieces<'a>(&'a [&'a [u8]], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some((first, rest)) = self.0.split_first() {
            let left = first.get(self.1..).unwrap_or_default();
            if left.is_empty() {
                (self.0, self.1) = (rest, 0);
                continue;
            }
            let count = left.len().min(buf.len());
            if let (Some(to), Some(from)) = (buf.get_mut(..count), left.get(..count)) {
                to.copy_from_slice(from);
            }
            self.1 += count;
            return Ok(count);
        }
        Ok(0)
    }
}

fn of_ureq(error: &ureq::Error) -> TransportError {
    use ureq::Error;
    let trouble = match error {
        Error::HostNotFound => Trouble::Unreachable,
        Error::ConnectionFailed | Error::ConnectProxyFailed(_) => Trouble::Unreachable,
        Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => Trouble::Unreachable,
        Error::Timeout(_) => Trouble::Transient,
        Error::Tls(_) | Error::Pem(_) | Error::Rustls(_) | Error::TlsRequired => Trouble::Tls,
        Error::Io(cause) => return of_io(cause),
        Error::Protocol(_) | Error::BodyStalled => Trouble::Transient,
        Error::BadUri(_) | Error::InvalidProxyUrl | Error::Http(_) => Trouble::Other,
        _ => Trouble::Protocol,
    };
    let why = match error {
        Error::HostNotFound => "the name of the server is not known".to_owned(),
        Error::Timeout(ureq::Timeout::Connect) => "nobody answered in time".to_owned(),
        Error::Timeout(what) => format!("the server was silent for too long ({what})"),
        other => other.to_string(),
    };
    TransportError { trouble, why }
}

fn of_io(cause: &io::Error) -> TransportError {
    use io::ErrorKind as Kind;
    // A failed look-up has a text, and no kind that could be asked for.
    if let Some(why) = cause.to_string().strip_prefix(LOOKUP_FAILED) {
        return TransportError {
            trouble: Trouble::Unreachable,
            why: format!("the name of the server can't be looked up{why}"),
        };
    }
    // A failed handshake comes as an input error with the reason inside.
    let tls = cause
        .get_ref()
        .is_some_and(|inner| inner.to_string().contains("certificate"));
    let mut text = cause.to_string();
    if text.contains("CaUsedAsEndEntity") {
        // What `openssl req -x509` makes by default, as many documentations say.
        text = "the server's certificate is that of an authority, which no server may show: make it anew with `-addext basicConstraints=critical,CA:FALSE`, and trust that".into();
    }
    if text.contains("InvalidContentType") {
        text = "what answers is not TLS: does this server speak plain http:// there?".into();
    }
    let trouble = match cause.kind() {
        _ if tls => Trouble::Tls,
        Kind::InvalidData => Trouble::Tls,
        Kind::ConnectionRefused
        | Kind::HostUnreachable
        | Kind::NetworkUnreachable
        | Kind::NetworkDown
        | Kind::AddrNotAvailable => Trouble::Unreachable,
        _ => Trouble::Transient,
    };
    TransportError { trouble, why: text }
}

/// The proxy that a variable names. They are read here and not by the library, which would look into the environment.
fn proxy(url: &str, options: &BackendOptions) -> Result<Option<Proxy>, OptionError> {
    let mut set = match url.starts_with("https:") {
        true => PROXIES_TLS.iter(),
        false => PROXIES_PLAIN.iter(),
    };
    let Some((name, url)) = set.find_map(|name| Some((name, options.variable(name)?))) else {
        return Ok(None);
    };
    let unusable = |_| OptionError {
        name: (*name).to_owned(),
        why: "it is no URL of a proxy".into(),
    };
    let parsed = Proxy::new(url.reveal()).map_err(unusable)?;
    let mut builder = Proxy::builder(parsed.protocol())
        .host(parsed.host())
        .port(parsed.port());
    if let Some(user) = parsed.username() {
        builder = builder.username(user);
    }
    if let Some(password) = parsed.password() {
        builder = builder.password(password);
    }
    let without = ["NO_PROXY", "no_proxy"];
    let without = without.iter().find_map(|name| options.variable(name));
    for host in OURSELVES {
        builder = builder.no_proxy(host);
    }
    for host in without.iter().flat_map(|hosts| hosts.reveal().split(',')) {
        builder = builder.no_proxy(host.trim());
    }
    builder.build().map(Some).map_err(unusable)
}

fn tls(options: &TlsOptions) -> Result<TlsConfig, OptionError> {
    let roots = if options.ca_files.is_empty() {
        let system = rustls_native_certs::load_native_certs();
        let certificates: Vec<Certificate<'static>> = system
            .certs
            .iter()
            .map(|der| Certificate::from_der(der).to_owned())
            .collect();
        if certificates.is_empty() {
            // A machine without a store, as a slim container: the store of Mozilla is built in.
            RootCerts::WebPki
        } else {
            RootCerts::new_with_certs(&certificates)
        }
    } else {
        let mut certificates = Vec::new();
        for file in &options.ca_files {
            let found: Vec<_> = pem(file, "--cacert")?
                .into_iter()
                .filter_map(|item| match item {
                    PemItem::Certificate(certificate) => Some(certificate),
                    _ => None,
                })
                .collect();
            if found.is_empty() {
                return Err(OptionError {
                    name: format!("--cacert {}", file.display()),
                    why: "it holds no certificate in PEM form".into(),
                });
            }
            certificates.extend(found);
        }
        RootCerts::new_with_certs(&certificates)
    };
    let client = options.client_file.as_deref().map(client).transpose()?;
    Ok(TlsConfig::builder()
        .root_certs(roots)
        .client_cert(client)
        .disable_verification(options.insecure)
        .build())
}

fn client(file: &Path) -> Result<ClientCert, OptionError> {
    let mut chain = Vec::new();
    let mut key: Option<PrivateKey<'static>> = None;
    for item in pem(file, "--tls-client-cert")? {
        match item {
            PemItem::Certificate(certificate) => chain.push(certificate),
            PemItem::PrivateKey(found) => key = Some(found),
            _ => {}
        }
    }
    match key {
        Some(key) if !chain.is_empty() => Ok(ClientCert::new_with_certs(&chain, key)),
        _ => Err(OptionError {
            name: format!("--tls-client-cert {}", file.display()),
            why: "it must hold a certificate and its private key in PEM form".into(),
        }),
    }
}

fn pem(file: &Path, option: &str) -> Result<Vec<PemItem<'static>>, OptionError> {
    let error = |why: String| OptionError {
        name: format!("{option} {}", file.display()),
        why,
    };
    let text = std::fs::read(file).map_err(|cause| error(cause.to_string()))?;
    parse_pem(&text)
        .collect::<Result<_, _>>()
        .map_err(|cause| error(cause.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Secret;

    #[test]
    fn a_proxy_is_that_of_the_scheme_and_leads_not_to_this_machine() {
        let mut options = BackendOptions::default();
        for (name, value) in [
            ("https_proxy", "http://tls:1"),
            ("ALL_PROXY", "http://all:2"),
            ("NO_PROXY", "nas.lan, .example.net"),
        ] {
            options.variables.insert(name.into(), Secret::new(value));
        }
        let host = |url: &str| {
            let proxy = proxy(url, &options).unwrap().unwrap();
            let passed = proxy.is_no_proxy(&url.parse().unwrap());
            (!passed).then(|| proxy.host().to_owned())
        };
        assert_eq!(host("https://host/").as_deref(), Some("tls"));
        assert_eq!(host("http://host:8000/").as_deref(), Some("all"));
        for url in [
            "http://127.0.0.1:3900/",
            "https://localhost/",
            "http://[::1]:3900/",
            "https://nas.lan/",
            "https://s3.example.net/",
        ] {
            assert_eq!(host(url), None, "{url}");
        }
    }
}

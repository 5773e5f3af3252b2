//! One connection of a client through the proxy, request by request.
//! It must never send a request twice unless the plan says so.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::fault::{Exchange, HttpFault};
use super::message::{Answer, Framing, Head};
use super::{Shared, lock};
use crate::random::Random;

/// What is read at once, in bytes: the proxy should be slower than nobody.
const BUFFER_BYTES: usize = 256 * 1024;
/// How often a connection that is held looks whether the proxy stops.
const HOLD_POLL: Duration = Duration::from_millis(20);
/// How far the date of an answer is in the past, and how far the clocks of a refused request differ.
const SKEW_SECONDS: i64 = 3600;

pub(super) struct Connection<'s> {
    number: u64,
    client: BufReader<TcpStream>,
    upstream: Option<BufReader<TcpStream>>,
    shared: &'s Arc<Shared>,
}

/// What follows a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Request,
    Close,
    /// The client is to see its connection reset.
    Reset,
    /// The client is to see nothing, until it goes away.
    Hold,
}

impl<'s> Connection<'s> {
    pub(super) fn new(client: TcpStream, number: u64, shared: &'s Arc<Shared>) -> io::Result<Self> {
        client.set_nodelay(true)?;
        shared.hold(number, &client)?;
        Ok(Self {
            number,
            client: BufReader::with_capacity(BUFFER_BYTES, client),
            upstream: None,
            shared,
        })
    }

    /// Serves requests until one side has enough.
    pub(super) fn serve(mut self) {
        // To connect takes the client a round trip, before it can ask anything.
        let connecting = self.shared.round_trip();
        let mut is_first = true;
        loop {
            let next = match Head::read(&mut self.client) {
                Ok(Some(head)) => {
                    if is_first {
                        std::thread::sleep(connecting);
                        is_first = false;
                    }
                    self.request(head)
                }
                Ok(None) | Err(_) => Ok(Next::Close),
            };
            match next {
                Ok(Next::Request) => {}
                Ok(Next::Reset) => return self.reset(),
                Ok(Next::Hold) => return self.hold(),
                // Whoever went away has no more to be told.
                Ok(Next::Close) | Err(_) => {
                    let _ = self.client.get_ref().shutdown(Shutdown::Both);
                    return;
                }
            }
        }
    }

    fn request(&mut self, mut head: Head) -> io::Result<Next> {
        let (method, target) = (head.word(0).to_owned(), head.word(1).to_owned());
        {
            let mut traffic = lock(&self.shared.traffic);
            *traffic.requests.entry(method.clone()).or_default() += 1;
            traffic.up_bytes += head.to_bytes().len() as u64;
        }
        let (exchange, fault) = self.shared.begin(&method, &target);
        std::thread::sleep(self.shared.round_trip() / 2);
        if head.says("expect", "100-continue") {
            head.remove("expect");
            if fault != Some(HttpFault::ResetBefore) {
                self.client
                    .get_mut()
                    .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
        }
        match fault {
            None if self.shared.remembers(&exchange) => {
                let body = self.body(&head)?;
                let answer = self.ask(&exchange, &head, &body)?;
                self.answer(&answer)
            }
            None => self.pass(&exchange, &head),
            Some(fault) => self.fail(&exchange, &head, fault),
        }
    }

    /// Passes request and answer on as they come.
    fn pass(&mut self, exchange: &Exchange, head: &Head) -> io::Result<Next> {
        let framing = Framing::of_request(head);
        self.connect()?;
        let Some(upstream) = &mut self.upstream else {
            return Ok(Next::Close);
        };
        upstream.get_mut().write_all(&head.to_bytes())?;
        // A server that refuses may answer before it has read everything, and close.
        let sent = framing.relay(&mut self.client, upstream.get_mut());
        let answered = read_answer_head(upstream)?;
        let framing = Framing::of_answer(&answered, &exchange.method);
        std::thread::sleep(self.shared.round_trip() / 2);
        let bytes = answered.to_bytes();
        self.client.get_mut().write_all(&bytes)?;
        let body = framing.relay(upstream, self.client.get_mut())?;
        {
            let mut traffic = lock(&self.shared.traffic);
            traffic.up_bytes += *sent.as_ref().unwrap_or(&0);
            traffic.down_bytes += bytes.len() as u64 + body;
        }
        let ends = framing == Framing::UntilClose || answered.says("connection", "close");
        if ends || sent.is_err() || head.says("connection", "close") {
            self.upstream = None;
            return Ok(Next::Close);
        }
        Ok(Next::Request)
    }

    fn fail(&mut self, exchange: &Exchange, head: &Head, fault: HttpFault) -> io::Result<Next> {
        if fault == HttpFault::ResetBefore {
            self.shared.note(exchange, fault);
            return Ok(Next::Reset);
        }
        if fault == HttpFault::ResetInBody {
            return self.reset_in_body(exchange, head);
        }
        let body = self.body(head)?;
        if let Some(answer) = own_answer(fault) {
            self.shared.note(exchange, fault);
            return self.answer(&answer);
        }
        match fault {
            HttpFault::StallBefore => {
                self.shared.note(exchange, fault);
                return Ok(Next::Hold);
            }
            HttpFault::StaleListing => {
                if let Some(answer) = self.shared.earlier(exchange) {
                    self.shared.note(exchange, fault);
                    return self.answer(&answer);
                }
            }
            HttpFault::Duplicate => {
                self.shared.note(exchange, fault);
                self.ask(exchange, head, &body)?;
            }
            _ => {}
        }
        let mut answer = self.ask(exchange, head, &body)?;
        let is_bent = bend(&mut answer, exchange, fault);
        if is_bent {
            self.shared.note(exchange, fault);
        }
        match fault {
            HttpFault::StallAfter => Ok(Next::Hold),
            HttpFault::Truncate => {
                let bytes = answer.head.to_bytes();
                let cut = answer.body.len() / 2;
                if answer.body.is_empty() {
                    self.send(&bytes[..bytes.len() / 2], &[])?;
                } else {
                    self.send(&bytes, &answer.body[..cut])?;
                }
                Ok(Next::Close)
            }
            HttpFault::ResetAfterHead => {
                self.send(&answer.head.to_bytes(), &[])?;
                Ok(Next::Reset)
            }
            _ => self.answer(&answer),
        }
    }

    /// Half of the body reaches the server, then both see the connection break.
    fn reset_in_body(&mut self, exchange: &Exchange, head: &Head) -> io::Result<Next> {
        self.shared.note(exchange, HttpFault::ResetInBody);
        let body = self.body(head)?;
        self.connect()?;
        if let Some(mut upstream) = self.upstream.take() {
            let mut cut = with_length(head, body.len());
            cut.extend_from_slice(&body[..body.len() / 2]);
            if body.is_empty() {
                cut.truncate(cut.len() / 2);
            }
            upstream.get_mut().write_all(&cut)?;
            break_off(upstream.get_ref());
        }
        Ok(Next::Reset)
    }

    /// The whole body of a request.
    fn body(&mut self, head: &Head) -> io::Result<Vec<u8>> {
        let body = Framing::of_request(head).read(&mut self.client)?;
        lock(&self.shared.traffic).up_bytes += body.len() as u64;
        Ok(body)
    }

    /// Asks the server, and waits for the whole answer.
    fn ask(&mut self, exchange: &Exchange, head: &Head, body: &[u8]) -> io::Result<Answer> {
        self.connect()?;
        let Some(upstream) = &mut self.upstream else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        upstream
            .get_mut()
            .write_all(&with_length(head, body.len()))?;
        let sent = upstream.get_mut().write_all(body);
        let answered = read_answer_head(upstream)?;
        let framing = Framing::of_answer(&answered, &exchange.method);
        let body = framing.read(upstream)?;
        if sent.is_err()
            || framing == Framing::UntilClose
            || answered.says("connection", "close")
            || head.says("connection", "close")
        {
            self.upstream = None;
        }
        let mut answer = Answer {
            head: answered,
            body,
            is_head_only: framing == Framing::None,
        };
        answer.fit_length();
        if exchange.is_listing() && answer.head.status() == 200 {
            self.shared.remember(exchange, &answer);
        }
        Ok(answer)
    }

    /// Tells the client an answer.
    fn answer(&mut self, answer: &Answer) -> io::Result<Next> {
        self.send(&answer.head.to_bytes(), &answer.body)?;
        if answer.head.says("connection", "close") {
            return Ok(Next::Close);
        }
        Ok(Next::Request)
    }

    fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        std::thread::sleep(self.shared.round_trip() / 2);
        lock(&self.shared.traffic).down_bytes += (head.len() + body.len()) as u64;
        self.client.get_mut().write_all(&[head, body].concat())
    }

    /// A connection to the server: the one that is open, unless the server closed it meanwhile.
    fn connect(&mut self) -> io::Result<()> {
        if let Some(open) = &self.upstream
            && open.buffer().is_empty()
            && is_quiet(open.get_ref())
        {
            return Ok(());
        }
        let stream = TcpStream::connect(self.shared.upstream)?;
        stream.set_nodelay(true)?;
        self.shared.hold(self.number, &stream)?;
        self.upstream = Some(BufReader::with_capacity(BUFFER_BYTES, stream));
        Ok(())
    }

    fn reset(self) {
        break_off(self.client.get_ref());
    }

    /// Says nothing until the client goes away.
    fn hold(mut self) {
        let stream = self.client.get_mut();
        let _ = stream.set_read_timeout(Some(HOLD_POLL));
        let mut lost = [0; 1024];
        while !self.shared.stopping.load(Ordering::SeqCst) {
            match stream.read(&mut lost) {
                Ok(0) => return,
                Err(error)
                    if !matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    return;
                }
                _ => {}
            }
        }
    }
}

/// Closes so that the other side sees a reset, not an end.
fn break_off(stream: &TcpStream) {
    // Without it the other side would see an end, which is a fault too. All handles must go for it to happen, and
    // those that the proxy keeps are dropped with the thread of the connection.
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

/// Whether a connection is open and nothing has come that nobody asked for.
fn is_quiet(stream: &TcpStream) -> bool {
    if stream.set_nonblocking(true).is_err() {
        return false;
    }
    let found = stream.peek(&mut [0]);
    stream.set_nonblocking(false).is_ok()
        && found.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// The head of the final answer.
fn read_answer_head(from: &mut BufReader<TcpStream>) -> io::Result<Head> {
    loop {
        let head = Head::read(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if head.status() >= 200 {
            return Ok(head);
        }
    }
}

/// The head of a request whose body was read whole.
fn with_length(head: &Head, body_bytes: usize) -> Vec<u8> {
    let mut head = head.clone();
    if head.get("transfer-encoding").is_some() {
        head.remove("transfer-encoding");
        head.set("Content-Length", body_bytes.to_string());
    }
    head.to_bytes()
}

/// What the proxy says in the place of the server.
fn own_answer(fault: HttpFault) -> Option<Answer> {
    let xml = ("Content-Type", "application/xml".to_owned());
    match fault {
        HttpFault::SlowDown => Some(Answer::new(
            "503 Slow Down",
            &[xml],
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>",
        )),
        HttpFault::TooManyRequests => Some(Answer::new(
            "429 Too Many Requests",
            &[("Retry-After", "0".to_owned())],
            "",
        )),
        HttpFault::RefuseClock => Some(Answer::new(
            "403 Forbidden",
            &[xml, ("Date", http_date(SKEW_SECONDS))],
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and the current time is too large.</Message></Error>",
        )),
        _ => None,
    }
}

/// Changes an answer; false if the fault does not fit it.
fn bend(answer: &mut Answer, exchange: &Exchange, fault: HttpFault) -> bool {
    let had_body = !answer.body.is_empty();
    match fault {
        HttpFault::StallAfter | HttpFault::Truncate | HttpFault::ResetAfterHead => return true,
        HttpFault::ErrorAfter => {
            *answer = Answer::new("500 Internal Server Error", &[], "");
            // The answer to a HEAD has no body, whatever its head says.
            answer.is_head_only = exchange.method == "HEAD";
            return true;
        }
        HttpFault::OldDate => {
            answer.head.set("Date", http_date(-SKEW_SECONDS));
            return true;
        }
        HttpFault::WrongRange => {
            let Some(told) = answer.head.get("content-range").map(moved) else {
                return false;
            };
            answer.head.set("Content-Range", told);
            return true;
        }
        HttpFault::Shorten | HttpFault::Lengthen if exchange.method == "HEAD" => {
            return bend_told_length(answer, fault);
        }
        HttpFault::Shorten => drop(answer.body.pop()),
        HttpFault::Lengthen if had_body => answer.body.push(b'x'),
        HttpFault::FlipBit => {
            let mut random = Random::new(exchange.number);
            let at = random.index(answer.body.len());
            if let Some(byte) = answer.body.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        _ => return false,
    }
    answer.fit_length();
    had_body
}

/// The answer to a HEAD tells another length.
fn bend_told_length(answer: &mut Answer, fault: HttpFault) -> bool {
    let told = answer.head.get("content-length");
    let Some(told) = told.and_then(|told| told.parse::<u64>().ok()) else {
        return false;
    };
    let bent = match fault {
        HttpFault::Shorten => told.checked_sub(1),
        _ => Some(told + 1),
    };
    if let Some(bent) = bent {
        answer.head.set("Content-Length", bent.to_string());
    }
    bent.is_some()
}

/// `bytes 5-9/20` as `bytes 6-10/20`.
fn moved(range: &str) -> String {
    let parts: Vec<String> = range
        .trim_start_matches("bytes ")
        .split(['-', '/'])
        .map(|part| {
            part.parse()
                .map_or(part.to_owned(), |n: u64| (n + 1).to_string())
        })
        .collect();
    match parts.as_slice() {
        [from, to, size] => format!("bytes {from}-{to}/{size}"),
        _ => range.to_owned(),
    }
}

/// The time so many seconds from now, as HTTP writes it.
fn http_date(skew_seconds: i64) -> String {
    let time = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(skew_seconds);
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

//! The proxy passes requests as they are, counts them, and makes each fault that it names.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lifeboat_testkit::proxy::{HttpFault, HttpPlan, HttpProxy};
use lifeboat_testkit::wait::{PATIENCE, until};

/// A server that keeps what it was sent and answers each request with its number.
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&seen);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || serve(client.unwrap(), &kept));
            }
        });
        Self { address, seen }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(mut client: TcpStream, seen: &Mutex<Vec<String>>) {
    while let Some(request) = read_message(&mut client) {
        let status = if request == LIST {
            "200 OK"
        } else {
            "206 Partial Content"
        };
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(request);
            seen.len()
        };
        let body = format!("answer {number}");
        let head = format!("HTTP/1.1 {status}\r\nContent-Range: bytes 5-12/20\r\n");
        write!(client, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    }
}

/// One message with a told length; `None` when the connection ends or breaks before it is whole.
fn read_message(from: &mut TcpStream) -> Option<String> {
    let mut text = String::new();
    let mut byte = [0];
    while !text.ends_with("\r\n\r\n") {
        from.read_exact(&mut byte).ok()?;
        text.push(byte[0].into());
    }
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    from.read_exact(&mut body).ok()?;
    Some(text + &String::from_utf8_lossy(&body))
}

const GET: &str = "GET /repo/data/ab HTTP/1.1\r\nhOsT: storage.example:1\r\nX-Signed: a,b\r\n\r\n";
const PUT: &str = "PUT /repo/data/ab HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody";
const LIST: &str = "GET /repo/data/ HTTP/1.1\r\nHost: h\r\n\r\n";

struct Client(TcpStream);

impl Client {
    fn of(proxy: &HttpProxy) -> Self {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    fn ask(&mut self, request: &str) -> Option<String> {
        self.0.write_all(request.as_bytes()).unwrap();
        read_message(&mut self.0)
    }

    /// All that comes until the connection ends, and how it ends.
    fn ask_to_the_end(&mut self, request: &str) -> (String, std::io::Result<()>) {
        self.0.write_all(request.as_bytes()).unwrap();
        let mut got = Vec::new();
        let end = self.0.read_to_end(&mut got).map(drop);
        (String::from_utf8_lossy(&got).into_owned(), end)
    }
}

#[test]
fn what_passes_is_not_changed_and_is_counted() {
    let server = Server::start();
    let proxy = HttpProxy::start(server.address);
    let mut client = Client::of(&proxy);
    let first = client.ask(GET).unwrap();
    assert!(first.ends_with("answer 1"), "{first}");
    let second = client.ask(PUT).unwrap();
    assert!(second.ends_with("answer 2"), "{second}");
    assert_eq!(server.seen(), [GET, PUT]);
    // The last bytes are counted when they have been told.
    let down_bytes = first.len() + second.len();
    until("the count", || {
        proxy.traffic().down_bytes as usize >= down_bytes
    });
    let traffic = proxy.traffic();
    assert_eq!((traffic.connections, traffic.total_requests()), (1, 2));
    assert_eq!(traffic.requests.get("PUT"), Some(&1));
    assert_eq!(traffic.up_bytes as usize, GET.len() + PUT.len());
    assert_eq!(traffic.down_bytes as usize, down_bytes);
    proxy.reset_traffic();
    assert_eq!(proxy.traffic().total_requests(), 0);
}

#[test]
fn a_longer_way_takes_longer() {
    let server = Server::start();
    let proxy = HttpProxy::start(server.address);
    proxy.set_round_trip(Duration::from_millis(40));
    let mut client = Client::of(&proxy);
    let begin = Instant::now();
    client.ask(GET).unwrap();
    // The connection, and the request.
    assert!(begin.elapsed() >= Duration::from_millis(80));
    let begin = Instant::now();
    client.ask(GET).unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(40));
}

/// A server behind a proxy whose next request goes wrong.
fn failing(fault: HttpFault) -> (Server, HttpProxy, Client) {
    let server = Server::start();
    let proxy = HttpProxy::start(server.address);
    proxy.follow(HttpPlan::at(0, fault));
    let client = Client::of(&proxy);
    (server, proxy, client)
}

#[test]
fn some_answers_come_instead_of_the_work() {
    for (fault, status) in [
        (HttpFault::SlowDown, "503"),
        (HttpFault::TooManyRequests, "429"),
        (HttpFault::RefuseClock, "403"),
    ] {
        let (server, proxy, mut client) = failing(fault);
        let answer = client.ask(PUT).unwrap();
        assert_eq!(answer.split(' ').nth(1), Some(status));
        assert_eq!(server.seen(), Vec::<String>::new());
        assert_eq!(proxy.injected().len(), 1);
        // The connection goes on.
        assert!(client.ask(GET).unwrap().ends_with("answer 1"));
    }
    let (server, _proxy, mut client) = failing(HttpFault::ErrorAfter);
    assert!(client.ask(PUT).unwrap().starts_with("HTTP/1.1 500"));
    assert_eq!(server.seen(), [PUT]);
}

#[test]
fn silence_comes_before_and_after_the_work() {
    for (fault, work) in [(HttpFault::StallBefore, 0), (HttpFault::StallAfter, 1)] {
        let (server, _proxy, mut client) = failing(fault);
        let soon = Some(Duration::from_millis(300));
        client.0.set_read_timeout(soon).unwrap();
        let (got, end) = client.ask_to_the_end(PUT);
        assert_eq!(got, "");
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        until("the work", || server.seen().len() >= work);
        assert_eq!(server.seen().len(), work);
    }
}

#[test]
fn answers_are_cut_and_bent() {
    let (_server, _proxy, mut client) = failing(HttpFault::Truncate);
    let (got, end) = client.ask_to_the_end(GET);
    assert!(end.is_ok() && got.contains("Content-Length: 8\r\n") && got.ends_with("\r\n\r\nansw"));
    for (fault, expected) in [
        (HttpFault::Shorten, "Content-Length: 7\r\n\r\nanswer "),
        (HttpFault::Lengthen, "Content-Length: 9\r\n\r\nanswer 1x"),
        (HttpFault::WrongRange, "Content-Range: bytes 6-13/21\r\n"),
        (HttpFault::OldDate, "Date: "),
    ] {
        let (_server, proxy, mut client) = failing(fault);
        let answer = client.ask(GET).unwrap();
        assert!(answer.contains(expected), "{fault}: {answer}");
        assert_eq!(proxy.injected().len(), 1);
    }
    let (_server, _proxy, mut client) = failing(HttpFault::FlipBit);
    assert!(!client.ask(GET).unwrap().ends_with("answer 1"));
}

#[test]
fn connections_are_reset() {
    for (fault, got_a_head) in [
        (HttpFault::ResetBefore, false),
        (HttpFault::ResetInBody, false),
        (HttpFault::ResetAfterHead, true),
    ] {
        let (server, proxy, mut client) = failing(fault);
        let (got, end) = client.ask_to_the_end(PUT);
        let kind = end.unwrap_err().kind();
        assert_eq!(kind, std::io::ErrorKind::ConnectionReset, "{fault}");
        // What was sent before a reset may be lost with it.
        assert!(got_a_head || got.is_empty(), "{fault}: {got}");
        assert_eq!(server.seen().len(), usize::from(got_a_head), "{fault}");
        assert_eq!(proxy.injected().len(), 1);
    }
}

#[test]
fn a_request_comes_twice_and_a_listing_late() {
    let (server, _proxy, mut client) = failing(HttpFault::Duplicate);
    assert!(client.ask(PUT).unwrap().ends_with("answer 2"));
    assert_eq!(server.seen(), [PUT, PUT]);

    let server = Server::start();
    let proxy = HttpProxy::start(server.address);
    proxy.follow(HttpPlan::new(|exchange| {
        (exchange.number != 1).then_some(HttpFault::StaleListing)
    }));
    let mut client = Client::of(&proxy);
    // Nothing is known of earlier listings yet, and a file is none.
    assert!(client.ask(LIST).unwrap().ends_with("answer 1"));
    assert!(client.ask(LIST).unwrap().ends_with("answer 2"));
    assert!(client.ask(GET).unwrap().ends_with("answer 3"));
    assert!(client.ask(LIST).unwrap().ends_with("answer 2"));
    assert_eq!(proxy.injected().len(), 1);
}

//! An S3 server inside the test's process: signatures are checked by s3s, objects lie in memory, answers can be bent.
//! It must never be what compatibility is judged by: that is Garage, a real server.

mod store;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use lifeboat_repo::backend::{BackendOptions, Secret};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpResponse};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::authority::Authority;
use store::Store;

const KEY_ID: &str = "LIFEBOATTESTKEY";
const SECRET: &str = "a-secret-for-tests/with+signs";
const BUCKET: &str = "bucket";
const REGION: &str = "us-east-1";

/// An answer that is given instead of the server's own.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers beside the length.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// An error as S3 tells it.
    #[must_use]
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        Self {
            status,
            headers: vec![("content-type", "application/xml".into())],
            body: format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
            ),
        }
    }

    /// With another header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// A request that came in.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its method, path and query, as `GET /bucket/?list-type=2`.
    pub line: String,
    /// Its headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The client's address; the same for requests on one connection.
    pub from: SocketAddr,
}

#[derive(Debug)]
struct Bent {
    part: String,
    times: usize,
    answer: Answer,
}

#[derive(Debug, Default)]
struct Desk {
    bent: Mutex<Vec<Bent>>,
    seen: Mutex<Vec<Seen>>,
}

/// A running server. It stops when it is dropped.
#[derive(Debug)]
pub struct LocalS3 {
    address: SocketAddr,
    authority: Option<Authority>,
    store: Store,
    desk: Arc<Desk>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl LocalS3 {
    /// A server on a free port with one empty bucket.
    ///
    /// # Panics
    /// If it can't be started.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// As [`start`](Self::start), behind TLS with a certificate that only [`ca_file`](Self::ca_file) vouches for.
    ///
    /// # Panics
    /// If it can't be started.
    #[must_use]
    pub fn start_tls() -> Self {
        Self::start_with(Some(Authority::new()))
    }

    fn start_with(authority: Option<Authority>) -> Self {
        let store = Store::default();
        store.make_bucket(BUCKET);
        let mut service = S3ServiceBuilder::new(store.clone());
        service.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
        let service = service.build();
        let desk = Arc::new(Desk::default());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let acceptor = authority.as_ref().map(Authority::acceptor);
        let for_thread = Arc::clone(&desk);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                tokio::select! {
                    () = serve(listener, acceptor, service, for_thread) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            address,
            authority,
            store,
            desk,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Its URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        match self.authority {
            // A certificate is for a name.
            Some(_) => format!("https://localhost:{}", self.address.port()),
            None => format!("http://{}", self.address),
        }
    }

    /// The bucket that exists.
    #[must_use]
    pub fn bucket(&self) -> &'static str {
        BUCKET
    }

    /// The access key.
    #[must_use]
    pub fn key_id(&self) -> &'static str {
        KEY_ID
    }

    /// Its secret.
    #[must_use]
    pub fn secret(&self) -> &'static str {
        SECRET
    }

    /// Its region.
    #[must_use]
    pub fn region(&self) -> &'static str {
        REGION
    }

    /// The certificate to trust.
    ///
    /// # Panics
    /// If it speaks no TLS.
    #[must_use]
    pub fn ca_file(&self) -> &Path {
        self.authority.as_ref().expect("no TLS").ca_file()
    }

    /// A location in the bucket, as a user writes it.
    #[must_use]
    pub fn location(&self, prefix: &str) -> String {
        format!("s3:{}/{BUCKET}/{prefix}", self.endpoint())
    }

    /// What a user would set to reach it.
    #[must_use]
    pub fn options(&self) -> BackendOptions {
        let mut options = BackendOptions {
            variables: credentials(KEY_ID, SECRET),
            ..BackendOptions::default()
        };
        if let Some(authority) = &self.authority {
            options.tls.ca_files = vec![PathBuf::from(authority.ca_file())];
        }
        options
    }

    /// Gives another answer to the next `times` requests whose method, path and query contain `part`.
    pub fn bend(&self, part: &str, times: usize, answer: Answer) {
        let part = part.to_owned();
        lock(&self.desk.bent).push(Bent {
            part,
            times,
            answer,
        });
    }

    /// The requests since the last call.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *lock(&self.desk.seen))
    }

    /// Shows at most so many names on a page of a listing, whatever is asked for.
    pub fn limit_pages(&self, names: usize) {
        self.store.limit_pages(names);
    }

    /// Keeps every version from now on; with `locked`, none of them can be deleted.
    pub fn keep_versions(&self, locked: bool) {
        self.store.keep_versions(locked);
    }

    /// Replaces objects from now on although it was asked not to, as servers do that do not know conditions.
    pub fn ignore_conditions(&self) {
        self.store.ignore_conditions();
    }

    /// Names and contents of what is in the bucket, without older versions.
    #[must_use]
    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        self.store.objects(BUCKET)
    }

    /// How many uploads in parts are unfinished.
    #[must_use]
    pub fn uploads(&self) -> usize {
        self.store.uploads(BUCKET)
    }

    /// Makes the unfinished uploads look as if they had begun so much earlier.
    pub fn age_uploads(&self, by: std::time::Duration) {
        self.store.age_uploads(BUCKET, by);
    }

    /// Puts an object into the bucket, past every check.
    pub fn put(&self, key: &str, content: &[u8]) {
        self.store.put(BUCKET, key, content.to_vec());
    }
}

impl Drop for LocalS3 {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Variables that hold these credentials.
#[must_use]
pub fn credentials(key_id: &str, secret: &str) -> BTreeMap<String, Secret> {
    BTreeMap::from([
        ("AWS_ACCESS_KEY_ID".to_owned(), Secret::new(key_id)),
        ("AWS_SECRET_ACCESS_KEY".to_owned(), Secret::new(secret)),
    ])
}

async fn serve(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    service: S3Service,
    desk: Arc<Desk>,
) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
    loop {
        let Ok((socket, from)) = listener.accept().await else {
            continue;
        };
        let (service, desk) = (service.clone(), Arc::clone(&desk));
        match acceptor.clone() {
            None => {
                tokio::spawn(connection(socket, from, service, desk));
            }
            Some(acceptor) => {
                tokio::spawn(async move {
                    // A client that does not trust us says so and leaves.
                    if let Ok(socket) = acceptor.accept(socket).await {
                        connection(socket, from, service, desk).await;
                    }
                });
            }
        }
    }
}

async fn connection<S>(socket: S, from: SocketAddr, service: S3Service, desk: Arc<Desk>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let answer = service_fn(move |request: hyper::Request<Incoming>| {
        let bent = desk.take(&request, from);
        let service = service.clone();
        async move {
            match bent {
                Some(answer) => Ok(response(answer)),
                None => service.call(request.map(Body::from)).await,
            }
        }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    let http = http.timer(TokioTimer::new());
    // A client that goes away ends its connection with an error, which concerns nobody.
    let _ = http.serve_connection(TokioIo::new(socket), answer).await;
}

fn response(answer: Answer) -> HttpResponse {
    let mut builder = hyper::Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        builder = builder.header(name, value);
    }
    builder.body(Body::from(answer.body)).expect("an answer")
}

impl Desk {
    fn take(&self, request: &hyper::Request<Incoming>, from: SocketAddr) -> Option<Answer> {
        let line = format!("{} {}", request.method(), request.uri());
        let headers = request.headers().iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        lock(&self.seen).push(Seen {
            line: line.clone(),
            headers: headers.collect(),
            from,
        });
        let mut bent = lock(&self.bent);
        let found = bent
            .iter_mut()
            .find(|bent| bent.times > 0 && line.contains(&bent.part))?;
        found.times -= 1;
        Some(found.answer.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! HTTP/2 over the pipes of a child process, as `rclone serve restic --stdio` speaks it: no handshake, no TLS.
//! It must never block for longer than a peer may be silent, and never hold more of a body than a few pieces.

use std::io;
use std::pin::Pin;
use std::process::{ChildStdin, ChildStdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::download::{Download, PIECES_AHEAD, Piece};
use super::upload::{Upload, Uploader};
use super::{Request, Response, TransportError};
use crate::backend::Trouble;

/// How much a peer may send before it is read: of one answer, and of all together.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// The largest piece that a peer may send.
const FRAME_MAX_BYTES: u32 = 128 << 10;

/// A connection through two pipes, with a thread of its own that drives it.
pub(in crate::backend) struct StdioConnection {
    runtime: Handle,
    sender: SendRequest<Upload>,
    /// Ends the thread when it is dropped, and with it the pipes.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread tells who waits for an answer.
pub(super) enum Event {
    /// It wants the next piece of the body.
    Wanted,
    /// The head of the answer is here.
    Answered(Head, crossbeam_channel::Receiver<Piece>),
    /// There will be none.
    Failed(TransportError),
}

/// The head of an answer.
pub(super) struct Head {
    status: u16,
    headers: Vec<(String, String)>,
}

impl StdioConnection {
    /// Starts to speak through the pipes of a child.
    pub(in crate::backend) fn open(stdin: ChildStdin, stdout: ChildStdout) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let (opened, is_open) = crossbeam_channel::bounded(1);
        let thread = std::thread::Builder::new()
            .name("http2-stdio".into())
            .spawn(move || {
                runtime.block_on(async move {
                    let (sender, connection) = match connect(stdin, stdout).await {
                        Ok(both) => both,
                        Err(cause) => {
                            // The receiver waits for exactly this.
                            let _ = opened.send(Err(cause));
                            return;
                        }
                    };
                    let _ = opened.send(Ok(sender));
                    let connection = tokio::spawn(connection);
                    // Ends when the other side is dropped.
                    let _ = stopped.await;
                    connection.abort();
                });
            })?;
        let sender = is_open
            .recv()
            .unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))?;
        Ok(Self {
            runtime: handle,
            sender,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Whether the peer is gone, so that no request will ever be answered.
    pub(in crate::backend) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a request and waits for the head of the answer; nothing may stand still for longer than `stall`.
    pub(in crate::backend) fn send(
        &self,
        request: &Request<'_>,
        stall: Duration,
    ) -> Result<Response, TransportError> {
        let (events, said) = crossbeam_channel::unbounded();
        let progress = Progress::default();
        let length_bytes: u64 = request.body.iter().map(|piece| piece.len() as u64).sum();
        let (upload, uploader) = Upload::new(length_bytes, events.clone(), progress.clone());
        let credits = mpsc::unbounded_channel();
        let head = head(request, length_bytes, upload)?;
        let task = Exchange {
            sender: self.sender.clone(),
            events,
            progress,
            stall,
        };
        self.runtime.spawn(task.run(head, credits.1));
        let (head, pieces) = wait(&said, uploader, request.body)?;
        let length_bytes = head
            .headers
            .iter()
            .find(|(name, _)| name == "content-length")
            .and_then(|(_, value)| value.trim().parse().ok());
        Ok(Response {
            status: head.status,
            length_bytes,
            has_body: request.method != "HEAD",
            headers: head.headers,
            body: Box::new(Download::new(pieces, credits.0)),
        })
    }
}

impl Drop for StdioConnection {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was one of a library, and has been printed.
            let _ = thread.join();
        }
    }
}

type Connection = Pin<Box<dyn Future<Output = ()> + Send>>;

async fn connect(
    stdin: ChildStdin,
    stdout: ChildStdout,
) -> io::Result<(SendRequest<Upload>, Connection)> {
    let to = pipe::Sender::from_owned_fd(stdin.into())?;
    let from = pipe::Receiver::from_owned_fd(stdout.into())?;
    let (sender, connection) = Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_MAX_BYTES)
        .handshake(TokioIo::new(tokio::io::join(from, to)))
        .await
        .map_err(io::Error::other)?;
    let connection = Box::pin(async move {
        // Each request learns of its end itself.
        let _ = connection.await;
    });
    Ok((sender, connection))
}

fn head(
    request: &Request<'_>,
    length_bytes: u64,
    body: Upload,
) -> Result<hyper::Request<Upload>, TransportError> {
    let mut builder = hyper::Request::builder()
        .method(request.method)
        .uri(request.url);
    for (name, value) in request.headers {
        builder = builder.header(*name, value);
    }
    if matches!(request.method, "PUT" | "POST") {
        builder = builder.header("Content-Length", length_bytes);
    }
    builder.body(body).map_err(|error| TransportError {
        trouble: Trouble::Other,
        why: format!("the request can't be made: {error}"),
    })
}

/// Hands out the body as it is wanted, until the head of the answer is here.
fn wait(
    said: &crossbeam_channel::Receiver<Event>,
    mut uploader: Uploader,
    body: &[&[u8]],
) -> Result<(Head, crossbeam_channel::Receiver<Piece>), TransportError> {
    loop {
        match said.recv() {
            Ok(Event::Wanted) => uploader.hand_out(body),
            Ok(Event::Answered(head, pieces)) => return Ok((head, pieces)),
            Ok(Event::Failed(error)) => return Err(error),
            // The thread ended, and all its tasks with it.
            Err(_) => {
                return Err(TransportError {
                    trouble: Trouble::Transient,
                    why: "the connection was closed".into(),
                });
            }
        }
    }
}

/// Bytes that went either way, to tell what is slow from what stands still.
#[derive(Clone, Default)]
pub(super) struct Progress(Arc<AtomicU64>);

impl Progress {
    pub(super) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One request and its answer, on the thread of the connection.
struct Exchange {
    sender: SendRequest<Upload>,
    events: crossbeam_channel::Sender<Event>,
    progress: Progress,
    stall: Duration,
}

impl Exchange {
    /// Nobody may listen any more, wherever something is sent here: then there is nobody to tell.
    async fn run(mut self, request: hyper::Request<Upload>, credits: mpsc::UnboundedReceiver<()>) {
        let answer = match self.answer(request).await {
            Ok(answer) => answer,
            Err(error) => {
                let _ = self.events.send(Event::Failed(error));
                return;
            }
        };
        let (head, body) = answer.into_parts();
        let headers = head.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        let head = Head {
            status: head.status.as_u16(),
            headers: headers.collect(),
        };
        // Never full: only what a credit was given for is sent, and the end.
        let (pieces, received) = crossbeam_channel::bounded(PIECES_AHEAD + 1);
        let _ = self.events.send(Event::Answered(head, received));
        let stall = self.stall;
        drop(self);
        pass_on(body, &pieces, credits, stall).await;
    }

    async fn answer(
        &mut self,
        request: hyper::Request<Upload>,
    ) -> Result<hyper::Response<Incoming>, TransportError> {
        let error = |error: hyper::Error| TransportError {
            trouble: Trouble::Transient,
            why: lifeboat_flow::chain(&error),
        };
        self.sender.ready().await.map_err(error)?;
        let mut answer = std::pin::pin!(self.sender.send_request(request));
        loop {
            let before = self.progress.total();
            match tokio::time::timeout(self.stall, &mut answer).await {
                Ok(answer) => return answer.map_err(error),
                Err(_) if self.progress.total() > before => {}
                Err(_) => return Err(silent(self.stall)),
            }
        }
    }
}

async fn pass_on(
    mut body: Incoming,
    pieces: &crossbeam_channel::Sender<Piece>,
    mut credits: mpsc::UnboundedReceiver<()>,
    stall: Duration,
) {
    while credits.recv().await.is_some() {
        let bytes = loop {
            match tokio::time::timeout(stall, body.frame()).await {
                Err(_) => break Err(silent(stall).why),
                Ok(None) => break Ok(None),
                Ok(Some(Err(error))) => break Err(lifeboat_flow::chain(&error)),
                Ok(Some(Ok(frame))) => {
                    // Trailers say nothing that we ask for.
                    if let Ok(bytes) = frame.into_data() {
                        break Ok(Some(bytes));
                    }
                }
            }
        };
        let is_last = !matches!(bytes, Ok(Some(_)));
        if pieces.try_send(bytes).is_err() || is_last {
            return;
        }
    }
}

fn silent(stall: Duration) -> TransportError {
    TransportError {
        trouble: Trouble::Transient,
        why: format!("it was silent for {} seconds", stall.as_secs()),
    }
}

//! One SFTP connection over a program's standard input and output: many requests in flight, each answered once.
//! It must never wait without an end: a peer that is silent for too long is given up, and everybody is told.

use std::collections::HashMap;
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::failure::{Loss, SftpError};
use super::packet::{self, Answer, Extensions, Limits, PACKET_MAX_BYTES, Request, Status, VERSION};
use super::ssh::{End, Ssh};
use crate::backend::Trouble;

/// How often a silent connection is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What every server takes and gives in one request, in bytes (draft-ietf-secsh-filexfer-02, section 3).
const PIECE_BYTES: usize = 32 * 1024;
/// What one request carries at most, in bytes, where a server offers more.
const PIECE_MAX_BYTES: usize = 128 * 1024;
/// What is in flight for one file, in bytes. With 20 ms to a server and back that allows 200 MB/s.
const IN_FLIGHT_BYTES: usize = 4 << 20;
/// What is read ahead, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;
/// How much of what is no SFTP is shown, in bytes.
const ODD_BYTES: usize = 100;

/// An open connection.
pub(super) struct Session {
    shared: Arc<Shared>,
    writer: Mutex<UnixStream>,
    reader: Option<JoinHandle<()>>,
    ssh: Arc<Ssh>,
    extensions: Extensions,
    pieces: Pieces,
}

/// How many bytes one request may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pieces {
    pub(super) read_bytes: usize,
    pub(super) write_bytes: usize,
}

impl Pieces {
    const EVERYWHERE: Self = Self {
        read_bytes: PIECE_BYTES,
        write_bytes: PIECE_BYTES,
    };

    fn of(limits: Limits) -> Self {
        // 0 says that there is no limit, which is no reason to ask for more than everybody has.
        let within = |limit: u64| match usize::try_from(limit) {
            Ok(0) | Err(_) => PIECE_BYTES,
            Ok(limit) => limit.min(PIECE_MAX_BYTES),
        };
        Self {
            read_bytes: within(limits.read_bytes),
            write_bytes: within(limits.write_bytes),
        }
    }

    /// How many requests of a size are in flight for one file.
    pub(super) fn window(piece_bytes: usize) -> usize {
        (IN_FLIGHT_BYTES / piece_bytes.max(1)).max(1)
    }
}

/// A request under way.
#[must_use = "the answer tells whether it was done"]
pub(super) struct Ticket<'a> {
    session: &'a Session,
    answer: Receiver<Answer>,
}

impl<'a> Ticket<'a> {
    /// The session that it is under way in.
    pub(super) fn session(&self) -> &'a Session {
        self.session
    }

    /// Waits for the answer; a status is a failure, unless it says that all went well.
    pub(super) fn wait(self) -> Result<Answer, SftpError> {
        match self.answer.recv() {
            Ok(Answer::Status(status)) if status.code != Status::OK => {
                Err(SftpError::Status(status))
            }
            Ok(answer) => Ok(answer),
            Err(_) => Err(SftpError::Lost(self.session.loss())),
        }
    }

    /// Waits for the end of a request that gives nothing back.
    pub(super) fn done(self) -> Result<(), SftpError> {
        match self.wait()? {
            Answer::Status(_) => Ok(()),
            _ => Err(SftpError::odd("content where a status belongs")),
        }
    }
}

impl Session {
    /// Greets the server behind a program. `greeting_max` is how long its greeting may take: a person may have to type
    /// a password first. From then on `stall` without a byte is the end, if there is something to answer.
    pub(super) fn open(ssh: Ssh, greeting_max: Duration, stall: Duration) -> Result<Self, Loss> {
        let ssh = Arc::new(ssh);
        let shared = Arc::new(Shared::new(stall));
        let set_up = || -> io::Result<(UnixStream, BufReader<Patient>)> {
            let writer = ssh.stream()?;
            writer.set_write_timeout(Some(stall))?;
            writer.set_read_timeout(Some(LOOK_EVERY))?;
            let patient = Patient {
                stream: ssh.stream()?,
                until: Until::Moment(Instant::now() + greeting_max, greeting_max),
            };
            Ok((writer, BufReader::with_capacity(BUFFER_BYTES, patient)))
        };
        let (mut writer, mut stream) =
            set_up().map_err(|cause| ssh.why(End::Broken(cause), false))?;
        let greeted = greet(&mut writer, &mut stream);
        ssh.take_terminal_back();
        let extensions = greeted.map_err(|end| ssh.why(end, false))?;
        stream.get_mut().until = Until::Silent(Arc::clone(&shared));
        let reader = {
            let (shared, ssh) = (Arc::clone(&shared), Arc::clone(&ssh));
            let listening = move || {
                let end = listen(&mut stream, &shared);
                let end = if shared.lock().cannot_write {
                    End::Silent(shared.stall)
                } else {
                    end
                };
                shared.give_up(ssh.why(end, true));
            };
            std::thread::Builder::new()
                .name("sftp".into())
                .spawn(listening)
        };
        let reader = reader.map_err(|cause| Loss::new(Trouble::Other, cause.to_string()))?;
        let mut session = Self {
            shared,
            writer: Mutex::new(writer),
            reader: Some(reader),
            ssh,
            extensions,
            pieces: Pieces::EVERYWHERE,
        };
        if extensions.limits {
            let asked = session.send(Request::extended(packet::LIMITS)).wait();
            session.pieces = match asked {
                Ok(Answer::Extended(answer)) => {
                    packet::parse_limits(&answer).map_or(Pieces::EVERYWHERE, Pieces::of)
                }
                Ok(_) | Err(SftpError::Status(_)) => Pieces::EVERYWHERE,
                Err(SftpError::Lost(loss)) => return Err(loss),
            };
        }
        Ok(session)
    }

    /// What the server offers beyond the protocol.
    pub(super) fn extensions(&self) -> Extensions {
        self.extensions
    }

    /// How many bytes one request may carry.
    pub(super) fn pieces(&self) -> Pieces {
        self.pieces
    }

    /// Whether it can't be used any more.
    pub(super) fn is_lost(&self) -> bool {
        self.shared.lock().loss.is_some()
    }

    /// Sends a request; that this failed shows when its answer is waited for.
    pub(super) fn send(&self, request: Request) -> Ticket<'_> {
        let (sender, answer) = bounded(1);
        if let Some(number) = self.shared.register(sender) {
            let bytes = request.numbered(number);
            let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(cause) = writer.write_all(&bytes) {
                // A part of a packet may be on its way, so that nothing can follow it.
                self.shared.lock().cannot_write |= is_timeout(&cause);
                self.ssh.hang_up();
            }
        }
        Ticket {
            session: self,
            answer,
        }
    }

    fn loss(&self) -> Loss {
        let loss = self.shared.lock().loss.clone();
        loss.unwrap_or_else(|| Loss::new(Trouble::Transient, "the connection was closed"))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.ssh.stop();
        if let Some(reader) = self.reader.take() {
            // It ends with the stream, which was closed.
            let _ = reader.join();
        }
    }
}

struct Shared {
    waiting: Mutex<Waiting>,
    stall: Duration,
}

struct Waiting {
    by_number: HashMap<u32, Sender<Answer>>,
    next: u32,
    /// When the peer last said something, or was asked after it had answered everything.
    heard: Instant,
    /// Whether the peer did not take what was to be sent.
    cannot_write: bool,
    loss: Option<Loss>,
}

impl Shared {
    fn new(stall: Duration) -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                by_number: HashMap::new(),
                next: 0,
                heard: Instant::now(),
                cannot_write: false,
                loss: None,
            }),
            stall,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a new request, or none if nobody will answer it.
    fn register(&self, sender: Sender<Answer>) -> Option<u32> {
        let mut waiting = self.lock();
        if waiting.loss.is_some() {
            return None;
        }
        if waiting.by_number.is_empty() {
            waiting.heard = Instant::now();
        }
        let number = waiting.next;
        waiting.next = number.wrapping_add(1);
        waiting.by_number.insert(number, sender);
        Some(number)
    }

    fn answered(&self, number: u32, answer: Answer) -> Result<(), End> {
        let mut waiting = self.lock();
        let sender = waiting.by_number.remove(&number);
        let sender = sender.ok_or_else(|| {
            End::Odd("the server breaks the protocol: an answer to no request".into())
        })?;
        // Who asked may have given up because of another answer.
        let _ = sender.send(answer);
        Ok(())
    }

    fn give_up(&self, loss: Loss) {
        let mut waiting = self.lock();
        waiting.loss = Some(loss);
        // Everybody who waits sees the end of a channel.
        waiting.by_number.clear();
    }
}

/// Until when a stream may be silent.
enum Until {
    /// A moment, which was so far away.
    Moment(Instant, Duration),
    /// Whenever nothing is asked, and for a while if something is.
    Silent(Arc<Shared>),
}

/// A stream that ends when it is silent for too long.
struct Patient {
    stream: UnixStream,
    until: Until,
}

impl Read for Patient {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buf) {
                Err(cause) if is_timeout(&cause) => {
                    let is_over = match &self.until {
                        Until::Moment(moment, _) => Instant::now() > *moment,
                        Until::Silent(shared) => {
                            let waiting = shared.lock();
                            !waiting.by_number.is_empty() && waiting.heard.elapsed() > shared.stall
                        }
                    };
                    if is_over {
                        return Err(ErrorKind::TimedOut.into());
                    }
                }
                Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
                Ok(count) => {
                    if let Until::Silent(shared) = &self.until {
                        shared.lock().heard = Instant::now();
                    }
                    return Ok(count);
                }
                Err(cause) => return Err(cause),
            }
        }
    }
}

impl Patient {
    fn patience(&self) -> Duration {
        match &self.until {
            Until::Moment(_, patience) => *patience,
            Until::Silent(shared) => shared.stall,
        }
    }
}

fn is_timeout(cause: &io::Error) -> bool {
    matches!(cause.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn read_exact(stream: &mut BufReader<Patient>, buf: &mut [u8]) -> Result<(), End> {
    stream.read_exact(buf).map_err(|cause| match cause.kind() {
        // A program that ends before it has read all that was sent resets the stream.
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => End::Closed,
        ErrorKind::TimedOut => End::Silent(stream.get_ref().patience()),
        _ => End::Broken(cause),
    })
}

/// The next packet without its length.
fn read_packet(stream: &mut BufReader<Patient>) -> Result<Vec<u8>, End> {
    let mut length = [0; 4];
    read_exact(stream, &mut length)?;
    let length_bytes = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length_bytes > PACKET_MAX_BYTES {
        return Err(odd(&length, stream));
    }
    let mut packet = vec![0; length_bytes];
    read_exact(stream, &mut packet)?;
    Ok(packet)
}

/// What came instead of a packet: often what a login script prints.
fn odd(begin: &[u8], stream: &mut BufReader<Patient>) -> End {
    let mut text = begin.to_vec();
    text.extend(stream.buffer().iter().take(ODD_BYTES));
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().next().unwrap_or_default();
    End::Odd(format!("what comes is no SFTP, it begins with {line:?}"))
}

fn greet(writer: &mut UnixStream, stream: &mut BufReader<Patient>) -> Result<Extensions, End> {
    // When this fails the program has ended, and what it said is more than why the write failed.
    let _ = writer.write_all(&Request::hello());
    let packet = read_packet(stream)?;
    match packet::parse_hello(&packet) {
        Some((VERSION, extensions)) => Ok(extensions),
        Some((version, _)) => Err(End::Odd(format!(
            "the server speaks version {version} of SFTP, and only {VERSION} is understood"
        ))),
        None => Err(odd(&packet, stream)),
    }
}

/// Hands out answers until there are no more.
fn listen(stream: &mut BufReader<Patient>, shared: &Shared) -> End {
    loop {
        let answered = read_packet(stream).and_then(|packet| {
            let (number, answer) = packet::parse(packet).ok_or_else(|| {
                End::Odd("the server breaks the protocol: an answer that is none".into())
            })?;
            shared.answered(number, answer)
        });
        if let Err(end) = answered {
            return end;
        }
    }
}

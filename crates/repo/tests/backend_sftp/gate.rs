//! A gate in the way to a server, which closes after so many bytes: then nothing passes, and nobody is told.
//! It must never drop a byte while it is open.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// A gate on a port of its own; it is gone when dropped.
pub struct Gate {
    pub port: u16,
    state: Arc<State>,
}

struct State {
    server: u16,
    /// How many bytes may still go up to the server.
    left: Mutex<u64>,
    changed: Condvar,
    /// How many connections there were.
    connections: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Gate {
    /// A gate before a port of this machine, wide open.
    pub fn before(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            server,
            left: Mutex::new(u64::MAX),
            changed: Condvar::new(),
            connections: AtomicU64::new(0),
            open: Mutex::default(),
        });
        let accepting = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                accepting.pass(client);
            }
        });
        Self { port, state }
    }

    /// Lets so many bytes more go up, and then nothing.
    pub fn close_after(&self, bytes: u64) {
        *self.state.left.lock().unwrap() = bytes;
    }

    /// Waits until it is closed.
    pub fn wait_until_closed(&self) {
        let left = self.state.left.lock().unwrap();
        drop(
            self.state
                .changed
                .wait_while(left, |left| *left > 0)
                .unwrap(),
        );
    }

    /// Opens it wide.
    pub fn open(&self) {
        *self.state.left.lock().unwrap() = u64::MAX;
        self.state.changed.notify_all();
    }

    /// Breaks all connections that go through it, as a router does that was switched off and on.
    pub fn cut(&self) {
        for stream in self.state.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// How many connections came through.
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.cut();
        self.open();
    }
}

impl State {
    fn pass(self: &Arc<Self>, client: TcpStream) {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, self.server)).unwrap();
        let both = [client.try_clone().unwrap(), server.try_clone().unwrap()];
        self.open.lock().unwrap().extend(both);
        let (mut from_server, mut to_client) =
            (server.try_clone().unwrap(), client.try_clone().unwrap());
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from_server, &mut to_client);
            let _ = to_client.shutdown(Shutdown::Both);
        });
        let state = Arc::clone(self);
        std::thread::spawn(move || {
            let _ = state.up(client, &server);
            let _ = server.shutdown(Shutdown::Both);
        });
    }

    fn up(&self, mut client: TcpStream, mut server: &TcpStream) -> std::io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let count = client.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            let mut done = 0;
            while done < count {
                let mut left = self.left.lock().unwrap();
                if *left == 0 {
                    self.changed.notify_all();
                    drop(self.changed.wait_while(left, |left| *left == 0).unwrap());
                    continue;
                }
                let length = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(count - done);
                if *left != u64::MAX {
                    *left -= length as u64;
                }
                drop(left);
                server.write_all(&buffer[done..done + length])?;
                done += length;
            }
        }
    }
}

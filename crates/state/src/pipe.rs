//! The reading end of a pipe whose other end may say nothing for long.
//! It must never block for long: who reads must be able to look whether it is wished to stop.

use std::io::{self, Read};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long a read waits before it comes back with nothing.
const WAIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// A pipe, terminal or file. Where nothing comes for a while, a read ends as one that a signal interrupted:
/// [`io::ErrorKind::Interrupted`], which readers take for a reason to look around and try again.
#[derive(Debug)]
pub struct Pipe<R>(pub R);

impl<R: Read + AsFd> Read for Pipe<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&WAIT))? == 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.0.read(buf)
    }
}

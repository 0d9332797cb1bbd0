//! The thread that takes datagrams from the kernel, and the bounded buffer between it and the pump.

use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::kernel::{self, Drops};
use crate::host::clock;
use crate::host::follow::wake;

/// Bytes that wait for the pump, at most; as much again may be in its hands.
pub(super) const ROOM: usize = 8 << 20;
/// What a line costs besides its bytes.
const PER_LINE: usize = size_of::<usize>();
/// The thread looks up this often, to stop and to ask the kernel.
const QUIET: Duration = Duration::from_millis(200);
/// More than the kernel ever holds for us.
const MOST_AT_END: usize = 1 << 17;
/// How often the kernel is asked for its drops under load.
const ASK: Duration = Duration::from_secs(1);

/// Lines one after the other in one allocation.
#[derive(Debug, Default)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    given: usize,
}

impl Lines {
    /// The next line, until the buffer is exhausted.
    pub fn give(&mut self) -> Option<&[u8]> {
        let end = *self.ends.get(self.given)?;
        let start = self.given.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.given += 1;
        self.bytes.get(start..end)
    }

    fn push(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.ends.push(self.bytes.len());
    }

    fn size(&self) -> usize {
        self.bytes.len() + self.ends.len() * PER_LINE
    }

    /// Bytes that were not given out yet.
    pub fn bytes(&self) -> usize {
        let given = self.given.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(0);
        self.bytes.len() - given
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.given = 0;
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub overflowed: u64,
    pub dropped: u64,
    pub cut: u64,
}

#[derive(Debug)]
pub(super) struct Inbox {
    max_line: usize,
    waiting: Mutex<(Lines, Counts)>,
}

impl Inbox {
    pub fn new(max_line: usize) -> Inbox {
        Inbox { max_line, waiting: Mutex::default() }
    }

    /// Exchanges an exhausted buffer for the one that waits; false when nothing waits.
    pub fn swap(&self, taken: &mut Lines) -> bool {
        let mut waiting = self.lock();
        taken.clear();
        if waiting.0.ends.is_empty() {
            return false;
        }
        std::mem::swap(&mut waiting.0, taken);
        true
    }

    pub fn take_counts(&self) -> Counts {
        std::mem::take(&mut self.lock().1)
    }

    pub fn bytes(&self) -> usize {
        self.lock().0.bytes.len()
    }

    /// Some senders end their datagrams like C strings or like lines of a file; both ends are no text.
    fn push(&self, datagram: &[u8]) {
        let line = datagram.strip_suffix(b"\0").unwrap_or(datagram);
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut waiting = self.lock();
        let (lines, counts) = &mut *waiting;
        if lines.size() + line.len() + PER_LINE > ROOM {
            counts.overflowed += 1;
            return;
        }
        match line.get(..self.max_line) {
            Some(cut) if line.len() > self.max_line => {
                counts.cut += 1;
                lines.push(cut);
            }
            _ => lines.push(line),
        }
    }

    fn dropped(&self, datagrams: u64) {
        self.lock().1.dropped += datagrams;
    }

    fn lock(&self) -> MutexGuard<'_, (Lines, Counts)> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Wire {
    Unix(UnixDatagram),
    Udp(UdpSocket, Option<Drops>),
}

impl Wire {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Unix(socket) => socket.recv(buffer),
            Wire::Udp(socket, _) => socket.recv(buffer),
        }
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Wire::Unix(socket) => socket.set_nonblocking(true),
            Wire::Udp(socket, _) => socket.set_nonblocking(true),
        }
    }

    fn drops(&mut self) -> u64 {
        match self {
            // A full unix socket makes its senders wait or fail: the kernel drops nothing.
            Wire::Unix(_) => 0,
            Wire::Udp(_, drops) => drops.as_mut().and_then(Drops::take).unwrap_or(0),
        }
    }
}

/// A running receiver; it ends when this is dropped.
pub(super) struct Receiving {
    stop: Arc<AtomicBool>,
    ended: Arc<Mutex<Option<String>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Receiving {
    pub fn unix(socket: UnixDatagram, inbox: Arc<Inbox>, waker: wake::Handle) -> io::Result<Receiving> {
        kernel::enlarge(&socket);
        socket.set_read_timeout(Some(QUIET))?;
        Receiving::start(Wire::Unix(socket), inbox, waker)
    }

    pub fn udp(socket: UdpSocket, inbox: Arc<Inbox>, waker: wake::Handle) -> io::Result<Receiving> {
        kernel::enlarge(&socket);
        socket.set_read_timeout(Some(QUIET))?;
        let drops = Drops::of(&socket).ok();
        Receiving::start(Wire::Udp(socket, drops), inbox, waker)
    }

    fn start(wire: Wire, inbox: Arc<Inbox>, waker: wake::Handle) -> io::Result<Receiving> {
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::new(Mutex::new(None));
        let (stopping, why) = (stop.clone(), ended.clone());
        let thread = thread::Builder::new().name("syslog".into()).spawn(move || {
            if let Err(error) = receive(wire, &inbox, &waker, &stopping) {
                *why.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("cannot receive: {error}"));
            }
        })?;
        Ok(Receiving { stop, ended, thread: Some(thread) })
    }

    /// Why it has ended, if it has.
    pub fn ended(&self) -> Option<String> {
        let why = self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let finished = self.thread.as_ref().is_none_or(thread::JoinHandle::is_finished);
        why.or_else(|| finished.then(|| "the receiving thread has ended by a fault".to_owned()))
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // At most one quiet interval; a fault in it was told already.
            let _ = thread.join();
        }
    }
}

fn receive(mut wire: Wire, inbox: &Inbox, waker: &wake::Handle, stop: &AtomicBool) -> io::Result<()> {
    // One byte more than a line may have shows that it has more; two more for what ends it.
    let mut buffer = vec![0; inbox.max_line.saturating_add(3)];
    // When the kernel was asked last; `None` when nothing has come since.
    let mut asked: Option<Instant> = None;
    while !stop.load(Ordering::Acquire) {
        match wire.receive(&mut buffer) {
            Ok(n) => {
                inbox.push(buffer.get(..n).unwrap_or_default());
                waker.ring();
                if asked.get_or_insert_with(clock::monotonic).elapsed() >= ASK {
                    inbox.dropped(wire.drops());
                    asked = Some(clock::monotonic());
                }
            }
            // The kernel drops only while its buffer is full, so after a quiet interval without a drop it is asked
            // again only when something has come.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if asked.take().is_some() {
                    inbox.dropped(wire.drops());
                    waker.ring();
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    // What senders have handed over before the end is taken along; those who go on sending do not keep us.
    wire.set_nonblocking()?;
    for _ in 0..MOST_AT_END {
        match wire.receive(&mut buffer) {
            Ok(n) => inbox.push(buffer.get(..n).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    inbox.dropped(wire.drops());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_counted_and_the_rest_comes_out_in_order() {
        let inbox = Inbox::new(4);
        let each = 4 + PER_LINE;
        let fit = ROOM / each;
        for n in 0..fit + 7 {
            inbox.push(format!("{n:04}").as_bytes().get(..4).unwrap());
        }
        inbox.push(b"12345");
        let mut taken = Lines::default();
        assert!(inbox.swap(&mut taken));
        inbox.push(b"12345");
        assert_eq!(inbox.take_counts(), Counts { overflowed: 8, dropped: 0, cut: 1 });
        assert_eq!((taken.bytes(), inbox.bytes()), (fit * 4, 4));
        for n in 0..fit {
            assert_eq!(taken.give(), format!("{n:04}").as_bytes().get(..4));
        }
        assert_eq!(taken.give(), None);
        assert_eq!(taken.bytes(), 0);
        assert!(inbox.swap(&mut taken));
        assert_eq!(taken.give(), Some(&b"1234"[..]));
        assert!(!inbox.swap(&mut taken), "nothing waits");
    }
}

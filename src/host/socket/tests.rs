//! Real sockets: what was sent comes out, what is lost is counted, and nobody else's file is touched.

use super::*;
use crate::host::follow::wake::Waker;

const LONG: Duration = Duration::from_secs(120);

/// A socket and the bell that its receiving thread rings.
struct Bench {
    socket: Socket,
    waker: Waker,
    lines: Vec<Vec<u8>>,
    events: Vec<SocketEvent>,
}

impl Bench {
    fn new(address: Address, max_line: usize) -> Bench {
        let waker = Waker::new(&[]);
        let mut socket = Socket::new(address, max_line, waker.handle());
        socket.read(usize::MAX, &mut |_| {});
        let events = socket.take_events();
        Bench { socket, waker, lines: Vec::new(), events }
    }

    fn turn(&mut self) {
        self.socket.read(usize::MAX, &mut |line| self.lines.push(line.to_vec()));
        self.events.extend(self.socket.take_events());
    }

    fn until(&mut self, what: &str, done: impl Fn(&Bench) -> bool) {
        let start = clock::monotonic();
        while !done(self) {
            assert!(start.elapsed() < LONG, "{what}: {:?} {:?}", self.lines.len(), self.events);
            self.waker.wait(Duration::from_millis(50));
            self.turn();
        }
    }
}

fn unix(path: &Path) -> Address {
    Address::Unix { path: path.to_owned(), mode: 0o622 }
}

fn free_port() -> Address {
    Address::Udp(UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}

#[test]
fn datagrams_of_a_unix_socket_are_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut bench = Bench::new(unix(&path), 8);
    assert_eq!(bench.events, [SocketEvent::Listening]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o622);
    let sender = UnixDatagram::unbound().unwrap();
    for datagram in [&b"one"[..], b"two\n", b"three\0", b"eight by", b"nine byte", b"", b"a\nb"] {
        sender.send_to(datagram, &path).unwrap();
    }
    bench.until("seven lines", |b| b.lines.len() == 7 && b.events.len() == 2);
    assert_eq!(bench.lines, [&b"one"[..], b"two", b"three", b"eight by", b"nine byt", b"", b"a\nb"]);
    assert_eq!(bench.events[1], SocketEvent::Cut { lines: 1 });
    assert_eq!(bench.socket.backlog_bytes(), 0);
    drop(bench);
    assert!(!path.exists(), "senders shall meet no socket rather than a dead one");
}

#[test]
fn a_dead_socket_is_replaced_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    drop(UnixDatagram::bind(&path).unwrap());
    let bench = Bench::new(unix(&path), 99);
    assert_eq!(bench.events, [SocketEvent::Listening]);
    let second = Bench::new(unix(&path), 99);
    assert!(matches!(&second.events[..], [SocketEvent::Deaf { why }] if why.contains("another program")));
    drop(second);
    assert!(path.exists());
    drop(bench);
    fs::write(&path, "text").unwrap();
    let bench = Bench::new(unix(&path), 99);
    assert!(matches!(&bench.events[..], [SocketEvent::Deaf { why }] if why.contains("not a socket")));
    drop(bench);
    assert_eq!(fs::read(&path).unwrap(), b"text");
}

#[test]
fn a_socket_whose_file_was_removed_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut bench = Bench::new(unix(&path), 99);
    fs::remove_file(&path).unwrap();
    bench.until("a new socket", |b| b.events.len() == 3);
    assert!(matches!(&bench.events[1], SocketEvent::Deaf { why } if why.contains("removed")));
    assert_eq!(bench.events[2], SocketEvent::Listening);
    UnixDatagram::unbound().unwrap().send_to(b"x", &path).unwrap();
    bench.until("its line", |b| b.lines == [b"x"]);
}

#[test]
fn nobody_reading_received_and_lost_are_all_that_was_sent() {
    let Address::Udp(address) = free_port() else { panic!("it is a UDP port") };
    let mut bench = Bench::new(Address::Udp(address), 4096);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sent = 3 * receive::ROOM / 2048;
    for _ in 0..sent {
        // Loopback: what does not fit in the receiver's buffer is dropped there, and counted there.
        sender.send_to(&[b'x'; 2048], address).unwrap();
    }
    let lost = |b: &Bench| -> (u64, u64) {
        b.events.iter().fold((0, 0), |(own, kernel), event| match event {
            SocketEvent::Overflowed { lines } => (own + lines, kernel),
            SocketEvent::Dropped { datagrams } => (own, kernel + datagrams),
            _ => (own, kernel),
        })
    };
    bench.until("all accounted for", |b| b.lines.len() as u64 + lost(b).0 + lost(b).1 == sent as u64);
    let (own, kernel) = lost(&bench);
    println!("{sent} sent, {} received, {own} found no room, {kernel} dropped by the kernel", bench.lines.len());
    assert!(own + kernel > 0, "the buffers are bounded");
}

#[test]
fn a_port_in_use_is_told_and_tried_again() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut bench = Bench::new(Address::Udp(address), 99);
    assert!(matches!(&bench.events[..], [SocketEvent::Deaf { .. }]));
    drop(taken);
    bench.until("the free port", |b| b.events.last() == Some(&SocketEvent::Listening));
}

//! The agent behind a syslog socket: what was sent is received or counted as lost, also when the agent stands still.
#![allow(clippy::disallowed_methods, reason = "tests start processes and poll the real clock")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test"
)]

mod corpus;
mod crash_support;

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;

use crash_support::{House, wait};
use rustix::process::Signal;

/// The datagrams of message `n` as syslog(3) sends them: with a priority, without a host.
fn mail(n: u64) -> [String; 4] {
    let id = format!("{:010X}", 0xA0_0000_0000_u64 + n * 16);
    let stamp = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).strftime("%b %e %H:%M:%S").to_string();
    [
        format!("<22>{stamp} postfix/pickup[11]: {id}: uid=54001 from=<x>"),
        format!("<22>{stamp} postfix/qmgr[13]: {id}: from=<x@mx.test>, size=400, nrcpt=1 (queue active)"),
        format!(
            "<22>{stamp} postfix/smtp[14]: {id}: to=<a@example.test>, relay=mx.example.test[192.0.2.1]:25, delay=1, \
             delays=0/0/0.5/0.5, dsn=2.0.0, status=sent (250 2.0.0 Ok)"
        ),
        format!("<22>{stamp} postfix/qmgr[13]: {id}: removed"),
    ]
}

fn accounted(house: &House) -> (f64, f64) {
    (house.metric("sendwarden_log_lines_read_total"), house.metric("sendwarden_log_lines_lost_total"))
}

#[test]
fn a_flood_of_a_stopped_agent_over_udp_adds_up() {
    let house = House::new("");
    let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    house.configure_logs(&format!("  - socket: udp:{address}\n    zone: UTC\n"));
    let agent = house.start();
    house.wait_ready();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for line in (0..20).flat_map(mail) {
        sender.send_to(line.as_bytes(), address).unwrap();
    }
    wait(&house, "twenty messages", || house.stored().sent == 20);
    assert_eq!(house.stored().messages, 20);

    agent.signal(Signal::STOP);
    let flood = 60_000_u64;
    for line in (100..100 + flood / 4).flat_map(mail) {
        sender.send_to(line.as_bytes(), address).unwrap();
    }
    agent.signal(Signal::CONT);
    let sent = (flood + 80) as f64;
    wait(&house, "received + lost = sent", || {
        let (received, lost) = accounted(&house);
        assert!(received + lost <= sent, "{received} + {lost}");
        received + lost == sent
    });
    let (received, lost) = accounted(&house);
    println!("{sent} sent = {received} received + {lost} lost");
    assert!(lost > 0.0, "the kernel's buffer cannot hold {flood} datagrams");
    assert!(house.printed().contains("lines were lost"), "{}", house.printed());
    agent.stop(Signal::TERM);
}

#[test]
fn a_unix_socket_makes_its_senders_wait_and_loses_nothing() {
    let house = House::new("");
    let path = house.dir.join("log.sock");
    house.configure_logs(&format!("  - socket: {}\n    zone: UTC\n    socket_mode: \"0622\"\n", path.display()));
    let agent = house.start();
    house.wait_ready();
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    agent.signal(Signal::STOP);
    let mut sent = 0;
    let mut refused = false;
    for line in (0..5_000).flat_map(mail) {
        match sender.send_to(line.as_bytes(), &path) {
            Ok(_) => sent += 1,
            Err(why) if why.kind() == ErrorKind::WouldBlock => {
                refused = true;
                break;
            }
            Err(why) => panic!("{why}"),
        }
    }
    assert!(refused, "the sender is told");
    agent.signal(Signal::CONT);
    wait(&house, "all that was taken", || accounted(&house) == (f64::from(sent), 0.0));
    agent.stop(Signal::TERM);
    assert!(!path.exists(), "nobody sends to a socket that nobody reads");
}

#[test]
fn what_came_before_a_stop_is_in_the_store() {
    let house = House::new("");
    let path = house.dir.join("log.sock");
    house.configure_logs(&format!("  - socket: {}\n    zone: UTC\n", path.display()));
    let agent = house.start();
    house.wait_ready();
    let sender = UnixDatagram::unbound().unwrap();
    for line in (0..2_000).flat_map(mail) {
        sender.send_to(line.as_bytes(), &path).unwrap();
    }
    agent.stop(Signal::TERM);
    assert_eq!(house.stored().sent, 2_000);
}

/// As rsyslog and `logger --rfc5424` send them.
#[test]
fn datagrams_of_the_syslog_protocol_are_read() {
    let house = House::new("");
    let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    house.configure_logs(&format!("  - socket: udp:{address}\n    zone: UTC\n"));
    let agent = house.start();
    house.wait_ready();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for line in (0..20).flat_map(mail) {
        let (tag, rest) = line[20..].split_once('[').unwrap();
        let (pid, text) = rest.split_once("]: ").unwrap();
        let line = format!("<22>1 {:.6} mx {tag} {pid} - [timeQuality tzKnown=\"1\"] {text}", jiff::Timestamp::now());
        sender.send_to(line.as_bytes(), address).unwrap();
    }
    wait(&house, "twenty messages", || house.stored().sent == 20);
    assert_eq!(accounted(&house), (80.0, 0.0));
    assert_eq!(house.metric("sendwarden_log_parse_failures_total"), 0.0);
    agent.stop(Signal::TERM);
}

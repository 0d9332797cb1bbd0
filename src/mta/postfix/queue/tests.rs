//! Files as Postfix 3.7 writes them, files put together here by other code, and any bytes at all.

use super::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::RefCell;
use std::collections::BTreeMap;

const ID: &str = "4jYswH0Jn6z7xJG";

fn id() -> QueueId {
    QueueId::new(ID.as_bytes()).unwrap()
}

/// Reads as the host does; how often it read, too.
fn read(file: &[u8], until: Until) -> (Envelope, u64) {
    let mut reader = Reader::new(id(), until);
    let mut reads = 0;
    loop {
        let from = usize::try_from(reader.offset()).unwrap_or(usize::MAX).min(file.len());
        let to = from.saturating_add(ASK).min(file.len());
        reads += 1;
        assert!(reads <= MOST / LEAST + 1, "no end");
        if reader.feed(&file[from..to]) {
            return (reader.envelope(), reads);
        }
    }
}

fn rec(kind: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    let mut length = data.len();
    while length >= 128 {
        bytes.push((length % 128) as u8 + 128);
        length /= 128;
    }
    bytes.push(length as u8);
    bytes.extend(data);
    bytes
}

fn pointer(to: usize) -> Vec<u8> {
    rec(b'p', format!("{to:>15}").as_bytes())
}

fn first_lines(uid: u32, id: &str) -> Vec<u8> {
    [
        rec(b'N', format!("Received: by mx.hosting.test (Postfix, from userid {uid})").as_bytes()),
        rec(b'N', format!("\tid {id}; Tue, 24 Nov 2026 19:15:43 +0000 (UTC)").as_bytes()),
    ]
    .concat()
}

fn start() -> Vec<u8> {
    [
        rec(b'C', b"              0               0               0               0               0               0"),
        rec(b'T', b"1795547743 292820"),
        rec(b'A', b"create_time=1795547743"),
        rec(b'F', b""),
        rec(b'S', b"web1@hosting.test"),
        rec(b'R', b"a@accept.test"),
        pointer(0),
    ]
    .concat()
}

#[test]
fn a_message_of_a_script_while_it_comes_in() {
    let end =
        [rec(b'N', b""), rec(b'N', b"body"), rec(b'X', b""), rec(b'R', b"b@accept.test"), rec(b'E', b"")].concat();
    let file = [start(), rec(b'M', b""), first_lines(2001, ID), end].concat();
    let (envelope, reads) = read(&file, Until::FirstHeader);
    assert_eq!((envelope.first_header, envelope.end, reads), (First::Uid(2001), End::Stopped, 1));
    let (envelope, _) = read(&file, Until::End);
    assert_eq!((envelope.first_header, envelope.end), (First::Uid(2001), End::Whole));
    assert_eq!((envelope.recipients, envelope.done, envelope.size), (2, 0, None));
    assert_eq!(envelope.arrived, Some(Time(1_795_547_743_292_820)));
    assert_eq!(envelope.sender.as_deref(), Some(&b"web1@hosting.test"[..]));
}

#[test]
fn only_the_first_header_with_our_id_names_a_user() {
    let forged = first_lines(2002, ID);
    let first = |lines: Vec<u8>| {
        let file = [start(), rec(b'M', b""), lines, forged.clone(), rec(b'X', b""), rec(b'E', b"")].concat();
        assert_eq!(read(&file, Until::End).0.first_header, read(&file, Until::FirstHeader).0.first_header);
        read(&file, Until::FirstHeader).0.first_header
    };
    assert_eq!(first(first_lines(2001, ID)), First::Uid(2001));
    assert_eq!(first(first_lines(2001, "4jYswH0Jn6z7xJD")), First::Foreign);
    assert_eq!(first(first_lines(2001, "4jYswH0Jn6z7xJGx")), First::Foreign);
    assert_eq!(first(first_lines(2001, "")), First::Foreign);
    for line in [
        "Subject: x",
        "",
        "Received: from pc (pc [192.0.2.1])",
        "Received: by mx (Postfix, from userid 2001",
        "Received: by mx (Postfix, from userid 99999999999)",
        "Received: by mx (Postfix, from userid -1)",
        "Received: by mx (Postfix, from userid )",
        "received: by mx (Postfix, from userid 2001)",
    ] {
        assert_eq!(first(rec(b'N', line.as_bytes())), First::Other, "{line}");
    }
    // No text at all, and a long line whose first piece would do.
    assert_eq!(
        read(&[start(), rec(b'M', b""), rec(b'X', b"")].concat(), Until::FirstHeader).0.first_header,
        First::Other
    );
    let padded = format!("Received: by {} (Postfix, from userid 2003)", "m".repeat(MAX_TEXT - 43));
    assert_eq!(first([rec(b'L', padded.as_bytes()), rec(b'N', b" and more")].concat()), First::Other);
}

#[test]
fn what_smtp_brought() {
    let attributes = ["log_client_address=198.51.100.9", "client_address=::ffff:192.0.2.7", "client_port=54321"];
    let attributes = attributes.map(|text| rec(b'A', text.as_bytes())).concat();
    let login = rec(b'A', b"sasl_username=box1@hosting.test");
    let file = [start(), attributes, login, rec(b'M', b""), rec(b'N', b"Received: from x"), rec(b'X', b"")].concat();
    // In the extracted part they would be somebody else's words.
    let file = [file, rec(b'A', b"sasl_username=other"), rec(b'E', b"")].concat();
    let (envelope, _) = read(&file, Until::End);
    assert_eq!(envelope.login.as_deref(), Some(&b"box1@hosting.test"[..]));
    assert_eq!(envelope.client, Some("192.0.2.7".parse().unwrap()));
    assert_eq!((envelope.client_port, envelope.first_header), (Some(54321), First::Other));
}

#[test]
fn a_text_of_known_length_is_jumped_over() {
    let text = [first_lines(2001, ID), rec(b'N', &[b'x'; 1000]).repeat(20_000)].concat();
    let length = text.len();
    let size = |length: usize, begin: usize| rec(b'C', format!("{length:>15} {begin:>15} {:>15}", 1).as_bytes());
    let begin = size(0, 0).len() + rec(b'S', b"").len() + rec(b'M', b"").len();
    let end = [rec(b'X', b""), rec(b'R', b"a@b.test"), rec(b'E', b"")].concat();
    let file = [size(length, begin), rec(b'S', b""), rec(b'M', b""), text.clone(), end.clone()].concat();
    let (envelope, reads) = read(&file, Until::End);
    assert_eq!((envelope.end, envelope.recipients, reads), (End::Whole, 1, 2));
    assert_eq!((envelope.size, envelope.sender.as_deref()), (Some(length as u64), Some(&b""[..])));
    // A length that leads elsewhere is noticed.
    let file = [size(length - 1003, begin), rec(b'S', b""), rec(b'M', b""), text, end].concat();
    assert_eq!(read(&file, Until::End).0.end, End::Broken);
}

#[test]
fn a_file_that_leads_in_circles_or_never_ends_is_given_up() {
    let circle = [start(), pointer(start().len() - 17)].concat();
    assert_eq!(read(&circle, Until::End).0.end, End::TooLong);
    assert_eq!(read(&circle, Until::FirstHeader).0.end, End::TooLong);
    let long = [start(), rec(b'R', &[b'r'; 60]).repeat(40_000), rec(b'M', b""), first_lines(2001, ID)].concat();
    assert_eq!(read(&long, Until::FirstHeader).0.end, End::TooLong);
    let endless = [b'N', 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert_eq!(read(&endless, Until::End).0.end, End::Broken);
}

#[test]
fn directories_of_hashed_queues() {
    // As Postfix 3.7 made them with `hash_queue_depth = 2`.
    for (id, dirs) in [
        ("4jYswH0Jn6z7xJG", "0B"),
        ("4jYswH0jrXz7xJD", "18"),
        ("4jYsvq4LtFz7xHY", "95"),
        ("4jYsvq4hP9z7xHc", "A1"),
        ("4jYsvq4cp4z7xHc", "9E"),
        ("8C47DB6051", "8C"),
    ] {
        assert_eq!(hashed(QueueId::new(id.as_bytes()).unwrap())[..2], *dirs.as_bytes(), "{id}");
    }
}

/// How often each situation occurred: one that never did was not tested.
#[derive(Default)]
struct Seen(RefCell<BTreeMap<&'static str, u64>>);

impl Seen {
    fn see(&self, what: &'static str, is: bool) {
        *self.0.borrow_mut().entry(what).or_default() += u64::from(is);
    }

    fn all(&self) {
        println!("{:?}", self.0.borrow());
        assert!(self.0.borrow().values().all(|count| *count > 0), "{:?}", self.0.borrow());
    }
}

fn cases<S: Strategy>(strategy: S, test: impl Fn(S::Value)) {
    let mut runner = TestRunner::new(Config { cases: 10_000, failure_persistence: None, ..Config::default() });
    runner
        .run(&strategy, |value| {
            test(value);
            Ok(())
        })
        .unwrap();
}

/// What a file is made of.
#[derive(Debug, Clone)]
struct Model {
    sender: Vec<u8>,
    /// Before the text, and behind it; `true`: done.
    before: Vec<bool>,
    behind: Vec<bool>,
    login: Option<Vec<u8>>,
    /// The first header: pickup's with our id, pickup's with another, another.
    first: usize,
    uid: u32,
    forged: bool,
    /// Lines of the text, in bytes.
    lines: Vec<usize>,
    /// The length of the text is written down.
    sized: bool,
    /// A piece stands behind the end, between two pointers: recipients, the first header's second line.
    moved_recipients: bool,
    moved_line: bool,
}

impl Model {
    fn write(&self) -> Vec<u8> {
        let recipients = |done: &[bool]| -> Vec<u8> {
            done.iter()
                .enumerate()
                .flat_map(|(n, done)| rec(if *done { b'D' } else { b'R' }, format!("r{n}@x.test").as_bytes()))
                .collect()
        };
        let mut file = rec(b'C', &[b' '; 95]);
        file.extend(rec(b'T', b"1795547743 5"));
        if let Some(login) = &self.login {
            file.extend(rec(b'A', &[b"sasl_username=", login.as_slice()].concat()));
        }
        file.extend(rec(b'S', &self.sender));
        let mut far: Vec<(usize, Vec<u8>)> = Vec::new();
        let place = |file: &mut Vec<u8>, far: &mut Vec<(usize, Vec<u8>)>, bytes: Vec<u8>, moved: bool| {
            if moved {
                far.push((file.len(), bytes));
                file.extend(pointer(0));
            } else {
                file.extend(bytes);
            }
        };
        place(&mut file, &mut far, recipients(&self.before), self.moved_recipients);
        file.extend(rec(b'M', b""));
        let begin = file.len();
        let name = if self.first == 1 { "4jYswH0Jn6z7xJz" } else { ID };
        if self.first < 2 {
            file.extend(rec(b'N', format!("Received: by h (Mail Name, from userid {})", self.uid).as_bytes()));
            place(&mut file, &mut far, rec(b'N', format!("\tid {name}; x").as_bytes()), self.moved_line);
        } else {
            file.extend(rec(b'N', b"X-Header: first"));
            file.extend(rec(b'w', b"  0"));
        }
        if self.forged {
            file.extend(first_lines(self.uid ^ 1, ID));
        }
        for length in &self.lines {
            file.extend(rec(if length % 3 == 0 { b'L' } else { b'N' }, &vec![b'M'; *length]));
        }
        let size = file.len() - begin;
        file.extend(rec(b'X', b""));
        file.extend(recipients(&self.behind));
        file.extend(rec(b'E', b""));
        for (at, bytes) in far {
            let target = file.len();
            file.splice(at..at + 17, pointer(target));
            file.extend(bytes);
            file.extend(pointer(at + 17));
        }
        if self.sized {
            file.splice(2..97, format!("{size:>15} {begin:>15} {:>63}", 0).into_bytes());
        }
        file
    }
}

prop_compose! {
    fn model()(
        sender in prop::collection::vec(any::<u8>(), 0..40),
        before in prop::collection::vec(any::<bool>(), 0..1200),
        few in any::<bool>(),
        behind in prop::collection::vec(any::<bool>(), 0..20),
        login in prop::option::of(prop::collection::vec(any::<u8>(), 1..20)),
        first in 0..3usize, uid in any::<u32>(), flags in any::<[bool; 4]>(),
        lines in prop::collection::vec(0..3000usize, 0..8), huge in prop::option::weighted(0.1, 16_000..40_000usize),
    ) -> Model {
        let before = if few { before[..before.len().min(3)].to_vec() } else { before };
        let lines = lines.into_iter().chain(huge).collect();
        let [forged, sized, moved_recipients, moved_line] = flags;
        Model { sender, before, behind, login, first, uid, forged, lines, sized, moved_recipients, moved_line }
    }
}

#[test]
fn what_was_written_is_read() {
    let seen = Seen::default();
    cases((model(), prop::option::of(any::<prop::sample::Index>())), |(model, cut)| {
        let file = model.write();
        let first = [First::Uid(model.uid), First::Foreign, First::Other][model.first];
        let count = |done: bool| model.before.iter().chain(&model.behind).filter(|one| **one == done).count() as u32;
        let (whole, reads) = read(&file, Until::End);
        assert_eq!((whole.first_header, whole.end), (first, End::Whole), "{model:?}");
        assert_eq!((whole.recipients, whole.done), (count(false), count(true)));
        assert_eq!((whole.sender.as_deref(), whole.login.as_deref()), (Some(&*model.sender), model.login.as_deref()));
        assert_eq!(whole.size.is_some(), model.sized);
        let (head, _) = read(&file, Until::FirstHeader);
        assert_eq!((head.first_header, head.end), (first, End::Stopped));
        assert_eq!((head.sender, head.login), (whole.sender, whole.login));
        seen.see("a user", model.first == 0);
        seen.see("another message's header", model.first == 1);
        seen.see("another header", model.first == 2);
        seen.see("a forged second header", model.forged && model.first == 0);
        seen.see("a forged header behind another", model.forged && model.first == 2);
        seen.see("recipients behind a pointer", model.moved_recipients && !model.before.is_empty());
        seen.see("the header behind a pointer", model.moved_line && model.first == 0);
        seen.see("jumped over", model.sized);
        seen.see("several pieces", reads > 3);
        seen.see("a record longer than a piece", model.lines.iter().any(|line| *line > ASK) && !model.sized);
        seen.see("null sender", model.sender.is_empty());
        seen.see("recipients on both sides", !model.before.is_empty() && !model.behind.is_empty());
        // Cut anywhere, it says less, and nothing else.
        let Some(cut) = cut.map(|cut| cut.index(file.len())) else { return };
        let (part, _) = read(&file[..cut], Until::FirstHeader);
        assert!([First::Unread, first].contains(&part.first_header), "{part:?}");
        assert_eq!(part.first_header == First::Unread, part.end == End::Cut);
        let (part, _) = read(&file[..cut], Until::End);
        let far = model.moved_recipients || (model.moved_line && model.first < 2);
        assert!(part.end == End::Cut || (part.end == End::Whole && far), "{part:?}");
        assert!(part.recipients <= count(false) && part.done <= count(true));
        seen.see("cut before the header", part.first_header == First::Unread);
        seen.see("cut behind it", part.first_header != First::Unread);
    });
    seen.all();
}

#[test]
fn any_bytes_come_to_an_end() {
    let seen = Seen::default();
    let noise = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
    let records = prop::collection::vec(
        (prop::sample::select(b"CTSARDMNLXpwE\xff".to_vec()), prop::collection::vec(any::<u8>(), 0..30), 0..3000u32),
        0..40,
    );
    cases(
        (model(), noise, records, prop::collection::vec(any::<u8>(), 0..200), 0..3),
        |(model, noise, records, bytes, kind)| {
            let file = match kind {
                0 => {
                    let mut file = model.write();
                    for (at, byte) in noise {
                        let at = at.index(file.len());
                        file[at] = byte;
                    }
                    file
                }
                1 => records
                    .iter()
                    .flat_map(|(kind, data, number)| match kind {
                        b'p' | b'C' => rec(*kind, format!("{number} {number}").as_bytes()),
                        kind => rec(*kind, data),
                    })
                    .collect(),
                _ => bytes,
            };
            let (head, reads) = read(&file, Until::FirstHeader);
            assert!(reads <= MOST_TO_FIRST_HEADER / LEAST + 1);
            let (whole, _) = read(&file, Until::End);
            for envelope in [&head, &whole] {
                assert!(envelope.sender.as_ref().is_none_or(|sender| sender.len() <= MAX_TEXT));
                seen.see("stopped", envelope.end == End::Stopped);
                seen.see("whole", envelope.end == End::Whole);
                seen.see("cut", envelope.end == End::Cut);
                seen.see("broken", envelope.end == End::Broken);
            }
            seen.see("damaged but readable", kind == 0 && whole.end == End::Whole);
        },
    );
    seen.all();
}

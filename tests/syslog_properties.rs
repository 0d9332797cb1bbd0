//! Syslog heads, texts in pieces and containers' prefixes, against lines that were put together here: what went in must
//! come out, whatever is lost, interleaved or cut by a restart. Shares no code with the product.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sendwarden::mail::Time;
use sendwarden::mta::any::Any;
use sendwarden::mta::syslog::{Chunks, Heads, Line, Peeled, Piece, Stamps, Wrapped};
use sendwarden::mta::{Mta, Read};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

const CASES: u32 = 10_000;

/// How often each situation occurred: one that never did was not tested.
#[derive(Default)]
struct Seen(RefCell<BTreeMap<&'static str, u64>>);

impl Seen {
    fn see(&self, what: &'static str) {
        *self.0.borrow_mut().entry(what).or_default() += 1;
    }

    fn all(&self, situations: &[&'static str]) {
        let seen = self.0.borrow();
        println!("{seen:?}");
        for what in situations {
            assert!(seen.contains_key(what), "{what} never occurred: {seen:?}");
        }
    }
}

fn run<S: Strategy>(strategy: S, test: impl Fn(S::Value)) {
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    runner
        .run(&strategy, |value| {
            test(value);
            Ok(())
        })
        .unwrap();
}

/// As the server writes a text of several pieces: cut at `width` bytes and at newlines.
fn pieces(text: &[u8], width: usize) -> Vec<Vec<u8>> {
    let mut cut: Vec<(Vec<u8>, bool)> = Vec::new();
    let rows: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    for (n, row) in rows.iter().enumerate() {
        let parts: Vec<&[u8]> = if row.is_empty() { vec![row] } else { row.chunks(width).collect() };
        let last_row = n + 1 == rows.len();
        for (k, part) in parts.iter().enumerate() {
            cut.push((part.to_vec(), k + 1 == parts.len() && !last_row));
        }
    }
    let of = cut.len();
    let head = |n: usize, newline| format!("[{}{}{of}] ", n + 1, if newline { '\\' } else { '/' }).into_bytes();
    if of == 1 {
        return vec![text.to_vec()];
    }
    cut.into_iter().enumerate().map(|(n, (part, newline))| [head(n, newline), part].concat()).collect()
}

/// A line, and what must be read with it.
type Written = (Vec<u8>, Option<Vec<u8>>);

#[test]
fn texts_in_pieces_come_whole_or_not_at_all() {
    let seen = Seen::default();
    // Per process: texts, as (letters of which they are made, newlines in them), and what is lost of them.
    let text = prop::collection::vec(prop::sample::select(b"ab [1/2]\\\n".to_vec()), 1..60);
    let process = prop::collection::vec((text, prop::option::weighted(0.3, 0..8usize), any::<bool>()), 1..5);
    let strategy = (prop::collection::vec(process, 1..5), any::<u64>(), 4..20usize, prop::option::of(0..60usize));
    run(strategy, |(processes, seed, width, cut)| {
        let mut queues: Vec<VecDeque<Written>> = Vec::new();
        let mut lost_lines = 0u64;
        for (pid, texts) in processes.iter().enumerate() {
            let mut queue = VecDeque::new();
            for (text, drop, dies) in texts {
                // Whatever the text is, it begins and ends as a text of the server does, which pads nothing.
                let text: Vec<u8> = [b"id ".as_slice(), text, b"."].concat();
                let mut lines = pieces(&text, width);
                let of = lines.len();
                seen.see(if of == 1 { "single" } else { "pieces" });
                if text.contains(&b'\n') && of > 1 {
                    seen.see("newline");
                }
                let mut whole = of > 1;
                if let Some(at) = drop.filter(|at| *at < of && of > 1) {
                    seen.see("lost");
                    whole = false;
                    if *dies {
                        seen.see("the process died");
                        lines.truncate(at);
                    } else {
                        lines.remove(at);
                    }
                }
                if !whole && of > 1 {
                    lost_lines += lines.len() as u64;
                }
                let last = lines.len();
                for (n, line) in lines.into_iter().enumerate() {
                    let want =
                        if of == 1 { Some(b"single".to_vec()) } else { (whole && n + 1 == last).then(|| text.clone()) };
                    queue.push_back((line, want));
                }
                if !whole && of > 1 {
                    // The end of one text and the beginning of the next could fit by chance; the process says something else.
                    queue.push_back((format!("Completed {pid}").into_bytes(), Some(b"single".to_vec())));
                }
            }
            queues.push(queue);
        }
        let mut random = fastrand::Rng::with_seed(seed);
        let mut chunks = Chunks::default();
        let (mut counted, mut step) = (0u64, 0);
        while queues.iter().any(|queue| !queue.is_empty()) {
            let pid = random.usize(..queues.len());
            let Some((text, want)) = queues[pid].pop_front() else { continue };
            if cut == Some(step) && !chunks.begun().is_empty() {
                seen.see("restart in the middle of a text");
                let mut other = Chunks::default();
                other.restore(chunks.begun().iter().cloned());
                counted += chunks.take_lost();
                chunks = other;
            }
            step += 1;
            // Two hosts, so that process ids may be equal.
            let host: &[u8] = if pid.is_multiple_of(2) { b"mx1" } else { b"mx2" };
            let line =
                Line { at: Time::from_secs(step as i64 / 10), host, tag: b"exim", pid: pid as u32 / 2, text: &text };
            match chunks.take(&line) {
                Piece::Single => assert_eq!(want.as_deref(), Some(&b"single"[..])),
                Piece::Pending => assert_eq!(want, None),
                Piece::Whole(text) => assert_eq!(Some(text), want.as_deref()),
                Piece::Orphan => {
                    assert_eq!(want, None);
                    seen.see("orphan");
                    counted += 1;
                }
            }
        }
        chunks.finish();
        assert_eq!(counted + chunks.take_lost(), lost_lines, "every piece of a lost text is counted, and no other");
    });
    seen.all(&["single", "pieces", "newline", "lost", "the process died", "restart in the middle of a text", "orphan"]);
}

/// Days of a month that exist in every year.
fn date() -> impl Strategy<Value = (i16, i8, i8, i8, i8, i8, i32)> {
    (2020..2026i16, 1..13i8, 1..29i8, 0..24i8, 0..60i8, 0..60i8, 0..1_000_000i32)
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

fn micros((y, mo, d, h, mi, s, us): (i16, i8, i8, i8, i8, i8, i32)) -> i64 {
    let civil = jiff::civil::date(y, mo, d).at(h, mi, s, us * 1_000);
    civil.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_microsecond()
}

#[test]
fn heads_give_back_what_was_put_into_them() {
    let seen = Seen::default();
    let name = "[a-z][a-z0-9.-]{0,20}";
    let tag = "[a-z][a-z0-9/-]{0,20}";
    let strategy = (date(), 0..9u8, name, tag, 0..4_000_000u32, "[ -~]{0,40}", any::<bool>());
    run(strategy, |(date, form, host, tag, pid, text, priority)| {
        let (y, mo, d, h, mi, s, us) = date;
        let month = MONTHS[mo as usize - 1];
        let (stamp, exact, what) = match form {
            0 => (format!("{month} {d:>2} {h:02}:{mi:02}:{s:02}"), false, "traditional"),
            1 => (format!("{month} {d:02} {h:02}:{mi:02}:{s:02}"), false, "zero-padded"),
            2 => (format!("{y}-{mo:02}-{d:02}T{h:02}:{mi:02}:{s:02}.{us:06}Z"), true, "rfc3339"),
            3 => (format!("{y}-{mo:02}-{d:02}T{h:02}:{mi:02}:{s:02}.{us:06}+00:00"), true, "rfc3339 offset"),
            4 => (format!("{y}-{mo:02}-{d:02} {h:02}:{mi:02}:{s:02}"), false, "year first"),
            5 => (format!("{y}-{mo:02}-{d:02} {h:02}:{mi:02}:{s:02}.{us:06} +0000"), true, "year first, zone"),
            6 => (format!("{y} {month} {d:>2} {h:02}:{mi:02}:{s:02}"), false, "year, then month"),
            7 => (format!("{month} {d:>2} {h:02}:{mi:02}:{s:02}.{us:06}"), true, "traditional, fraction"),
            _ => (format!("{month} {d:02} {y} {h:02}:{mi:02}:{s:02}"), false, "month, then year"),
        };
        seen.see(what);
        let priority = if priority { "<22>" } else { "" };
        let line = format!("{priority}{stamp} {host} {tag}[{pid}]: {text}");
        let truth = micros(date);
        // The file ends with this line.
        let reference = Time(truth);
        let mut heads = Heads::new(Stamps { zone: jiff::tz::TimeZone::UTC, reference });
        let read = heads.read(line.as_bytes()).unwrap();
        let at = if exact { truth } else { truth - i64::from(us) };
        assert_eq!(read.at, Time(at), "{line}");
        assert_eq!((read.host, read.tag, read.pid), (host.as_bytes(), tag.as_bytes(), pid), "{line}");
        if !text.starts_with("[ID ") {
            assert_eq!(read.text, text.trim_end_matches('\r').as_bytes(), "{line}");
        }
    });
    seen.all(&[
        "traditional",
        "zero-padded",
        "rfc3339",
        "rfc3339 offset",
        "year first",
        "year first, zone",
        "year, then month",
        "traditional, fraction",
        "month, then year",
    ]);
}

/// Heads of the syslog protocol, put together by its grammar (RFC 5424, section 6), with and without what files lack.
#[test]
fn heads_of_the_syslog_protocol_give_back_what_was_put_into_them() {
    let seen = Seen::default();
    let known = |word: &'static str| prop::option::weighted(0.8, word);
    let value = prop::collection::vec(prop::sample::select(vec!["a", "]", "\"", "\\", " ", "[", "=", "é", "-"]), 0..6);
    let element = ("[a-zA-Z0-9@.]{1,8}", prop::collection::vec(("[a-z]{1,5}", value), 0..3));
    let names = (known("[a-z][a-z0-9.:-]{0,19}[a-z0-9]"), known("[a-z][a-z0-9/-]{1,20}"), known("[!-~&&[^ ]]{1,12}"));
    let text = prop::option::weighted(0.9, prop_oneof!["[ -~]{0,40}", "\\PC{1,20}"]);
    let rest = (prop::option::of(0..4_000_000u32), prop::collection::vec(element, 0..3), text, any::<bool>());
    let strategy = (date(), 0..3u8, 0..4u8, -18..19i64, names, rest);
    run(strategy, |(date, form, fraction, zone, (host, tag, id), (pid, elements, text, bom))| {
        let (y, mo, d, h, mi, s, us) = date;
        let (fraction, exact) = match fraction {
            0 => (String::new(), 0),
            1 => (format!(".{}", us / 100_000), us / 100_000 * 100_000),
            2 => (format!(".{:03}", us / 1_000), us / 1_000 * 1_000),
            _ => (format!(".{us:06}"), us),
        };
        let offset = if zone == 0 {
            "Z".to_owned()
        } else {
            format!("{}{:02}:00", if zone < 0 { '-' } else { '+' }, zone.abs())
        };
        let stamp = format!("{y}-{mo:02}-{d:02}T{h:02}:{mi:02}:{s:02}{fraction}{offset}");
        let truth = micros(date) - i64::from(us - exact) - zone * 3_600_000_000;
        // Without a version nothing but a named program can tell it from the older forms.
        let tag = if form == 2 { Some(tag.unwrap_or_else(|| "exim".to_owned())) } else { tag };
        let (front, what) = match form {
            0 => (format!("<{}>1 ", (y as u32 * 7) % 192), "priority and version"),
            1 => ("1 ".to_owned(), "version"),
            _ => (String::new(), "neither"),
        };
        seen.see(what);
        let or_nil = |word: &Option<String>| word.clone().unwrap_or_else(|| "-".to_owned());
        let mut data = String::new();
        for (name, params) in &elements {
            data.push_str(&format!("[{name}"));
            for (name, value) in params {
                let value: String = value.concat();
                if value.contains(['"', '\\', ']']) {
                    seen.see("escaped in data");
                }
                let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]");
                data.push_str(&format!(" {name}=\"{value}\""));
            }
            data.push(']');
        }
        seen.see(if data.is_empty() { "no data" } else { "data" });
        let data = if data.is_empty() { "-".to_owned() } else { data };
        let process = pid.map_or("-".to_owned(), |pid| pid.to_string());
        let mut line = format!("{front}{stamp} {} {} {process} {} {data}", or_nil(&host), or_nil(&tag), or_nil(&id));
        match &text {
            Some(text) => {
                line.push_str(if bom { " \u{feff}" } else { " " });
                line.push_str(text);
                seen.see(if bom { "mark before the text" } else { "text" });
            }
            None => seen.see("no text"),
        }
        for (word, what) in [(&host, "no host"), (&tag, "no program"), (&id, "no message id")] {
            if word.is_none() {
                seen.see(what);
            }
        }
        let mut heads = Heads::new(Stamps { zone: jiff::tz::TimeZone::fixed(jiff::tz::offset(5)), reference: Time(0) });
        let read = heads.read(line.as_bytes()).unwrap_or_else(|why| panic!("{why}: {line}"));
        assert_eq!(read.at, Time(truth), "{line}");
        let words = (host.unwrap_or_default(), tag.unwrap_or_default());
        assert_eq!(
            (read.host, read.tag, read.pid),
            (words.0.as_bytes(), words.1.as_bytes(), pid.unwrap_or(0)),
            "{line}"
        );
        let mut text = text.unwrap_or_default();
        if text.starts_with(' ') {
            text.remove(0);
        }
        assert_eq!(String::from_utf8_lossy(read.text), text, "{line}");
    });
    seen.all(&[
        "priority and version",
        "version",
        "neither",
        "data",
        "no data",
        "escaped in data",
        "mark before the text",
        "text",
        "no text",
        "no host",
        "no program",
        "no message id",
    ]);
}

#[test]
fn containers_give_back_the_line_inside() {
    let seen = Seen::default();
    let text = prop_oneof!["[ -~]{1,60}", "\\PC{1,30}"];
    let strategy = (date(), 0..7u8, text, prop::collection::vec(any::<prop::sample::Index>(), 0..4), any::<bool>());
    run(strategy, |(date, form, text, cuts, error)| {
        let (y, mo, d, h, mi, s, us) = date;
        let stamp = format!("{y}-{mo:02}-{d:02}T{h:02}:{mi:02}:{s:02}.{us:06}000Z");
        let truth = Time(micros(date));
        let stream = if error { "stderr" } else { "stdout" };
        let inner = format!("Nov 23 10:33:28 mx postfix/smtp[12]: {text}");
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(inner.len())).collect();
        at.retain(|at| inner.is_char_boundary(*at) && *at > 0);
        at.sort_unstable();
        at.dedup();
        let mut parts: Vec<&str> = Vec::new();
        let mut from = 0;
        for to in at.iter().copied().chain([inner.len()]) {
            parts.push(&inner[from..to]);
            from = to;
        }
        let json = |part: &str, end: &str| {
            let log = serde_json::to_string(&format!("{part}{end}")).unwrap();
            format!("{{\"log\":{log},\"stream\":\"{stream}\",\"time\":\"{stamp}\"}}")
        };
        // The same as JSON allows it too: spaces, another order, every character as its number.
        let loose = |n: usize, part: &str, end: &str| {
            let log: String = format!("{part}{end}").encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            let mut keys = [
                format!("\"log\": \"{log}\""),
                format!("\"stream\" :\"{stream}\""),
                format!("\"time\"\t: \"{stamp}\""),
            ];
            keys.rotate_left(n % 3);
            format!("{{ {}  }}", keys.join(" , "))
        };
        let last = parts.len() - 1;
        let (lines, when, what): (Vec<String>, _, _) = match form {
            0 => (
                parts.iter().enumerate().map(|(n, p)| json(p, if n == last { "\n" } else { "" })).collect(),
                Some(truth),
                "json-file",
            ),
            1 => (
                parts
                    .iter()
                    .enumerate()
                    .map(|(n, p)| format!("{stamp} {stream} {} {p}", if n == last { "F" } else { "P" }))
                    .collect(),
                Some(truth),
                "cri",
            ),
            2 => (vec![format!("mail-1  | {inner}")], None, "compose"),
            3 => (vec![format!("mail_1 | {stamp} {inner}")], Some(truth), "compose, stamped"),
            4 => (vec![format!("{stamp} {inner}")], Some(truth), "logs -t"),
            5 => (vec![inner.clone()], None, "bare"),
            _ => (
                parts.iter().enumerate().map(|(n, p)| loose(n, p, if n == last { "\n" } else { "" })).collect(),
                Some(truth),
                "json-file, loose",
            ),
        };
        seen.see(what);
        if lines.len() > 1 {
            seen.see("cut in parts");
        }
        let mut wrapped = Wrapped::default();
        for (n, line) in lines.iter().enumerate() {
            let want = match (form, n + 1 == lines.len()) {
                (5, _) => Peeled::Bare,
                (_, true) => Peeled::Line(when, inner.as_bytes()),
                (_, false) => Peeled::Pending,
            };
            assert_eq!(wrapped.peel(line.as_bytes()), want, "{line}");
            let mut other = Wrapped::default();
            other.restore(wrapped.parts().clone());
            wrapped = other;
        }
    });
    seen.all(&[
        "json-file",
        "cri",
        "compose",
        "compose, stamped",
        "logs -t",
        "bare",
        "json-file, loose",
        "cut in parts",
    ]);
}

/// Any bytes, also such that nearly mean something: no panic, little kept, and after a restart the same answers.
#[test]
fn any_bytes_are_survived() {
    let word = prop::sample::select(vec![
        "Nov 23 10:33:28 ",
        "2026-11-23 10:33:28 ",
        "2026-11-23T10:33:28Z ",
        "mx ",
        "exim[7]: ",
        "postfix/qmgr[7]: ",
        // Whole heads, or the texts behind them would be too rare to be seen.
        "Nov 23 10:33:28 mx postfix/qmgr[7]: ",
        "Nov 23 10:33:28 mx exim[7]: 1xVROW-0001BH-2c ",
        "[1/2] ",
        "[2/2] ",
        "[1\\3] ",
        "1xVROW-0001BH-2c ",
        "<= a@b.test U=a P=local S=1",
        "8C47DB6051: removed",
        "{\"log\":\"",
        "\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-23T10:33:28Z\"}",
        "stdout P ",
        "stdout F ",
        "mail-1  | ",
        "<22>",
        "<22>1 2026-11-23T10:33:28Z ",
        "1 ",
        "postfix/qmgr 7 - ",
        "- ",
        "[a b=\"",
        "\"] ",
        "\u{feff}",
        "{ \"log\" : \"",
        "cwd=/a ",
        "\r",
        "[12] ",
    ]);
    let piece =
        prop_oneof![4 => word.prop_map(|w| w.as_bytes().to_vec()), 1 => prop::collection::vec(any::<u8>(), 0..20)];
    let line = prop::collection::vec(piece, 0..7).prop_map(|pieces| pieces.concat());
    let seen = Seen::default();
    let stamps = || Stamps { zone: jiff::tz::TimeZone::UTC, reference: Time::from_secs(1_795_430_000) };
    run(prop::collection::vec(line, 1..12), |lines| {
        let mut reader = Any::new(stamps(), None);
        for line in &lines {
            let mut other = Any::new(stamps(), None);
            other.restore(&reader.save());
            let read = reader.read(line);
            seen.see(match &read {
                Read::Event(event) => event.head.server.name(),
                Read::Pending => "pending",
                Read::Noise => "noise",
                Read::Foreign => "foreign",
                Read::Unknown(_) => "unknown",
            });
            assert_eq!(format!("{read:?}"), format!("{:?}", other.read(line)));
        }
    });
    seen.all(&["postfix", "exim", "pending", "noise", "foreign", "unknown"]);
}

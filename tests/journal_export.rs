//! The reader of the journal export format against a reader of another kind: whole text at once, by slicing, without
//! states. 10,000 streams, well-formed and damaged, cut into pieces of all sizes; entries and the verdict must agree.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::collections::{BTreeMap, HashMap};

use sendwarden::host::journal::{Entry, Export, Field};

const CASES: u64 = 10_000;
const MAX_MESSAGE: usize = 40;
const FIELDS: [(&str, Field); 8] = [
    ("__CURSOR", Field::Cursor),
    ("__REALTIME_TIMESTAMP", Field::Realtime),
    ("_HOSTNAME", Field::Host),
    ("SYSLOG_IDENTIFIER", Field::Identifier),
    ("SYSLOG_PID", Field::SyslogPid),
    ("_PID", Field::Pid),
    ("_SYSTEMD_UNIT", Field::Unit),
    ("MESSAGE", Field::Message),
];

type Fields = BTreeMap<&'static str, Vec<u8>>;

/// An entry in plain words: fields of interest, and whether the message was cut.
type Plain = (Fields, bool);

fn plain(entry: &Entry) -> Plain {
    let value = |(name, field): &(&'static str, Field)| Some((*name, entry.get(*field)?.to_vec()));
    (FIELDS.iter().filter_map(value).collect(), entry.cut)
}

/// The oracle: entries, and whether all of it was export format as far as it goes.
fn slices(mut rest: &[u8]) -> (Vec<Plain>, bool) {
    let (mut entries, mut fields, mut cut, mut any) = (Vec::new(), Fields::new(), false, false);
    loop {
        let end = rest.iter().position(|b| *b == b'=' || *b == b'\n');
        let name = &rest[..end.unwrap_or(rest.len())];
        let legal =
            name.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_') && name.len() <= 256;
        if !legal {
            return (entries, false);
        }
        let Some(end) = end else { return (entries, true) };
        let (sign, after) = (rest[end], &rest[end + 1..]);
        if name.is_empty() {
            if sign == b'=' {
                return (entries, false);
            }
            if any {
                entries.push((std::mem::take(&mut fields), cut));
            }
            (cut, any, rest) = (false, false, after);
            continue;
        }
        any = true;
        let value;
        if sign == b'=' {
            let Some(end) = after.iter().position(|b| *b == b'\n') else { return (entries, true) };
            (value, rest) = (&after[..end], &after[end + 1..]);
        } else {
            let Some(size) = after.get(..8) else { return (entries, true) };
            let size = u64::from_le_bytes(size.try_into().unwrap());
            if size > 1 << 30 {
                return (entries, false);
            }
            let size = size as usize;
            let Some(all) = after.get(8..8 + size) else { return (entries, true) };
            match after.get(8 + size) {
                None => return (entries, true),
                Some(b'\n') => {}
                Some(_) => return (entries, false),
            }
            (value, rest) = (all, &after[9 + size..]);
        }
        if let Some((name, _)) = FIELDS.iter().find(|(known, _)| known.as_bytes() == name) {
            let limit = if *name == "MESSAGE" { MAX_MESSAGE } else { 1024 };
            if !fields.contains_key(name) {
                cut |= *name == "MESSAGE" && value.len() > limit;
                fields.insert(name, value[..value.len().min(limit)].to_vec());
            }
        }
    }
}

struct Draw<'r> {
    random: &'r mut fastrand::Rng,
    seen: &'r mut HashMap<&'static str, u64>,
}

impl Draw<'_> {
    fn note(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn chance(&mut self, of: u32, what: &'static str) -> bool {
        let hit = self.random.u32(..of) == 0;
        if hit {
            self.note(what);
        }
        hit
    }

    fn field(&mut self, out: &mut Vec<u8>) {
        let name = match self.random.usize(..FIELDS.len() + 2) {
            n if n < FIELDS.len() => FIELDS[n].0,
            _ => "OTHER_FIELD",
        };
        let most = if self.chance(40, "long value") { 3_000 } else { 60 };
        let length = self.random.usize(..most);
        let binary = self.chance(3, "binary value");
        let value: Vec<u8> =
            (0..length).map(|_| if binary { self.random.u8(..) } else { self.random.u8(b' '..b'~') }).collect();
        if binary && value.contains(&b'\n') {
            self.note("newline in a value");
        }
        if length == 0 {
            self.note("empty value");
        }
        out.extend(name.bytes());
        if binary {
            out.push(b'\n');
            out.extend((length as u64).to_le_bytes());
        } else {
            out.push(b'=');
        }
        out.extend(value);
        out.push(b'\n');
    }

    fn stream(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        for _ in 0..self.random.usize(..6) {
            for _ in 0..self.random.usize(1..8) {
                self.field(&mut out);
            }
            out.push(b'\n');
            if self.chance(10, "two empty lines") {
                out.push(b'\n');
            }
        }
        if self.chance(4, "half an entry at the end") {
            self.field(&mut out);
            out.truncate(out.len() - self.random.usize(..out.len().min(20)));
        }
        if !out.is_empty() && self.chance(3, "damaged") {
            for _ in 0..self.random.usize(1..4) {
                let at = self.random.usize(..out.len());
                match self.random.u8(..3) {
                    0 => out[at] = self.random.u8(..),
                    1 => out[at] = [b'\n', b'=', 0, 0xff][self.random.usize(..4)],
                    _ => drop(out.drain(at..(at + self.random.usize(1..9)).min(out.len()))),
                }
                if out.is_empty() {
                    break;
                }
            }
        }
        if self.chance(50, "a name without end") {
            out.extend(vec![b'A'; 300]);
        }
        out
    }
}

#[test]
fn any_stream_in_any_pieces_is_what_slicing_makes_of_it() {
    let mut seen: HashMap<&'static str, u64> = HashMap::new();
    let mut random = fastrand::Rng::with_seed(0x6a6f_7572);
    for case in 0..CASES {
        let mut draw = Draw { random: &mut random, seen: &mut seen };
        let stream = draw.stream();
        let (want, legal) = slices(&stream);
        for (what, is) in [("refused", !legal), ("entries", !want.is_empty()), ("cut", want.iter().any(|e| e.1))] {
            if is {
                draw.note(what);
            }
        }
        let mut got = Vec::new();
        let mut export = Export::new(MAX_MESSAGE);
        let (mut rest, mut result) = (stream.as_slice(), Ok(()));
        while !rest.is_empty() && result.is_ok() {
            let most = if draw.chance(2, "small pieces") { 3 } else { 5_000 };
            let (piece, after) = rest.split_at(draw.random.usize(1..=most).min(rest.len()));
            result = export.feed(piece, &mut |entry| got.push(plain(entry)));
            rest = after;
        }
        assert_eq!(got, want, "case {case}: {}", stream.escape_ascii());
        assert_eq!(result.is_ok(), legal, "case {case}: {result:?} {}", stream.escape_ascii());
    }
    let mut seen: Vec<_> = seen.into_iter().collect();
    seen.sort_unstable();
    println!("{CASES} streams: {seen:?}");
    let known = [
        "a name without end",
        "binary value",
        "cut",
        "damaged",
        "empty value",
        "entries",
        "half an entry at the end",
        "long value",
        "newline in a value",
        "refused",
        "small pieces",
        "two empty lines",
    ];
    for what in known {
        assert!(seen.iter().any(|(name, n)| *name == what && *n > 0), "{what} never occurred");
    }
}

//! What a dialect has pending between lines, as bytes to be stored beside the source's position.
//!
//! Versioned: what an older version saved is read too. What cannot be read is left out, never guessed.

use crate::mail::Time;
use crate::mta::syslog::Begun;

/// Postfix alone: the stamp before, and nothing else.
const FIRST: u8 = 1;
const SECOND: u8 = 2;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    /// The stamp before: the year of the next one without a year follows from it.
    pub last: Option<Time>,
    pub goes_on: bool,
    pub begun: Vec<Begun>,
    pub parts: [Vec<u8>; 2],
}

pub fn write(saved: &Saved) -> Vec<u8> {
    let mut out = vec![SECOND];
    out.extend_from_slice(&saved.last.map_or(i64::MIN, |last| last.0).to_le_bytes());
    out.push(u8::from(saved.goes_on));
    for part in &saved.parts {
        bytes(&mut out, part);
    }
    for begun in &saved.begun {
        bytes(&mut out, &begun.host);
        out.extend_from_slice(&begun.pid.to_le_bytes());
        out.extend_from_slice(&begun.at.0.to_le_bytes());
        out.extend_from_slice(&begun.seen.to_le_bytes());
        out.extend_from_slice(&begun.of.to_le_bytes());
        bytes(&mut out, &begun.text);
    }
    out
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

pub fn read(saved: &[u8]) -> Option<Saved> {
    let (version, rest) = saved.split_first()?;
    let mut rest = Rest(rest);
    match *version {
        FIRST => Some(Saved { last: rest.time(), ..Saved::default() }),
        SECOND => {
            let last = rest.time()?;
            let mut saved = Saved {
                last: (last.0 != i64::MIN).then_some(last),
                goes_on: rest.array::<1>()? != [0],
                parts: [rest.bytes()?.to_vec(), rest.bytes()?.to_vec()],
                begun: Vec::new(),
            };
            while !rest.0.is_empty() {
                saved.begun.push(Begun {
                    host: rest.bytes()?.into(),
                    pid: u32::from_le_bytes(rest.array()?),
                    at: rest.time()?,
                    seen: u16::from_le_bytes(rest.array()?),
                    of: u16::from_le_bytes(rest.array()?),
                    text: rest.bytes()?.to_vec(),
                });
            }
            Some(saved)
        }
        _ => None,
    }
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    fn time(&mut self) -> Option<Time> {
        Some(Time(i64::from_le_bytes(self.array()?)))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = u32::from_le_bytes(self.array()?) as usize;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_so_is_what_an_older_version_wrote() {
        let begun = Begun { host: Box::from(*b"mx"), pid: 7, at: Time(-5), seen: 2, of: 3, text: b"a\nb".to_vec() };
        let all = Saved { last: Some(Time(9)), goes_on: true, begun: vec![begun], parts: [b"x".to_vec(), Vec::new()] };
        for saved in [all, Saved::default()] {
            let bytes = write(&saved);
            assert_eq!(read(&bytes), Some(saved));
            for cut in 1..bytes.len() {
                assert!(read(&bytes[..cut]).is_none_or(|short| short != read(&bytes).unwrap()), "cut at {cut}");
            }
        }
        let mut first = vec![1];
        first.extend_from_slice(&1_795_430_000_000_000i64.to_le_bytes());
        assert_eq!(read(&first), Some(Saved { last: Some(Time(1_795_430_000_000_000)), ..Saved::default() }));
        assert_eq!(read(&[1]), Some(Saved::default()), "no line was read yet");
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[99, 1, 2, 3]), None);
    }
}

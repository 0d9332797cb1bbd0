//! The log as a timetable: lines are planned at a time and come out in order. Knows stamps, not mail.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};

use super::{Lines, Stamps};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Event,
    Noise,
    Foreign,
}

/// One planned line, without its stamp. The class is in the low bits of `order`.
type Planned = Reverse<(u64, u64, Box<[u8]>)>;

pub struct Script {
    heap: BinaryHeap<Planned>,
    order: u64,
    stamps: Stamps,
    start: u64,
    second: u64,
    stamp: String,
    buffer: Vec<u8>,
    pub lines: Lines,
}

impl Script {
    pub fn new(stamps: Stamps, start: u64) -> Script {
        Script {
            heap: BinaryHeap::new(),
            order: 0,
            stamps,
            start,
            second: u64::MAX,
            stamp: String::new(),
            buffer: Vec::new(),
            lines: Lines::default(),
        }
    }

    /// Lines planned so far, written or not.
    pub fn planned(&self) -> u64 {
        self.order
    }

    /// Plans `body` (`tag[pid]: text`) at `at` microseconds after the start.
    pub fn plan(&mut self, at: u64, class: Class, body: std::fmt::Arguments<'_>) {
        self.buffer.clear();
        let _ = self.buffer.write_fmt(body);
        self.heap.push(Reverse((at, (self.order << 2) | class as u64, self.buffer.as_slice().into())));
        self.order += 1;
    }

    /// Writes every line planned before `until`.
    pub fn write(&mut self, until: u64, out: &mut impl Write) -> io::Result<()> {
        while self.heap.peek().is_some_and(|Reverse((at, _, _))| *at < until) {
            let Some(Reverse((at, order, body))) = self.heap.pop() else { break };
            self.stamp(at);
            let micros = at % 1_000_000;
            out.write_all(self.stamp.as_bytes())?;
            let head = self.stamp.len()
                + match self.stamps {
                    Stamps::Traditional => 0,
                    Stamps::Rfc3339 => {
                        write!(out, ".{micros:06}+00:00")?;
                        13
                    }
                    Stamps::Exim => 0,
                    Stamps::EximZoned => {
                        write!(out, ".{:03} +0000", micros / 1000)?;
                        10
                    }
                };
            // Exim names no host in a file of its own.
            let host: &[u8] = match self.stamps {
                Stamps::Traditional | Stamps::Rfc3339 => b" mx ",
                Stamps::Exim | Stamps::EximZoned => b" ",
            };
            out.write_all(host)?;
            out.write_all(&body)?;
            out.write_all(b"\n")?;
            self.lines.total += 1;
            self.lines.bytes += (head + host.len() + body.len() + 1) as u64;
            match order & 3 {
                0 => self.lines.events += 1,
                1 => self.lines.noise += 1,
                _ => self.lines.foreign += 1,
            }
        }
        Ok(())
    }

    fn stamp(&mut self, at: u64) {
        let second = self.start + at / 1_000_000;
        if second == self.second {
            return;
        }
        self.second = second;
        let (year, month, day) = civil(second / 86_400);
        let (h, m, s) = (second / 3600 % 24, second / 60 % 60, second % 60);
        self.stamp = match self.stamps {
            Stamps::Rfc3339 => format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}"),
            Stamps::Exim | Stamps::EximZoned => format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02}"),
            Stamps::Traditional => {
                const NAMES: [&str; 12] =
                    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
                format!("{} {day:2} {h:02}:{m:02}:{s:02}", NAMES[month as usize - 1])
            }
        };
    }
}

/// Year, month and day of a day number since 1970: count the days away, plainly.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let leap = |y: u64| (y.is_multiple_of(4) && !y.is_multiple_of(100)) || y.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month as u64 + 1, days + 1)
}

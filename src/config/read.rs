//! Reading one section of the tree: each method takes a key, checks it and either sets the target or notes a mistake.
//!
//! Reading goes on after a mistake, so that one run reports all of them. Targets keep their default when a value is wrong.

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use jiff::tz::TimeZone;

use super::node::Node;
use super::problem::{Found, MAX_FOUND, join};

/// One section being read.
pub(super) struct Section<'n, 'f> {
    node: &'n Node,
    path: String,
    found: &'f mut Vec<Found>,
}

/// Opens `node` as a section with exactly `known` keys. A missing or empty section is all defaults.
pub(super) fn open<'n, 'f>(
    node: Option<&'n Node>,
    path: &str,
    known: &[&str],
    found: &'f mut Vec<Found>,
) -> Section<'n, 'f> {
    let node = node.unwrap_or(&Node::Null);
    match node {
        Node::Null => {}
        Node::Map(entries) => {
            let mut seen = HashSet::new();
            for (key, _) in entries {
                if found.len() >= MAX_FOUND {
                    break;
                }
                if !known.contains(&key.as_str()) {
                    let hint = suggest(key, known).unwrap_or_else(|| format!("known keys: {}", known.join(", ")));
                    found.push(Found::new(join(path, key), "this key does not exist").hint(hint));
                } else if !seen.insert(key) {
                    let message = "this key is given twice";
                    found.push(Found { nth: 1, ..Found::new(join(path, key), message) }.hint("keep one of them"));
                }
            }
        }
        other => found.push(Found::new(path, format!("expected a section with keys, found {}", other.kind()))),
    }
    Section { node, path: path.to_owned(), found }
}

/// `did you mean …` where a known word is close.
pub(super) fn suggest(word: &str, known: &[&str]) -> Option<String> {
    // Comparing costs the product of the lengths: a megabyte of key is no typing mistake.
    if word.len() > 64 {
        return None;
    }
    let scored = known.iter().map(|k| (strsim::jaro_winkler(word, k), k));
    let best = scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0))?;
    Some(format!("did you mean `{}`?", best.1))
}

impl<'n> Section<'n, '_> {
    pub(super) fn section(&mut self, key: &str, known: &[&str]) -> Section<'n, '_> {
        open(self.node.get(key), &join(&self.path, key), known, self.found)
    }

    pub(super) fn node(&self, key: &str) -> Option<&'n Node> {
        self.node.get(key)
    }

    pub(super) fn wrong(&mut self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.found.push(Found::new(join(&self.path, key), message).hint(hint));
    }

    pub(super) fn number<T: TryFrom<i128> + Copy + Into<u64>>(
        &mut self,
        key: &str,
        target: &mut T,
        range: RangeInclusive<T>,
    ) {
        let (low, high): (u64, u64) = ((*range.start()).into(), (*range.end()).into());
        let hint = format!("give a whole number from {low} to {high}");
        match self.node(key) {
            None => {}
            Some(Node::Whole(n)) if (i128::from(low)..=i128::from(high)).contains(n) => {
                if let Ok(n) = T::try_from(*n) {
                    *target = n;
                }
            }
            Some(Node::Whole(n)) => self.wrong(key, format!("{n} is out of range"), hint),
            Some(other) => self.wrong(key, format!("expected a whole number, found {}", other.kind()), hint),
        }
    }

    pub(super) fn flag(&mut self, key: &str, target: &mut bool) {
        match self.node(key) {
            None => {}
            Some(Node::Flag(b)) => *target = *b,
            Some(other) => {
                let message = format!("expected true or false, found {}", other.kind());
                self.wrong(key, message, "write true or false");
            }
        }
    }

    /// A text value, put through `check`, whose error is (message, hint).
    pub(super) fn text<T>(&mut self, key: &str, target: &mut T, check: impl Fn(&str) -> Result<T, Bad>) {
        let Some(node) = self.node(key) else { return };
        match text_of(node).and_then(check) {
            Ok(value) => *target = value,
            Err((message, hint)) => self.wrong(key, message, hint),
        }
    }

    pub(super) fn optional<T>(&mut self, key: &str, target: &mut Option<T>, check: impl Fn(&str) -> Result<T, Bad>) {
        self.text(key, target, |text| check(text).map(Some));
    }

    pub(super) fn choice<T: Clone>(&mut self, key: &str, target: &mut T, words: &[(&str, T)]) {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        self.text(key, target, |text| {
            let hit = words.iter().find(|(name, _)| *name == text).map(|(_, value)| value.clone());
            let hint = || suggest(text, &names).unwrap_or_else(|| format!("one of: {}", names.join(", ")));
            hit.ok_or_else(|| (format!("`{text}` is not a known value"), hint()))
        });
    }

    pub(super) fn duration(&mut self, key: &str, target: &mut Duration, range: RangeInclusive<Duration>) {
        let hint =
            || format!("write a number with a unit (ms, s, m, h, d), from {:?} to {:?}", range.start(), range.end());
        match self.node(key) {
            Some(Node::Whole(n)) => self.wrong(key, format!("{n} has no unit"), hint()),
            _ => self.text(key, target, |text| match duration(text) {
                None => Err((format!("`{text}` is not a duration"), hint())),
                Some(d) if !range.contains(&d) => Err((format!("{text} is out of range"), hint())),
                Some(d) => Ok(d),
            }),
        }
    }

    /// Bytes: `64KiB`, `1GiB`, or a plain number.
    pub(super) fn size(&mut self, key: &str, target: &mut u64, range: RangeInclusive<u64>) {
        let hint = || format!("write bytes such as 64KiB or 1GiB, from {} to {} bytes", range.start(), range.end());
        match self.node(key) {
            Some(Node::Whole(_)) => self.number(key, target, range),
            _ => self.text(key, target, |text| match size(text) {
                None => Err((format!("`{text}` is not a size"), hint())),
                Some(n) if !range.contains(&n) => Err((format!("{text} is out of range"), hint())),
                Some(n) => Ok(n),
            }),
        }
    }

    /// A list, each item put through `check`. A wrong item is noted with its own path.
    pub(super) fn list<T>(&mut self, key: &str, target: &mut Vec<T>, check: impl Fn(&Node) -> Result<T, Bad>) {
        match self.node(key) {
            None => {}
            Some(Node::List(items)) => {
                let mut values = Vec::with_capacity(items.len());
                for (i, item) in items.iter().enumerate() {
                    if self.found.len() >= MAX_FOUND {
                        break;
                    }
                    match check(item) {
                        Ok(value) => values.push(value),
                        Err((message, hint)) => self.wrong(&format!("{key}[{i}]"), message, hint),
                    }
                }
                *target = values;
            }
            Some(other) => {
                let message = format!("expected a list, found {}", other.kind());
                self.wrong(key, message, "write `[a, b]` or one `- item` per line");
            }
        }
    }
}

/// A message and what to do.
pub(super) type Bad = (String, String);

pub(super) fn text_of(node: &Node) -> Result<&str, Bad> {
    match node {
        Node::Text(text) if text.is_empty() => Err(("this is empty".into(), "give a value or remove it".into())),
        Node::Text(text) => Ok(text),
        Node::Null => Err(("this has no value".into(), "remove it to get the default".into())),
        Node::Flag(_) | Node::Whole(_) | Node::Fraction(_) => {
            Err((format!("expected text, found {}", node.kind()), "put it in quotes".into()))
        }
        other => Err((format!("expected text, found {}", other.kind()), "give one value".into())),
    }
}

pub(super) fn uid(node: &Node) -> Result<u32, Bad> {
    let bad = |m| (m, format!("give a whole number from 0 to {}", u32::MAX - 1));
    match node {
        // The last number is (uid_t)-1, which the kernel uses for "no user".
        Node::Whole(n) => {
            u32::try_from(*n).ok().filter(|n| *n != u32::MAX).ok_or_else(|| bad(format!("{n} is not a uid")))
        }
        other => Err(bad(format!("expected a uid, found {}", other.kind()))),
    }
}

pub(super) fn network(text: &str) -> Result<IpNet, Bad> {
    let single = || text.parse().map(|address: std::net::IpAddr| IpNet::from(address));
    let hint = || "write an address or a network such as 192.0.2.0/24 or 2001:db8::/32".to_owned();
    text.parse().or_else(|_| single()).map_err(|_| (format!("`{text}` is not a network"), hint()))
}

pub(super) fn address(text: &str) -> Result<IpAddr, Bad> {
    let hint = || "write one address such as 192.0.2.25 or 2001:db8::25".to_owned();
    text.parse().map_err(|_| (format!("`{text}` is not an address"), hint()))
}

/// The name of a host as it stands in a URL, without scheme and port; in lower case.
pub(super) fn host(text: &str) -> Result<String, Bad> {
    let shape = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let name = text.strip_suffix('.').unwrap_or(text);
    if !name.is_empty() && name.len() <= 253 && name.bytes().all(shape) {
        return Ok(name.to_ascii_lowercase());
    }
    let hint = "write the name alone, without http:// and without the port, such as mx1.example.org".to_owned();
    Err((format!("`{text}` is not the name of a host"), hint))
}

pub(super) fn zone(text: &str) -> Result<String, Bad> {
    let hint =
        || "write a name such as Europe/Paris or UTC; the system's zone database (tzdata) must know it".to_owned();
    TimeZone::get(text).map(|_| text.to_owned()).map_err(|_| (format!("`{text}` is not a known time zone"), hint()))
}

pub(super) fn absolute(text: &str) -> Result<PathBuf, Bad> {
    let path = PathBuf::from(text);
    let bad =
        || (format!("`{text}` is not an absolute path"), "begin it with /: a service has no useful directory".into());
    if path.is_absolute() && !text.contains('\0') { Ok(path) } else { Err(bad()) }
}

pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
    let number: u64 = number.parse().ok()?;
    let seconds = match unit.trim_start() {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return None,
    };
    Some(Duration::from_secs(number.checked_mul(seconds)?))
}

fn size(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
    let shift = match unit.trim_start() {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1u64 << shift)
}

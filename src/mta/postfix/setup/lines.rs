//! The form of main.cf and master.cf (postconf(5), master(5)), so far as a setting can be found and changed in it.
//!
//! Files are taken as characters of one byte each, so that what nobody understands goes back as it came. Lines are what
//! stands between line ends: a last one without an end stays so.

use super::Refusal;
use super::entry::{self, space};
use std::collections::HashMap;

/// What may be one of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    Main,
    Master,
}

impl File {
    pub const fn name(self) -> &'static str {
        match self {
            File::Main => "main.cf",
            File::Master => "master.cf",
        }
    }
}

/// One byte, one character: nothing is lost either way.
pub fn characters(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// The way back from [`characters`].
pub fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|one| u8::try_from(u32::from(one)).unwrap_or(b'?')).collect()
}

pub fn is_comment(line: &str) -> bool {
    let text = line.trim_matches(space);
    text.is_empty() || text.starts_with('#')
}

/// A line as Postfix reads it: lines that begin with white space go on with the one before, comments and empty lines
/// between them count for nothing (postconf(5)).
#[derive(Debug, Clone, Default)]
pub struct Logical {
    /// Its parts, joined by line ends, which are white space.
    pub text: String,
    /// Where each part begins in the text, and the line it is.
    parts: Vec<(usize, usize)>,
}

impl Logical {
    /// The first line, counted from 0.
    pub fn line(&self) -> usize {
        self.parts.first().map_or(0, |(_, line)| *line)
    }

    /// The last line that says something.
    pub fn last(&self) -> usize {
        self.parts.last().map_or(0, |(_, line)| *line)
    }

    /// The line and the place in it of a place in the text.
    pub fn locate(&self, at: usize) -> (usize, usize) {
        let part = self.parts.iter().rev().find(|(start, _)| *start <= at);
        part.map_or((0, at), |(start, line)| (*line, at - start))
    }
}

/// The logical lines of a file.
///
/// # Errors
/// When it begins in the middle of one.
pub fn logical(file: File, lines: &[&str]) -> Result<Vec<Logical>, Refusal> {
    let mut found: Vec<Logical> = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        if is_comment(line) {
            continue;
        }
        if line.starts_with(space) {
            let Some(open) = found.last_mut() else {
                let what = "the first line begins with white space, as if it went on with another one";
                return Err(Refusal::new(file, number, what, "take the white space away"));
            };
            open.text.push('\n');
            open.parts.push((open.text.len(), number));
            open.text.push_str(line);
        } else {
            found.push(Logical { text: (*line).to_owned(), parts: vec![(0, number)] });
        }
    }
    Ok(found)
}

/// A setting of main.cf.
#[derive(Debug, Clone)]
pub struct Parameter {
    pub value: String,
    pub line: Logical,
}

/// The settings of main.cf; of several of one name the last one counts.
///
/// # Errors
/// A line that is no setting.
pub fn parameters(lines: &[&str]) -> Result<HashMap<String, Parameter>, Refusal> {
    let mut found = HashMap::new();
    for line in logical(File::Main, lines)? {
        let named =
            line.text.split_once('=').map(|(name, value)| (name.trim_matches(space), value.trim_matches(space)));
        let well = |name: &str| !name.is_empty() && !name.contains(|c: char| space(c) || "{}$,;".contains(c));
        let Some((name, value)) = named.filter(|(name, _)| well(name)) else {
            let what = "this is no `name = value`";
            return Err(Refusal::new(
                File::Main,
                line.line(),
                what,
                "correct it until `postconf -n` says nothing of it",
            ));
        };
        let (name, value) = (name.to_owned(), value.to_owned());
        found.insert(name, Parameter { value, line });
    }
    Ok(found)
}

/// What a service is given by `-o`.
#[derive(Debug, Clone)]
pub struct Given {
    pub value: String,
    /// Its text in the service's logical line, braces included.
    pub start: usize,
    pub end: usize,
    pub braces: bool,
    /// `-oname=value` in one word.
    pub glued: bool,
}

/// A line of master.cf.
#[derive(Debug, Clone)]
pub struct Service {
    pub name: String,
    pub kind: String,
    /// The program's name, without its directory.
    pub program: String,
    /// Of several of one name the last one counts.
    pub given: HashMap<String, Given>,
    pub line: Logical,
}

impl Service {
    pub fn value(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(|given| given.value.as_str())
    }
}

const KINDS: [&str; 5] = ["inet", "unix", "fifo", "pass", "unix-dgram"];

/// The services of master.cf.
///
/// # Errors
/// A line that is no service.
pub fn services(lines: &[&str]) -> Result<Vec<Service>, Refusal> {
    logical(File::Master, lines)?.into_iter().map(service).collect()
}

fn service(line: Logical) -> Result<Service, Refusal> {
    let refuse = |what: &str, by_hand: &str| Err(Refusal::new(File::Master, line.line(), what, by_hand));
    let words = words(&line.text);
    let word = |number: usize| words.get(number).and_then(|(start, end)| line.text.get(*start..*end)).unwrap_or("");
    if words.len() < 8 || !KINDS.contains(&word(1)) {
        return refuse("this is no service of eight fields", "correct it until `postconf -M` shows it as you mean it");
    }
    if !entry::balanced(&line.text) {
        return refuse("its braces do not match", "correct them until `postconf -M` shows it as you mean it");
    }
    let program = word(7).rsplit('/').next().unwrap_or_default().to_owned();
    let mut given = HashMap::new();
    let mut number = 8;
    while number < words.len() {
        let (glued, value) = match word(number) {
            "-o" => (false, number + 1),
            glued if glued.starts_with("-o") => (true, number),
            _ => {
                number += 1;
                continue;
            }
        };
        number = value + 1;
        let Some((start, end)) = words.get(value).copied() else { continue };
        let text = word(value);
        let text = if glued { text.get(2..).unwrap_or_default() } else { text };
        let braces = text.starts_with('{');
        let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
        let Some((name, value)) = inner.split_once('=') else { continue };
        let (name, value) = (name.trim_matches(space).to_owned(), value.trim_matches(space).to_owned());
        given.insert(name, Given { value, start, end, braces, glued });
    }
    Ok(Service { name: word(0).to_owned(), kind: word(1).to_owned(), program, given, line })
}

/// Words separated by white space; within braces it does not separate (master(5)).
fn words(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let (mut start, mut depth) = (None, 0_usize);
    for (at, one) in text.char_indices() {
        match one {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        match start {
            None if !space(one) => start = Some(at),
            Some(from) if space(one) && depth == 0 => {
                found.push((from, at));
                start = None;
            }
            _ => {}
        }
    }
    found.extend(start.map(|from| (from, text.len())));
    found
}

/// Names that a value refers to: `$name`, `${name}`, `$(name)`, `${name?text}`.
pub fn references(value: &str) -> Vec<&str> {
    let named = |text: &str| text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    let after = value.split('$').skip(1).map(|text| text.trim_start_matches(['{', '(']));
    after.filter_map(|text| text.get(..named(text))).filter(|name| !name.is_empty()).collect()
}

/// The whole values that a list takes over from elsewhere: its items that are a plain `$name`, `${name}` or `$(name)`.
pub fn taken_over(value: &str) -> Vec<&str> {
    let items = value.split(|c: char| space(c) || c == ',').filter_map(|item| item.strip_prefix('$'));
    let bare = items.map(|item| {
        let within = |open, close| item.strip_prefix(open).and_then(|item: &str| item.strip_suffix(close));
        within('{', '}').or_else(|| within('(', ')')).unwrap_or(item)
    });
    bare.filter(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')).collect()
}

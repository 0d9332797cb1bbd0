//! What is wrong in a file, and where: the shape of every complaint of this room, and its text for people.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

/// Complaints shown at most; a broken generator makes one per account.
const MAX_SHOWN: usize = 100;
/// Mistakes noted at most: beyond these the generator is to be mended, not the lines.
pub(super) const MAX_FOUND: usize = 1_000;

/// One mistake in a file, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was named by whoever asked to load it.
    pub file: String,
    /// Key path such as `logs[0].mta`; empty for the file as a whole.
    pub path: String,
    /// From 1; 0 where the file as a whole is meant.
    pub line: usize,
    pub column: usize,
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// The text for people, one line per problem: `config.yaml:12:5: listen: …; did you mean …`.
pub fn explain(problems: &[Problem]) -> String {
    let mut text = String::new();
    for p in problems.iter().take(MAX_SHOWN) {
        text.push_str(&p.file);
        if p.line > 0 {
            let _ = write!(text, ":{}:{}", p.line, p.column);
        }
        let path = clean(&p.path);
        let _ = write!(text, ": {path}{}{}", if path.is_empty() { "" } else { ": " }, clean(&p.message));
        if let Some(hint) = &p.hint {
            let _ = write!(text, "; {}", clean(hint));
        }
        text.push('\n');
    }
    if let Some(more) = problems.len().checked_sub(MAX_SHOWN).filter(|n| *n > 0) {
        let _ = writeln!(text, "and {more} more");
    }
    text
}

/// Values from the file are quoted in messages: keep them on one line, harmless to a terminal and short.
fn clean(text: &str) -> String {
    let mut out: String = text.chars().take(400).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(400).is_some() {
        out.push('…');
    }
    out
}

/// A mistake before its line is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    pub path: String,
    /// Which occurrence of the path is meant, from 0 (a repeated key is wrong at its second place).
    pub nth: usize,
    pub at: Option<(usize, usize)>,
    pub message: String,
    pub hint: Option<String>,
}

impl Found {
    pub(super) fn new(path: impl Into<String>, message: impl Into<String>) -> Found {
        Found { path: path.into(), message: message.into(), ..Found::default() }
    }
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Found {
        self.hint = Some(hint.into());
        self
    }
}

/// Gives every mistake its line. The text is scanned only now: a good file never pays for it.
pub(super) fn place(file: &str, text: &str, found: Vec<Found>) -> Vec<Problem> {
    let places = locate(text, found.iter().map(|f| f.path.as_str()));
    let mut problems: Vec<Problem> = found
        .into_iter()
        .map(|f| {
            let (line, column) = f.at.unwrap_or_else(|| find(&places, &f.path, f.nth));
            Problem { file: file.to_owned(), path: f.path, line, column, message: f.message, hint: f.hint }
        })
        .collect();
    problems.sort_by_key(|p| (p.line, p.column));
    problems
}

/// Lines of these key paths (to name the other place of a conflict).
pub(super) fn lines(text: &str, paths: &[String]) -> Vec<usize> {
    let places = locate(text, paths.iter().map(String::as_str));
    paths.iter().map(|p| find(&places, p, 0).0).collect()
}

type Places = HashMap<String, Vec<(usize, usize)>>;

/// The place of a path, or of the nearest parent on a line of its own (`[a, b]` and `{a: b}` share their key's).
fn find(places: &Places, path: &str, nth: usize) -> (usize, usize) {
    let mut path = path;
    while !path.is_empty() {
        if let Some(hits) = places.get(path)
            && let Some(hit) = hits.get(nth).or(hits.last())
        {
            return *hit;
        }
        path = parent(path);
    }
    (0, 0)
}

fn parent(path: &str) -> &str {
    path.rfind(['.', '[']).and_then(|at| path.get(..at)).unwrap_or("")
}

/// A line-wise scan of block-style YAML by indentation. It only ever misplaces a message, never misreads a value.
fn locate<'w>(text: &str, wanted: impl Iterator<Item = &'w str>) -> Places {
    let mut all = HashSet::new();
    for path in wanted {
        let mut path = path;
        while !path.is_empty() && all.insert(path) {
            path = parent(path);
        }
    }
    let mut places = Places::new();
    let mut open: Vec<Open> = Vec::new();
    let mut scalar_indent = None;
    for (number, line) in (1usize..).zip(text.lines()) {
        let mut rest = line.trim_start_matches(' ');
        let mut column = line.len().saturating_sub(rest.len());
        if rest.is_empty() || rest.starts_with('#') || scalar_indent.is_some_and(|indent| column > indent) {
            continue;
        }
        scalar_indent = None;
        while let Some(after) = rest.strip_prefix('-').filter(|r| r.is_empty() || r.starts_with(' ')) {
            open.truncate(open.iter().position(|o| o.column > column).unwrap_or(open.len()));
            let before = open.pop_if(|o| o.column == column && o.item.is_some());
            let item = before.and_then(|o| o.item).map_or(0, |i| i.saturating_add(1));
            let path = format!("{}[{item}]", open.last().map_or("", |o| o.path.as_str()));
            note(&mut places, &all, &path, (number, column.saturating_add(1)));
            open.push(Open { column, item: Some(item), path });
            let next = after.trim_start_matches(' ');
            column = column.saturating_add(rest.len().saturating_sub(next.len()));
            rest = next;
        }
        let Some((key, value)) = split_key(rest) else { continue };
        open.truncate(open.iter().position(|o| o.column >= column).unwrap_or(open.len()));
        let path = join(open.last().map_or("", |o| o.path.as_str()), key);
        note(&mut places, &all, &path, (number, column.saturating_add(1)));
        open.push(Open { column, item: None, path });
        if value.starts_with(['|', '>']) {
            scalar_indent = Some(column);
        }
    }
    places
}

struct Open {
    column: usize,
    item: Option<usize>,
    path: String,
}

fn note(places: &mut Places, wanted: &HashSet<&str>, path: &str, at: (usize, usize)) {
    if wanted.contains(path) {
        places.entry(path.to_owned()).or_default().push(at);
    }
}

pub(super) fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

fn split_key(text: &str) -> Option<(&str, &str)> {
    if let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        let (key, rest) = text.strip_prefix(quote)?.split_once(quote)?;
        return Some((key, rest.trim_start().strip_prefix(':')?.trim_start()));
    }
    text.split_once(": ")
        .or_else(|| Some((text.trim_end().strip_suffix(':')?, "")))
        .map(|(k, v)| (k.trim_end(), v.trim_start()))
}

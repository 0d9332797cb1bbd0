//! The gate in Postfix's own configuration: what main.cf and master.cf must say so that every message is asked for once,
//! and how that is taken out again. Texts in, texts out; `app` reads, checks and writes.
//!
//! Nothing of the administrator's is rewritten: our entry is put behind the last word of the list that is there, and a
//! comment above the line says whose it is. So [`undo`] needs no memory, and what was changed meanwhile stays.
//! What is not understood is refused, with the line and what to do by hand.

mod entry;
mod lines;
mod undo;
mod ways;

pub use entry::Away;
pub use lines::{File, bytes, characters};
pub use undo::{Undone, undo};
pub use ways::Way;

use entry::{AWAY, Entry, PASS, put};
use lines::{Given, Logical, Parameter, Service};
use std::collections::HashMap;

/// Above a line that our entry was added to.
const ADDED: &str = "# sendwarden: the gate, in the next line (out again with: sendwarden setup postfix --undo)";
/// Above a line where the braces around the option are ours too.
const BRACED: &str =
    "# sendwarden: the gate and braces, in the next line (out again with: sendwarden setup postfix --undo)";
/// Above a line that is all ours.
const OURS: &str = "# sendwarden: the next line (out again with: sendwarden setup postfix --undo)";

/// The lists of milters: for what comes over SMTP, and for what scripts hand over.
const SMTPD: &str = "smtpd_milters";
const OTHER: &str = "non_smtpd_milters";

/// Why a configuration is left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub file: File,
    /// Counted from 1.
    pub line: usize,
    pub what: String,
    pub by_hand: String,
}

impl Refusal {
    fn new(file: File, line: usize, what: impl Into<String>, by_hand: impl Into<String>) -> Refusal {
        Refusal { file, line: line + 1, what: what.into(), by_hand: by_hand.into() }
    }
}

/// What the two files are to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub main: String,
    pub master: String,
    /// Each way in, and how it is asked.
    pub ways: Vec<Way>,
    /// What the administrator should know.
    pub notes: Vec<String>,
}

/// Settings of one milter, and conditions in values, are there since Postfix 3.0.
pub fn supports(version: &str) -> bool {
    version.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= 3)
}

/// One change of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Edit {
    /// Our entry at the end of a list that stands here, with its mark.
    Line { at: usize, line: String, mark: &'static str },
    /// A line of ours below this one.
    Below { at: usize, line: String },
    /// A line of ours at the end of the file.
    End { line: String },
}

/// The files with the gate in them. Planning what is planned already changes nothing.
///
/// # Errors
/// Everything that is not understood.
pub fn plan(main: &str, master: &str, submission: Away) -> Result<Plan, Vec<Refusal>> {
    // From the files without us: so the second time is like the first, and other settings take effect.
    let (main, master) = (undo(File::Main, main).text, undo(File::Master, master).text);
    let main_lines: Vec<&str> = main.split('\n').collect();
    let master_lines: Vec<&str> = master.split('\n').collect();
    let parameters = lines::parameters(&main_lines).map_err(|why| vec![why])?;
    let services = lines::services(&master_lines).map_err(|why| vec![why])?;
    let mut site = Site { parameters, refusals: Vec::new(), submission };
    let lists = site.lists();
    let looked: Vec<Way> = services.iter().filter_map(|service| site.way(service, &services, lists)).collect();
    let mut in_main = Vec::new();
    let mut in_master = Vec::new();
    for (service, way) in looked.iter().filter_map(|way| Some((services.get(way.number)?, way))) {
        match way.act {
            Act::Own(name, away) => in_master.extend(site.own(service, name, away, &master_lines)),
            Act::Say(word, value) => {
                in_master.push(Edit::Below { at: service.line.last(), line: format!("  -o {word}={value}") })
            }
            Act::None => {}
        }
    }
    let says = |word| looked.iter().any(|way| matches!(way.act, Act::Say(said, _) if said == word));
    let entry = |away, shared| Entry { away, shared, varies: says(AWAY), passable: says(PASS) };
    match lists {
        Lists::Both => {
            in_main.extend(site.in_main(SMTPD, entry(Away::Accept, false), &main_lines));
            in_main.extend(site.in_main(OTHER, Entry::plain(Away::Tempfail), &main_lines));
        }
        Lists::One(name) => in_main.extend(site.in_main(name, entry(Away::Accept, true), &main_lines)),
    }
    if !site.refusals.is_empty() {
        return Err(site.refusals);
    }
    let notes = site.notes(&looked, &services);
    Ok(Plan { main: edited(&main, in_main), master: edited(&master, in_master), ways: looked, notes })
}

/// What is done in master.cf for a way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    None,
    /// Our entry in the service's own list.
    Own(&'static str, Away),
    /// A word of ours that the inherited entry heeds.
    Say(&'static str, &'static str),
}

/// Which lists of main.cf get an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lists {
    Both,
    /// The other one takes this one over.
    One(&'static str),
}

impl Lists {
    /// The list holds our entry, itself or by taking over the other.
    const fn shared(self) -> bool {
        matches!(self, Lists::One(_))
    }
}

struct Site {
    parameters: HashMap<String, Parameter>,
    refusals: Vec<Refusal>,
    submission: Away,
}

impl Site {
    fn value(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", |parameter| parameter.value.as_str())
    }

    /// The list takes the other one over, whole or in part, at any depth.
    fn refers(&self, value: &str, to: &str, depth: usize) -> bool {
        let names = lines::references(value);
        names.into_iter().any(|name| name == to || (depth < 16 && self.refers(self.value(name), to, depth + 1)))
    }

    /// The same, and nothing keeps it from doing so.
    fn takes_over(&self, value: &str, whose: &str, depth: usize) -> bool {
        let names = lines::taken_over(value);
        names
            .into_iter()
            .any(|name| name == whose || (depth < 16 && self.takes_over(self.value(name), whose, depth + 1)))
    }

    fn lists(&mut self) -> Lists {
        for (list, other) in [(OTHER, SMTPD), (SMTPD, OTHER)] {
            if !self.refers(self.value(list), other, 0) {
                continue;
            }
            if self.takes_over(self.value(list), other, 0) && !self.refers(self.value(other), list, 0) {
                return Lists::One(other);
            }
            let line = self.parameters.get(list).map_or(0, |parameter| parameter.line.line());
            let what = format!("{list} takes {other} over only in part or under a condition");
            let by_hand = format!("write the milters themselves into {list}, or the plain ${other}");
            self.refusals.push(Refusal::new(File::Main, line, what, by_hand));
        }
        Lists::Both
    }

    /// Our entry in a list of main.cf, which is made if there is none.
    fn in_main(&mut self, name: &str, entry: Entry, lines: &[&str]) -> Option<Edit> {
        let Some(parameter) = self.parameters.get(name) else {
            return Some(Edit::End { line: format!("{name} = {}", entry.text()) });
        };
        let at = parameter.line.last();
        if !entry::balanced(&parameter.line.text) {
            let by_hand = format!("correct {name} until `postconf -x {name}` shows what you mean");
            let refusal = Refusal::new(File::Main, parameter.line.line(), "its braces do not match", by_hand);
            self.refusals.push(refusal);
        }
        Some(Edit::Line { at, line: put(lines.get(at)?, entry), mark: ADDED })
    }

    /// Our entry in a list that a service has for itself.
    fn own(&mut self, service: &Service, name: &str, away: Away, lines: &[&str]) -> Option<Edit> {
        let Given { start, end, braces, glued, .. } = *service.given.get(name)?;
        if glued {
            let what = format!("service {} writes -o{name} in one word", service.name);
            let by_hand = format!("write `-o {name}=...`, with a space behind -o");
            let (at, _) = service.line.locate(start);
            self.refusals.push(Refusal::new(File::Master, at, what, by_hand));
            return None;
        }
        // In braces the list may have spaces, and ours has.
        let within = if braces { end.checked_sub(1)? } else { end };
        let last = service.line.text.get(..within)?.trim_end_matches(entry::space).len();
        let (at, column) = service.line.locate(last.checked_sub(1)?);
        let line = lines.get(at)?;
        let (before, after) = line.split_at_checked(column + 1)?;
        if braces {
            let line = format!("{}{after}", put(before, Entry::plain(away)));
            return Some(Edit::Line { at, line, mark: ADDED });
        }
        let (_, column) = service.line.locate(start);
        let (lead, word) = before.split_at_checked(column)?;
        let line = format!("{lead}{{ {} }}{after}", put(word, Entry::plain(away)));
        Some(Edit::Line { at, line, mark: BRACED })
    }
}

/// A file after its changes.
fn edited(text: &str, edits: Vec<Edit>) -> String {
    let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    // From below, so that the numbers of those above stay true.
    let mut placed: Vec<(usize, Edit)> = Vec::new();
    let end = if lines.last().is_some_and(String::is_empty) { lines.len() - 1 } else { lines.len() };
    for edit in edits {
        let at = match &edit {
            Edit::Line { at, .. } | Edit::Below { at, .. } => *at,
            Edit::End { .. } => end,
        };
        placed.push((at, edit));
    }
    placed.sort_by_key(|(at, _)| *at);
    for (at, edit) in placed.into_iter().rev() {
        let (range, new) = match edit {
            Edit::Line { line, mark, .. } => (at..at + 1, [mark.to_owned(), line]),
            Edit::Below { line, .. } => (at + 1..at + 1, [OURS.to_owned(), line]),
            Edit::End { line } => (at..at, [OURS.to_owned(), line]),
        };
        if range.end <= lines.len() {
            lines.splice(range, new);
        }
    }
    lines.join("\n")
}

/// `file:line` of a logical line, for people.
fn place(line: &Logical) -> String {
    format!("{}:{}", File::Master.name(), line.line() + 1)
}

//! The accounts file: which identities belong to which account, as YAML (`accounts: - id: …`) or CSV.
//!
//! Written by panels, so it can be long and wrong in every way: all mistakes are reported with their lines, and an
//! identity in two accounts names both. It never half-loads: a file with a mistake yields no accounts.

use std::path::Path;

use super::node::{self, Node};
use super::problem::{Found, MAX_FOUND, Problem, lines, place};
use super::read::{self, Bad, network, open, suggest, text_of, zone};
use super::{read_file, utf8};
use crate::engine::directory::{AccountSpec, Directory, DirectoryError, Policy};

const MAX_ACCOUNTS_BYTES: u64 = 256 << 20;
const MAX_ACCOUNTS_NODES: usize = 20_000_000;
const COLUMNS: &[&str] = &["id", "uids", "unix_users", "logins", "domains", "networks", "plan", "zone"];

/// Reads an accounts file, CSV if it is named `*.csv`, else YAML. Errors: every mistake in it.
pub fn load_accounts(path: &Path) -> Result<Vec<AccountSpec>, Vec<Problem>> {
    let text = read_file(path, MAX_ACCOUNTS_BYTES)?;
    let file = path.display().to_string();
    let csv = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"));
    if csv { parse_accounts_csv(&file, &text) } else { parse_accounts_yaml(&file, &text) }
}

/// Checks accounts given as YAML text; `file` only names it in problems.
pub fn parse_accounts_yaml(file: &str, text: &[u8]) -> Result<Vec<AccountSpec>, Vec<Problem>> {
    let text = utf8(file, text)?;
    let top = node::parse(text, MAX_ACCOUNTS_NODES).map_err(|f| place(file, text, vec![f]))?;
    let mut found = Vec::new();
    open(Some(&top), "", &["accounts"], &mut found);
    let none = Vec::new();
    let items = match top.get("accounts") {
        Some(Node::List(items)) => items,
        Some(Node::Null) => &none,
        None if found.is_empty() => {
            let missing = Found::new("", "this file has no `accounts`").hint("write `accounts:` and a list below it");
            return Err(place(file, text, vec![missing]));
        }
        None => &none,
        Some(other) => {
            let message = format!("expected a list of accounts, found {}", other.kind());
            found.push(Found::new("accounts", message).hint("write one `- id: NAME` per account"));
            &none
        }
    };
    let mut accounts = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        accounts.push(account(item, i, &mut found));
        if found.len() >= MAX_FOUND {
            return Err(place(file, text, found));
        }
    }
    if !found.is_empty() {
        return Err(place(file, text, found));
    }
    let path = |i: usize| format!("accounts[{i}]");
    without_conflicts(accounts, path, |paths| lines(text, paths)).map_err(|found| place(file, text, found))
}

fn account(item: &Node, i: usize, found: &mut Vec<Found>) -> AccountSpec {
    let mut spec = AccountSpec::default();
    let mut s = open(Some(item), &format!("accounts[{i}]"), COLUMNS, found);
    s.text("id", &mut spec.id, id);
    s.list("uids", &mut spec.uids, read::uid);
    s.list("unix_users", &mut spec.unix_users, |n| text_of(n).and_then(identity));
    s.list("logins", &mut spec.logins, |n| text_of(n).and_then(identity));
    s.list("domains", &mut spec.domains, |n| text_of(n).and_then(domain));
    s.list("networks", &mut spec.networks, |n| text_of(n).and_then(network));
    s.optional("plan", &mut spec.plan, plan);
    s.optional("zone", &mut spec.zone, zone);
    if matches!(item, Node::Map(_) | Node::Null) && s.node("id").is_none() {
        s.wrong("id", "an account needs an id", "add `id: NAME`");
    }
    spec
}

/// Checks accounts given as CSV text with a header line. Values of one cell are separated by spaces or `;`.
pub fn parse_accounts_csv(file: &str, text: &[u8]) -> Result<Vec<AccountSpec>, Vec<Problem>> {
    let text = utf8(file, text)?;
    let mut found = Vec::new();
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).trim(csv::Trim::All).flexible(true).from_reader(text.as_bytes());
    let mut record = csv::StringRecord::new();
    let mut next = |record: &mut csv::StringRecord| -> Result<Option<usize>, Found> {
        let line = |p: Option<&csv::Position>| p.map_or(0, |p| record_line(text, p));
        match reader.read_record(record) {
            Ok(more) => Ok(more.then(|| line(record.position()))),
            Err(e) => {
                let at = Some((line(e.position()), 1));
                Err(Found { at, ..Found::new("", format!("this is not readable CSV: {e}")) })
            }
        }
    };
    let header = match next(&mut record) {
        Ok(Some(line)) => {
            header(&record, line, &mut found);
            record.clone()
        }
        Ok(None) => {
            let empty = Found::new("", "this file is empty").hint(format!("begin with `{}`", COLUMNS.join(",")));
            return Err(place(file, "", vec![empty]));
        }
        Err(bad) => return Err(place(file, "", vec![bad])),
    };
    let mut accounts = Vec::new();
    let mut at_line = Vec::new();
    while found.len() < MAX_FOUND {
        match next(&mut record) {
            Ok(Some(line)) => {
                accounts.push(row(&header, &record, line, &mut found));
                at_line.push(line);
            }
            Ok(None) => break,
            Err(bad) => {
                found.push(bad);
                break;
            }
        }
    }
    if !found.is_empty() {
        return Err(place(file, "", found));
    }
    // A table has no key paths: its line numbers stand in for them until the conflicts are known.
    let line = |i: usize| at_line.get(i).map(usize::to_string).unwrap_or_default();
    let number = |line: &String| line.parse().unwrap_or(0);
    without_conflicts(accounts, line, |paths| paths.iter().map(number).collect()).map_err(|found| {
        let placed = found.into_iter().map(|f| Found { at: Some((number(&f.path), 1)), path: String::new(), ..f });
        place(file, "", placed.collect())
    })
}

/// The reader places a record before the blank lines it skips on the way to it.
fn record_line(text: &str, position: &csv::Position) -> usize {
    let start = usize::try_from(position.byte()).ok().and_then(|at| text.as_bytes().get(at..)).unwrap_or_default();
    let blank = start.iter().take_while(|b| matches!(b, b'\n' | b'\r')).filter(|&&b| b == b'\n').count();
    usize::try_from(position.line()).unwrap_or(usize::MAX).saturating_add(blank)
}

fn header(names: &csv::StringRecord, line: usize, found: &mut Vec<Found>) {
    for (i, name) in names.iter().enumerate().take(MAX_FOUND) {
        let wrong = |message: &str, hint: String| Found {
            at: Some((line, i.saturating_add(1))),
            ..Found::new(name, message).hint(hint)
        };
        if !COLUMNS.contains(&name) {
            let hint = suggest(name, COLUMNS).unwrap_or_else(|| format!("known columns: {}", COLUMNS.join(", ")));
            found.push(wrong("this column does not exist", hint));
        } else if names.iter().take(i).any(|other| other == name) {
            found.push(wrong("this column is given twice", "keep one of them".into()));
        }
    }
    if !names.iter().any(|name| name == "id") {
        let missing = Found::new("id", "this column is missing").hint("an account needs an id");
        found.push(Found { at: Some((line, 1)), ..missing });
    }
}

fn row(header: &csv::StringRecord, record: &csv::StringRecord, line: usize, found: &mut Vec<Found>) -> AccountSpec {
    let mut spec = AccountSpec::default();
    let at = |i: usize| Some((line, i.saturating_add(1)));
    if record.len() != header.len() {
        let message = format!("cells in this line: {}, in the header: {}", record.len(), header.len());
        let hint = "separate several values of one cell by spaces or `;`, not commas";
        found.push(Found { at: at(0), ..Found::new("", message).hint(hint) });
        return spec;
    }
    for (i, (name, cell)) in header.iter().zip(record.iter()).enumerate() {
        let values = cell.split([' ', ';']).filter(|v| !v.is_empty());
        let result = match name {
            "id" => id(cell).map(|v| spec.id = v),
            "uids" => collect(values, &mut spec.uids, |v| {
                let bad = || (format!("`{v}` is not a uid"), "give whole numbers".to_owned());
                v.parse().map_err(|_| bad()).and_then(|n: u32| read::uid(&Node::Whole(i128::from(n))))
            }),
            "unix_users" => collect(values, &mut spec.unix_users, identity),
            "logins" => collect(values, &mut spec.logins, identity),
            "domains" => collect(values, &mut spec.domains, domain),
            "networks" => collect(values, &mut spec.networks, network),
            "plan" if !cell.is_empty() => plan(cell).map(|v| spec.plan = Some(v)),
            "zone" if !cell.is_empty() => zone(cell).map(|v| spec.zone = Some(v)),
            _ => Ok(()),
        };
        if let Err((message, hint)) = result {
            found.push(Found { at: at(i), ..Found::new(name, message).hint(hint) });
        }
    }
    spec
}

fn collect<'v, T>(
    values: impl Iterator<Item = &'v str>,
    target: &mut Vec<T>,
    check: impl Fn(&str) -> Result<T, Bad>,
) -> Result<(), Bad> {
    *target = values.map(check).collect::<Result<_, _>>()?;
    Ok(())
}

/// Gives the accounts back if no identity has two owners. Else the later place of each, with the line of the earlier.
fn without_conflicts(
    accounts: Vec<AccountSpec>,
    path: impl Fn(usize) -> String,
    lines: impl Fn(&[String]) -> Vec<usize>,
) -> Result<Vec<AccountSpec>, Vec<Found>> {
    let mut errors = match Directory::build(accounts, Policy::default()) {
        Ok(directory) => return Ok(directory.into_accounts()),
        Err(errors) => errors,
    };
    errors.truncate(MAX_FOUND);
    let firsts: Vec<String> = errors.iter().map(|e| path(e.first_index)).collect();
    let found = |(e, line): (&DirectoryError, usize)| {
        let hint = format!("the other one is on line {line}: remove it from one of them");
        Found::new(path(e.second_index), e.to_string()).hint(hint)
    };
    Err(errors.iter().zip(lines(&firsts)).map(found).collect())
}

fn id(text: &str) -> Result<String, Bad> {
    let shape = |c: u8| c.is_ascii_alphanumeric() || b"._@+-".contains(&c);
    let good =
        text.len() <= 64 && text.bytes().all(shape) && text.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric());
    let hint = || "1 to 64 of A-Z a-z 0-9 . _ @ + -, beginning with a letter or digit".to_owned();
    match text {
        // The metrics give this label to the sum of all accounts without series of their own.
        "other" => Err(("the id `other` is reserved".into(), "choose another id".into())),
        _ if good => Ok(text.to_owned()),
        _ => Err((format!("`{text}` is not an account id"), hint())),
    }
}

/// What rules call a plan by.
pub(super) fn plan(text: &str) -> Result<String, Bad> {
    let shape = |c: u8| c.is_ascii_alphanumeric() || b"._+-".contains(&c);
    let good = !text.is_empty() && text.len() <= 64 && text.bytes().all(shape);
    let hint = || "1 to 64 of A-Z a-z 0-9 . _ + -".to_owned();
    if good { Ok(text.to_owned()) } else { Err((format!("`{text}` is not the name of a plan"), hint())) }
}

/// A login or a unix user: whatever the server logs, within reason.
fn identity(text: &str) -> Result<String, Bad> {
    let bad = |what: &str| (format!("`{text}` {what}"), "give the name as it stands in the mail log".to_owned());
    if text.len() > 320 {
        return Err(bad("is longer than 320 bytes"));
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(bad("contains a space or control character"));
    }
    Ok(text.to_owned())
}

fn domain(text: &str) -> Result<String, Bad> {
    let bad = || (format!("`{text}` is not a domain"), "write it without `@`, such as example.org".to_owned());
    if text.contains(['@', '*', '/']) || text.len() > 255 { Err(bad()) } else { identity(text) }
}

//! The gate in an Exim's configuration file: where the text of `setup` goes, and how it is taken out again. Texts in,
//! texts out; `app` reads, checks and writes.
//!
//! What is put in are whole lines between two marks, nothing of the administrator's is rewritten. The first mark has a sum
//! over the lines, so that an [`undo`] knows whether they are as they were written. What is not understood is refused.

use super::setup::{acl, acl_call, retry, routers};

/// Before lines of ours; the sum of the lines follows.
const BEGIN: &str = "# sendwarden: begin ";
/// What stands behind the sum, for people.
const HOW: &str = " (out again with: sendwarden setup exim --undo)";
/// Behind lines of ours.
const END: &str = "# sendwarden: end";
/// ACLs of our own, where the configuration has none.
const NOT_SMTP: &str = "not_smtp_by_sendwarden";
const DATA: &str = "data_by_sendwarden";

/// Why a configuration is left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub what: String,
    pub by_hand: String,
}

impl Refusal {
    fn new(what: impl Into<String>, by_hand: impl Into<String>) -> Refusal {
        Refusal { what: what.into(), by_hand: by_hand.into() }
    }
}

/// The ACLs in force, as `exim -bP` names them; empty: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acls<'a> {
    pub not_smtp: &'a str,
    pub data: &'a str,
}

/// What a file became without us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone {
    pub text: String,
    /// Lines, counted from 1, that could not be told from others.
    pub left: Vec<usize>,
}

/// A configuration in one file, with the gate in it. `acls` are those of the file without us. Doing it twice is the same
/// as once.
///
/// # Errors
/// What is not understood.
pub fn plan(text: &str, acls: Acls<'_>, flags: &str) -> Result<String, Vec<Refusal>> {
    let bare = undo(text, flags).text;
    let lines: Vec<&str> = bare.split('\n').collect();
    let mut refusals = Vec::new();
    // Behind which line, counted from 0, what is put in. Settings stand before the first section.
    let mut blocks: Vec<(usize, String)> = Vec::new();
    let first = lines.iter().position(|line| section(line).is_some());
    let Some(first) = first else {
        let by_hand = "set the gate up in the files that it includes, as `sendwarden setup exim` shows it";
        return Err(vec![Refusal::new("the file has no line `begin ...`: its sections are elsewhere", by_hand)]);
    };
    let (mut settings, mut rules) = (String::new(), acl(flags));
    for (setting, name, own) in [("acl_not_smtp", acls.not_smtp, NOT_SMTP), ("acl_smtp_data", acls.data, DATA)] {
        if name.is_empty() {
            settings.push_str(&format!("{setting} = {own}\n"));
            rules.push_str(&format!("{own}:\n{}  accept\n", acl_call()));
            continue;
        }
        let heads: Vec<usize> = heads(&lines, name);
        if heads.is_empty() {
            refusals.push(Refusal::new(
                format!("{setting} = {name}, but the file has no line `{name}:`"),
                format!("put these lines first in what it names:\n{}", acl_call()),
            ));
        }
        blocks.extend(heads.into_iter().map(|at| (at, acl_call().to_owned())));
    }
    match at_section(&lines, "acl") {
        Some(at) => blocks.push((at, rules)),
        // Before the first section there is always room for one more.
        None => settings.push_str(&format!("begin acl\n{rules}")),
    }
    match at_section(&lines, "routers") {
        Some(at) => blocks.push((at, routers(flags))),
        None => refusals.push(Refusal::new(
            "the file has no line `begin routers`",
            format!("make these the first routers where they are:\n{}", routers(flags)),
        )),
    }
    let last = if lines.last().is_some_and(|line| line.is_empty()) { lines.len() - 1 } else { lines.len() };
    match at_section(&lines, "retry") {
        Some(at) => blocks.push((at, retry().to_owned())),
        None => blocks.push((last.saturating_sub(1), format!("begin retry\n{}", retry()))),
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    blocks.sort();
    // Both settings may name one ACL.
    blocks.dedup();
    let mut out: Vec<String> = Vec::with_capacity(lines.len() + 32);
    for (at, line) in lines.iter().enumerate() {
        if at == first && !settings.is_empty() {
            out.extend(marked(&settings));
        }
        out.push((*line).to_owned());
        for (_, block) in blocks.iter().filter(|(behind, _)| *behind == at) {
            out.extend(marked(block));
        }
    }
    Ok(out.join("\n"))
}

/// Takes our lines out. Of a file without any nothing is changed.
pub fn undo(text: &str, flags: &str) -> Undone {
    let known = [acl(flags), acl_call().to_owned(), routers(flags), retry().to_owned()].concat();
    let more = format!(
        "{NOT_SMTP}:\n{DATA}:\n  accept\nacl_not_smtp = {NOT_SMTP}\nacl_smtp_data = {DATA}\nbegin acl\nbegin retry\n"
    );
    let known: Vec<&str> = known.lines().chain(more.lines()).collect();
    let lines: Vec<&str> = text.split('\n').collect();
    let mut kept: Vec<&str> = Vec::with_capacity(lines.len());
    let mut left = Vec::new();
    let mut at = 0;
    while let Some(line) = lines.get(at).copied() {
        at += 1;
        let Some(sum) = line.strip_prefix(BEGIN).map(|rest| rest.split(' ').next().unwrap_or_default()) else {
            kept.push(line);
            continue;
        };
        let rest = lines.get(at..).unwrap_or_default();
        let Some(length) = rest.iter().position(|line| line.trim_end() == END) else {
            left.push(kept.len() + 1);
            kept.push(line);
            continue;
        };
        let block = rest.get(..length).unwrap_or_default();
        if sum_of(block.iter().copied()) != sum {
            // Somebody has written in it: what is his stays.
            kept.extend(block.iter().filter(|line| !known.contains(line)));
        }
        at += length + 1;
    }
    Undone { text: kept.join("\n"), left }
}

/// Lines between marks.
fn marked(block: &str) -> Vec<String> {
    let sum = sum_of(block.lines());
    let begin = [format!("{BEGIN}{sum}{HOW}")].into_iter();
    begin.chain(block.lines().map(str::to_owned)).chain([END.to_owned()]).collect()
}

/// FNV-1a: enough to notice an edit, and the same in every version.
fn sum_of<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    for byte in lines.flat_map(|line| line.bytes().chain([b'\n'])) {
        sum = (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{sum:016x}")
}

/// The name of the section that begins here.
fn section(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some("begin"), Some(name), None) => Some(name),
        _ => None,
    }
}

fn at_section(lines: &[&str], name: &str) -> Option<usize> {
    lines.iter().position(|line| section(line) == Some(name))
}

/// Where an ACL of this name begins, in each branch of an `.ifdef`.
fn heads(lines: &[&str], name: &str) -> Vec<usize> {
    let mut within = "";
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        within = section(line).unwrap_or(within);
        let head = line.trim().strip_suffix(':').map(str::trim_end);
        if within == "acl" && head == Some(name) {
            found.push(at);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &str = "/var/lib/flags";
    const WHOLE: &str = "acl_not_smtp = a\nacl_smtp_data = b\nbegin acl\n\na:\n  accept\n.ifdef X\nb:\n  deny\n.else\nb :\n  \
                         accept\n.endif\n# a:\nbegin routers\n\nr:\n  driver = accept\nbegin retry\n* * F,1h,5m\n";

    fn acls<'a>(not_smtp: &'a str, data: &'a str) -> Acls<'a> {
        Acls { not_smtp, data }
    }

    #[test]
    fn what_is_put_in_stands_first_and_comes_out_again() {
        let bare = "log_selector = +all\nbegin routers\nr:\n  driver = accept";
        for (text, not_smtp, data, calls) in [
            (WHOLE, "a", "b", 3),
            (WHOLE, "a", "a", 1),
            (WHOLE, "", "b", 3),
            (bare, "", "", 2),
            ("begin routers\nbegin acl\nx:\n  accept\n", "x", "", 2),
        ] {
            let new = plan(text, acls(not_smtp, data), FLAGS).unwrap();
            assert_eq!(new.matches(acl_call()).count(), calls, "{new}");
            assert_eq!((new.matches(&acl(FLAGS)).count(), new.matches(&routers(FLAGS)).count()), (1, 1), "{new}");
            assert_eq!(new.matches("begin acl\n").count(), 1, "{new}");
            assert!(new.contains(retry()) && new.contains("begin retry"), "{new}");
            let first = new.split_once("begin routers\n").unwrap().1.lines().find(|line| line.ends_with(':'));
            assert_eq!(first, Some("hold_by_sendwarden:"));
            assert_eq!(plan(&new, acls(not_smtp, data), FLAGS).unwrap(), new);
            assert_eq!(undo(&new, FLAGS), Undone { text: text.to_owned(), left: Vec::new() });
            // Written for other flags, by another version: whole blocks are known by their sums.
            assert_eq!(undo(&new, "/elsewhere").text, text);
        }
    }

    #[test]
    fn an_undo_leaves_what_others_wrote_in_our_lines() {
        let new = plan(WHOLE, acls("a", "b"), FLAGS).unwrap();
        let edited = new.replace("  driver = redirect\n  no_verify\n", "  driver = redirect\n  # mine\n  no_verify\n");
        let undone = undo(&edited, FLAGS).text;
        let mine: Vec<&str> = undone.lines().filter(|line| !WHOLE.lines().any(|own| own == *line)).collect();
        assert_eq!(mine, ["  # mine"; 2]);
        let cut = new.replacen(END, "", 1).replacen(END, "", 1);
        assert!(!undo(&cut, FLAGS).text.is_empty());
        let open = format!("a = b\n{BEGIN}0{HOW}\nc = d\n");
        assert_eq!(undo(&open, FLAGS), Undone { text: open.clone(), left: vec![2] });
    }

    #[test]
    fn what_stands_elsewhere_is_refused_with_what_to_do() {
        for (text, not_smtp, what) in [
            (WHOLE, "c", "acl_not_smtp = c, but the file has no line `c:`"),
            (WHOLE, "/etc/exim/acl", "has no line `/etc/exim/acl:`"),
            (".include /etc/exim/all\n", "a", "no line `begin ...`"),
            ("begin acl\na:\n  accept\n", "a", "no line `begin routers`"),
        ] {
            let all = plan(text, acls(not_smtp, ""), FLAGS).unwrap_err();
            assert!(all.iter().any(|one| one.what.contains(what) && !one.by_hand.is_empty()), "{all:?}");
        }
    }
}

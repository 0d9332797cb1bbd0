//! Our entry in a list of milters: how it is written, put in and found again.

/// What tells our entry from every other one.
pub const SOCKET: &str = "sendwarden/gate.sock";
/// Said by a service whose mail has been through the gate before: leaves our entry out of the list it inherits.
pub const PASS: &str = "pass_sendwarden";
/// Said by a service that has its own default action in the list it inherits.
pub const AWAY: &str = "away_sendwarden";
/// Stands before each of our entries that others also use.
const PASS_OPEN: &str = "${pass_sendwarden?{}:{";

/// White space as isspace(3) has it.
pub fn space(one: char) -> bool {
    matches!(one, ' ' | '\t' | '\r' | '\n' | '\x0b' | '\x0c')
}

/// What Postfix does with mail while nobody answers at the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Away {
    /// It passes unasked.
    Accept,
    /// It waits: a client is told to come back, what scripts hand over stays in `maildrop`.
    Tempfail,
}

impl Away {
    pub const fn word(self) -> &'static str {
        match self {
            Away::Accept => "accept",
            Away::Tempfail => "tempfail",
        }
    }
}

/// An entry of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub away: Away,
    /// cleanup(8) reads the same list for what scripts hand over, and that must wait.
    pub shared: bool,
    /// Some services say something else by [`AWAY`].
    pub varies: bool,
    /// Some services are to be left out, which say so by [`PASS`].
    pub passable: bool,
}

impl Entry {
    pub const fn plain(away: Away) -> Entry {
        Entry { away, shared: false, varies: false, passable: false }
    }

    /// As it stands in the list. The settings of one milter in braces, and conditions, are there since Postfix 3.0.
    pub fn text(self) -> String {
        let mut action = self.away.word().to_owned();
        if self.varies {
            action = format!("${{{AWAY}?{{${AWAY}}}:{{{action}}}}}");
        }
        if self.shared {
            action = format!("${{{{$process_name}} == {{cleanup}} ? {{tempfail}} : {{{action}}}}}");
        }
        // Named whatever main.cf has for all milters: a hung agent must not stall the users of sendmail(1) for the
        // default of 300 seconds, and older how-tos set a protocol in which nobody can be told who sends.
        let entry = format!(
            "{{ unix:{SOCKET}, default_action={action}, protocol=6, connect_timeout=3s, command_timeout=5s, \
             content_timeout=5s }}"
        );
        match self.passable {
            true => format!("{PASS_OPEN}{entry}}}}}"),
            false => entry,
        }
    }
}

/// Each brace has its partner.
pub fn balanced(text: &str) -> bool {
    let mut depth = 0_usize;
    for one in text.chars() {
        match one {
            '{' => depth += 1,
            '}' if depth == 0 => return false,
            '}' => depth -= 1,
            _ => {}
        }
    }
    depth == 0
}

/// Puts an entry behind the last word of a line.
pub fn put(line: &str, entry: Entry) -> String {
    let end = line.trim_end_matches(space).len();
    let (before, after) = line.split_at(end);
    format!("{before} {}{after}", entry.text())
}

/// A line without our entries, whoever wrote them there; `None` when it has none.
pub fn take(line: &str) -> Option<String> {
    let mut rest = line.to_owned();
    while let Some((start, end)) = find(&rest) {
        let (mut before, mut after) = (rest.get(..start)?, rest.get(end..)?);
        // The space that came with it.
        before = before.strip_suffix(' ').unwrap_or(before);
        let follows = after.trim_start_matches(space);
        let leads = before.trim_end_matches(space);
        // Somebody went on behind it: what separated the two goes too.
        if follows.starts_with(',') && (leads.is_empty() || leads.ends_with(['=', ',', '{'])) {
            after = follows.strip_prefix(',')?;
        }
        rest = format!("{before}{after}");
    }
    (rest != line).then_some(rest)
}

/// Where the first of our entries begins and ends.
fn find(line: &str) -> Option<(usize, usize)> {
    let at = line.find(SOCKET)?;
    let word = |text: &str| text.rfind(|c: char| space(c) || ",{}=".contains(c)).map_or(0, |at| at + 1);
    // The milter's whole name, with a directory before it or not.
    let head = line.get(..at)?;
    let name = word(head);
    let opened = line.get(..name)?.trim_end_matches(space);
    let Some(open) = opened.strip_suffix('{').map(str::len) else {
        // Without its kind before it, it is a part of something that goes over several lines.
        let kind = head.get(name..)?;
        if !kind.contains(':') {
            return None;
        }
        let tail = line.get(at..)?;
        let end = tail.find(|c: char| space(c) || ",{}".contains(c)).unwrap_or(tail.len());
        return Some((name, at + end));
    };
    let close = closing(line, open)?;
    let outer = line.get(..open)?;
    if outer.ends_with(PASS_OPEN) && line.get(close..)?.starts_with("}}") {
        return Some((open - PASS_OPEN.len(), close + 2));
    }
    Some((open, close))
}

/// Behind the partner of the brace at `open`; the end of the line when it has none.
pub fn closing(line: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, one) in line.get(open..)?.char_indices() {
        match one {
            '{' => depth += 1,
            '}' if depth <= 1 => return Some(open + at + 1),
            '}' => depth -= 1,
            _ => {}
        }
    }
    Some(line.len())
}

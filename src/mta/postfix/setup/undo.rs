//! Our lines out of the files again. What was changed since stays as it was changed.

use super::entry::{AWAY, PASS, SOCKET, closing, space, take};
use super::lines::{File, is_comment};
use super::{ADDED, BRACED, OTHER, OURS, SMTPD};

/// A file without us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone {
    pub text: String,
    /// Lines, counted from 1, where something of ours is left that could not be told from what is not.
    pub left: Vec<usize>,
}

/// Takes our lines and entries out. Of a file without any nothing is changed.
pub fn undo(file: File, text: &str) -> Undone {
    let lines: Vec<&str> = text.split('\n').collect();
    let mut kept: Vec<String> = Vec::with_capacity(lines.len());
    let mut mark = None;
    for (number, line) in lines.iter().enumerate() {
        if let Some(found) = [ADDED, BRACED, OURS].into_iter().find(|mark| line.trim_end_matches(space) == *mark) {
            mark = Some(found);
            continue;
        }
        let mark = mark.take();
        if is_comment(line) {
            kept.push((*line).to_owned());
            continue;
        }
        let Some(bare) = without(file, line) else {
            kept.push((*line).to_owned());
            continue;
        };
        let goes_on = || {
            let next = lines.get(number + 1..).unwrap_or_default().iter().find(|line| !is_comment(line));
            next.is_some_and(|line| line.starts_with(space))
        };
        match mark {
            // Nothing but ours in it. A line that goes on below is somebody's by now.
            _ if bare.trim_matches(space).is_empty() => {}
            Some(OURS) if is_empty_list(&bare) && !goes_on() => {}
            Some(BRACED) => kept.push(unbraced(&bare)),
            _ => kept.push(bare),
        }
    }
    let left = kept.iter().enumerate().filter(|(_, line)| !is_comment(line) && names_us(line));
    let left = left.map(|(number, _)| number + 1).collect();
    Undone { text: kept.join("\n"), left }
}

fn names_us(line: &str) -> bool {
    [SOCKET, PASS, AWAY].iter().any(|word| line.contains(word))
}

/// The line without our entries and options; `None` when it has none.
fn without(file: File, line: &str) -> Option<String> {
    if !names_us(line) {
        return None;
    }
    let mut bare = take(line).unwrap_or_else(|| line.to_owned());
    if file == File::Master {
        for word in [PASS, AWAY] {
            while let Some((start, end)) = option(&bare, word) {
                let (before, after) = (bare.get(..start)?, bare.get(end..)?);
                bare = format!("{}{after}", before.strip_suffix(' ').unwrap_or(before));
            }
        }
    }
    (bare != line).then_some(bare)
}

/// Where `-o word=value` stands.
fn option(line: &str, word: &str) -> Option<(usize, usize)> {
    let start = line.find(&format!("-o {word}="))?;
    let rest = line.get(start + 3..)?;
    Some((start, start + 3 + rest.find(space).unwrap_or(rest.len())))
}

/// A setting of ours with nothing in it.
fn is_empty_list(line: &str) -> bool {
    line == format!("{SMTPD} =") || line == format!("{OTHER} =")
}

/// The option as it was before it got braces, unless it needs them now.
fn unbraced(line: &str) -> String {
    for name in [SMTPD, OTHER] {
        let Some(open) = line.find(&format!("{{ {name}=")) else { continue };
        let Some(close) = closing(line, open) else { continue };
        let (Some(before), Some(within), Some(after)) = (line.get(..open), line.get(open..close), line.get(close..))
        else {
            continue;
        };
        let bare = within.strip_prefix("{ ").and_then(|text| text.strip_suffix(" }"));
        if let Some(bare) = bare.filter(|bare| !bare.contains(space)) {
            return format!("{before}{bare}{after}");
        }
    }
    line.to_owned()
}

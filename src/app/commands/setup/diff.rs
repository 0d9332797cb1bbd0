//! What changes between two texts, line by line, with three lines around, for people.

/// Lines around a change.
const AROUND: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line<'a> {
    Same(&'a str),
    Gone(&'a str),
    New(&'a str),
}

/// Each change with the number of its first line in the old text, and the entry that it is in where that is further up;
/// empty when nothing changes.
pub fn shown(name: &str, old: &str, new: &str) -> String {
    if old == new {
        return String::new();
    }
    let lines = compared(&old.lines().collect::<Vec<_>>(), &new.lines().collect::<Vec<_>>());
    let changed: Vec<usize> =
        lines.iter().enumerate().filter(|(_, line)| !matches!(line, Line::Same(_))).map(|(at, _)| at).collect();
    let near = |at: usize| changed.iter().any(|change| change.abs_diff(at) <= AROUND);
    let mut out = format!("{name} (what goes has a -, what comes a +)\n");
    // The entry that the lines at hand belong to, and whether it is among those that are shown.
    let (mut in_old, mut open, mut entry) = (1, false, None);
    for (at, line) in lines.iter().enumerate() {
        let (sign, text) = match line {
            Line::Same(text) => (' ', text),
            Line::Gone(text) => ('-', text),
            Line::New(text) => ('+', text),
        };
        if near(at) {
            if !open {
                let inside = entry.filter(|_| continues(text)).map(|entry| format!(", in `{entry}`"));
                out.push_str(&format!("line {in_old}{}:\n", inside.unwrap_or_default()));
            }
            out.push_str(&format!("{sign}{text}\n"));
        }
        if !continues(text) && !matches!(line, Line::New(_)) {
            entry = Some(text);
        }
        open = near(at);
        in_old += usize::from(!matches!(line, Line::New(_)));
    }
    out
}

/// A comment, an empty line, or more of the entry above.
fn continues(line: &str) -> bool {
    line.trim_start().starts_with('#') || line.trim().is_empty() || line.starts_with([' ', '\t'])
}

/// By the longest common run of lines; the same beginning and end are left out first.
fn compared<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (old.get(head..).unwrap_or_default(), new.get(head..).unwrap_or_default());
    let tail = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let a = old_rest.get(..old_rest.len() - tail).unwrap_or_default();
    let b = new_rest.get(..new_rest.len() - tail).unwrap_or_default();
    // longest[i][j]: of the ends of both from there on.
    let mut longest = vec![vec![0_u32; b.len() + 1]; a.len() + 1];
    let at = |table: &Vec<Vec<u32>>, i: usize, j: usize| table.get(i).and_then(|row| row.get(j)).copied().unwrap_or(0);
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            let value = match a.get(i) == b.get(j) {
                true => at(&longest, i + 1, j + 1) + 1,
                false => at(&longest, i + 1, j).max(at(&longest, i, j + 1)),
            };
            if let Some(cell) = longest.get_mut(i).and_then(|row| row.get_mut(j)) {
                *cell = value;
            }
        }
    }
    let mut lines: Vec<Line<'a>> = old.iter().take(head).map(|line| Line::Same(line)).collect();
    let (mut i, mut j) = (0, 0);
    loop {
        match (a.get(i), b.get(j)) {
            (Some(x), Some(y)) if x == y => {
                lines.push(Line::Same(x));
                (i, j) = (i + 1, j + 1);
            }
            (Some(x), _) if j == b.len() || at(&longest, i + 1, j) >= at(&longest, i, j + 1) => {
                lines.push(Line::Gone(x));
                i += 1;
            }
            (_, Some(y)) => {
                lines.push(Line::New(y));
                j += 1;
            }
            _ => break,
        }
    }
    lines.extend(old_rest.iter().skip(a.len()).map(|line| Line::Same(line)));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_changes_and_a_little_around() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let new = "1\n2\n3\n4\n4a\n5\nsix\n7\n8\n9\n";
        let told = "f (what goes has a -, what comes a +)\nline 2:\n 2\n 3\n 4\n+4a\n 5\n-6\n+six\n 7\n 8\n 9\n";
        assert_eq!(shown("f", old, new), told);
        assert_eq!(shown("f", old, old), "");
    }

    #[test]
    fn a_line_deep_in_an_entry_is_shown_with_its_entry() {
        let old = "smtp inet smtpd\nsubmission inet smtpd\n  -o a=1\n  -o b=2\n  # c\n  -o d=4\n  -o e=5\n";
        let told = shown("master.cf", old, &old.replace("e=5", "e=6"));
        assert!(told.contains("+)\nline 4, in `submission inet smtpd`:\n   -o b=2\n"), "{told}");
        let told = shown("master.cf", old, &old.replace("a=1", "a=2"));
        assert!(told.contains("+)\nline 1:\n smtp inet"), "{told}");
    }
}

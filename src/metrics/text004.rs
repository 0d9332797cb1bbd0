//! OpenMetrics text rewritten as text format 0.0.4, for scrapers that do not ask for OpenMetrics.
//!
//! Only what our own exposition contains is known: counters, gauges, classic histograms, no timestamps, no exemplars.
//! Rewrites line by line as it is written to: with thousands of series the text is large, and there once only.

use std::fmt;

/// The same figures in the older format: counters are declared with `_total`, units and `# EOF` go.
pub(super) struct Text004 {
    out: String,
    /// The line that is being written.
    line: String,
    /// HELP comes before TYPE, and only TYPE says whether the name needs `_total`.
    help: Option<(String, String)>,
}

impl Text004 {
    pub fn with_capacity(bytes: usize) -> Text004 {
        Text004 { out: String::with_capacity(bytes), line: String::new(), help: None }
    }

    pub fn finish(self) -> String {
        self.out
    }

    fn end_line(&mut self) {
        let line = self.line.as_str();
        if let Some(rest) = line.strip_prefix("# HELP ") {
            self.help = rest.split_once(' ').map(|(name, words)| (name.to_owned(), words.to_owned()));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
            let total = if kind == "counter" { "_total" } else { "" };
            if let Some((_, words)) = self.help.take() {
                push(&mut self.out, &["# HELP ", name, total, " ", &words, "\n"]);
            }
            push(&mut self.out, &["# TYPE ", name, total, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            push(&mut self.out, &[line, "\n"]);
        }
        self.line.clear();
    }
}

impl fmt::Write for Text004 {
    fn write_str(&mut self, mut text: &str) -> fmt::Result {
        while let Some((head, rest)) = text.split_once('\n') {
            self.line.push_str(head);
            self.end_line();
            text = rest;
        }
        self.line.push_str(text);
        Ok(())
    }
}

fn push(out: &mut String, parts: &[&str]) {
    for part in parts {
        out.push_str(part);
    }
}

//! OpenMetrics text rewritten as text format 0.0.4, for scrapers that do not ask for OpenMetrics.
//!
//! Only what our own exposition contains is known: counters, gauges, classic histograms, no timestamps, no exemplars.

/// The same figures in the older format: counters are declared with `_total`, units and `# EOF` go.
pub(super) fn rewrite(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len());
    // HELP comes before TYPE, and only TYPE says whether the name needs `_total`.
    let mut help: Option<(&str, &str)> = None;
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
            let total = if kind == "counter" { "_total" } else { "" };
            if let Some((_, words)) = help.take() {
                push(&mut out, &["# HELP ", name, total, " ", words, "\n"]);
            }
            push(&mut out, &["# TYPE ", name, total, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            push(&mut out, &[line, "\n"]);
        }
    }
    out
}

fn push(out: &mut String, parts: &[&str]) {
    for part in parts {
        out.push_str(part);
    }
}

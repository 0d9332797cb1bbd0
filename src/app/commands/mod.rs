//! What the commands do; how they are called is in `cli`.

pub mod account;
mod ask;
pub mod check;
pub mod demo;
pub mod errors;
pub mod helper;
pub mod history;
pub mod order;
pub mod replay;
pub mod rules;
pub mod run;
pub mod setup;
pub mod status;
pub mod suggest;
pub mod test_hold;
pub mod trace;
pub mod verdicts;

use super::Exit;
pub use super::numbers::{counted, grouped};
use serde_json::Value;

/// Prints an answer. A reader that has gone away (`| head`) ends the command quietly.
pub fn say(text: &str) -> Exit {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.trim_end().as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()) {
        Ok(()) => Exit::Done,
        Err(_) => Exit::Failed,
    }
}

/// Tells of a failure on standard error: what was attempted, on what, why, what to do.
pub fn complain(text: &str) {
    use std::io::Write;
    let mut err = std::io::stderr().lock();
    if writeln!(err, "sendwarden: {}", text.trim_end()).is_err() {
        // Nobody can be told any more.
    }
}

/// A name in a column of so many characters; what is cut is marked.
pub fn fitted(name: &str, most: usize) -> String {
    match name.char_indices().nth(most) {
        None => name.to_owned(),
        Some(_) => name.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// A reply of several lines, which some servers log with `\n` between them, as lines with this indent.
pub fn spoken(reply: &str, indent: &str) -> String {
    reply.replace("\\n", &format!("\n{indent}"))
}

/// JSON for programs.
pub fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// A number of a view; 0 when it is not there.
pub fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

/// A text of a view; empty when it is not there.
pub fn words<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}

/// The script of a view with a `script`, in words; empty when nothing is said of one.
pub fn script(value: &Value) -> String {
    let Some(script) = value.get("script").filter(|script| script.is_object()) else { return String::new() };
    let line = match number(script, "line") {
        0 => String::new(),
        line => format!(":{line}"),
    };
    match (words(script, "path"), words(script, "directory")) {
        ("", directory) => format!("script in {directory}, as claimed"),
        (path, "") => format!("script {path}{line}, as claimed"),
        (path, directory) => format!("script {path}{line} in {directory}, as claimed"),
    }
}

/// The items of a list of a view.
pub fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_name_says_so_and_one_that_fits_is_whole() {
        assert_eq!(fitted("web1", 4), "web1");
        assert_eq!(fitted("web12", 4), "web…");
        assert_eq!(fitted("éééé", 4), "éééé");
    }

    #[test]
    fn lines_of_a_reply_are_lines() {
        let reply = "550-5.7.26 This mail is unauthenticated\\n550 5.7.26 second line";
        assert_eq!(spoken(reply, "  "), "550-5.7.26 This mail is unauthenticated\n  550 5.7.26 second line");
    }
}

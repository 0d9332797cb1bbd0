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
pub mod run;
pub mod setup;
pub mod status;
pub mod test_hold;
pub mod trace;

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

//! What the commands do; how they are called is in `cli`.

pub mod replay;

/// Prints a line of an answer. A reader that has gone away (`| head`) ends the command quietly.
pub fn say(text: &str) -> bool {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).is_ok()
}

/// Tells of a failure on standard error: what was attempted, on what, why, what to do.
pub fn complain(text: &str) {
    use std::io::Write;
    let mut err = std::io::stderr().lock();
    if writeln!(err, "sendwarden: {text}").is_err() {
        // Nobody can be told any more.
    }
}

//! The laws of the house, held against the source itself (their text: the documentation of `src/lib.rs`).
//!
//! `LAWS` is the list; `law/tree.rs` reads the source; `law/examples.rs` holds, for each law, code that breaks it in
//! several disguises and code that keeps it, so that a law that finds nothing any more is noticed.
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test")]
#[path = "law/examples.rs"]
mod examples;
#[path = "law/tree.rs"]
mod tree;

use tree::{File, Mention, What};

struct Law {
    name: &'static str,
    why: &'static str,
    check: fn(&File) -> Vec<String>,
}

const LAWS: &[Law] = &[
    Law { name: "pure", why: "what decides must give the same answer in a test, a replay and the agent", check: pure },
    Law { name: "apart", why: "the judgement must not know a dialect, nor a dialect the judgement", check: apart },
    Law { name: "words", why: "a second mail server must fit without touching these rooms", check: words },
    Law { name: "household", why: "rooms own their settings; only main and app put them together", check: household },
    Law { name: "sql", why: "one room knows the shape of the store", check: sql },
    Law {
        name: "processes",
        why: "one place starts processes, with limits and arguments never through a shell",
        check: processes,
    },
    Law { name: "clock", why: "time is a parameter, or replay and tests would differ from the agent", check: clock },
    Law { name: "letters", why: "one place speaks SMTP", check: letters },
    Law { name: "metric names", why: "one catalogue of names, checked against its document", check: metric_names },
    Law { name: "yaml", why: "one room knows how settings are written", check: yaml },
    Law { name: "window", why: "the web reads views and drops orders; it never reaches the store", check: window },
    Law { name: "length", why: "a file is read in one sitting", check: length },
    Law { name: "first line", why: "a file says what it is for", check: first_line },
];

const PURE_ROOMS: &[&str] = &["mail", "mta", "engine"];

/// What a pure room never names: the machine, time, chance, logging, and the rooms that touch them.
const IMPURE: &[&str] = &[
    "std::fs",
    // Addresses are plain data; sockets are not.
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::net::ToSocketAddrs",
    "std::process",
    "std::env",
    "std::thread",
    "std::os",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::hash::RandomState",
    "std::collections::hash_map::RandomState",
    "foldhash::fast::RandomState",
    "foldhash::quality::RandomState",
    "jiff::Timestamp::now",
    "jiff::Zoned::now",
    "jiff::tz::TimeZone::system",
    "jiff::tz::db",
    "tokio",
    "tracing",
    "tracing_subscriber",
    "log",
    "rand",
    "fastrand",
    "getrandom",
    "rusqlite",
    "rustix",
    "libc",
    "axum",
    "hyper",
    "hyper_util",
    "notify",
    "lettre",
    "clap",
    "indicatif",
    "futures",
    "crate::host",
    "crate::store",
    "crate::notify",
    "crate::web",
    "crate::metrics",
    "crate::app",
    "crate::config",
    "println!",
    "print!",
    "eprintln!",
    "eprint!",
    "dbg!",
    "thread_local!",
    "include!",
];

const CLOCKS: &[&str] = &[
    "std::time::SystemTime::now",
    "std::time::Instant::now",
    "tokio::time::Instant::now",
    "jiff::Timestamp::now",
    "jiff::Zoned::now",
    "rustix::time::clock_gettime",
    "libc::clock_gettime",
];

const STARTERS: &[&str] =
    &["std::process::Command", "std::os::unix::process::CommandExt", "tokio::process", "libc::fork", "libc::execve"];

fn at(file: &File, mention: &Mention, what: impl std::fmt::Display) -> String {
    format!("src/{}:{}: {what}", file.name, mention.line)
}

/// Mentions of anything in `forbidden` or below it, and globs that would bring it in.
fn paths(file: &File, forbidden: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for mention in &file.mentions {
        let What::Path { stages, glob } = &mention.what else { continue };
        let hit = stages.iter().find_map(|stage| {
            let stage: Vec<&str> = stage.iter().map(|s| if s == "core" || s == "alloc" { "std" } else { s }).collect();
            forbidden.iter().find(|f| {
                let f: Vec<&str> = f.split("::").collect();
                stage.starts_with(&f) || (*glob && f.starts_with(&stage))
            })
        });
        if let Some(hit) = hit {
            found.push(at(file, mention, format_args!("names {hit}")));
        }
    }
    found
}

fn texts(file: &File, forbidden: impl Fn(&str) -> bool) -> Vec<String> {
    let hits = file.mentions.iter().filter_map(|m| match &m.what {
        What::Text(text) if forbidden(text) => Some(at(file, m, format_args!("{text:?}"))),
        _ => None,
    });
    hits.collect()
}

fn pure(file: &File) -> Vec<String> {
    if !PURE_ROOMS.contains(&file.room()) {
        return Vec::new();
    }
    let mut found = paths(file, IMPURE);
    found.extend(file.mentions.iter().filter(|m| matches!(m.what, What::Async)).map(|m| at(file, m, "async")));
    found
}

fn apart(file: &File) -> Vec<String> {
    match file.room() {
        "engine" => paths(file, &["crate::mta"]),
        "mta" => paths(file, &["crate::engine"]),
        "mail" => paths(file, &["crate::mta", "crate::engine"]),
        _ => Vec::new(),
    }
}

fn words(file: &File) -> Vec<String> {
    if !["engine", "store", "notify", "metrics"].contains(&file.room()) {
        return Vec::new();
    }
    let lines = file.text.lines().enumerate().flat_map(|(n, line)| {
        let line = line.to_lowercase();
        ["postfix", "exim"].into_iter().filter(move |w| line.contains(w)).map(move |w| (n + 1, w))
    });
    lines.map(|(n, word)| format!("src/{}:{n}: says {word}", file.name)).collect()
}

fn household(file: &File) -> Vec<String> {
    match file.room() {
        "main" | "app" => Vec::new(),
        "config" => paths(file, &["crate::app"]),
        _ => paths(file, &["crate::app", "crate::config"]),
    }
}

/// Whether a literal is a statement: the first words of SQL, in any case, so that prose does not count.
fn is_sql(text: &str) -> bool {
    let words: Vec<String> = text.split_whitespace().take(400).map(str::to_lowercase).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let has = |word: &str| words.contains(&word);
    let shouted = text.split_whitespace().next().is_some_and(|w| {
        [
            "SELECT",
            "INSERT",
            "UPDATE",
            "DELETE",
            "CREATE",
            "DROP",
            "ALTER",
            "PRAGMA",
            "BEGIN",
            "COMMIT",
            "ROLLBACK",
            "ATTACH",
            "VACUUM",
            "SAVEPOINT",
            "WITH",
            "REPLACE",
        ]
        .contains(&w.trim_end_matches(';'))
    });
    if shouted {
        return true;
    }
    match words.as_slice() {
        ["select", ..] => has("from"),
        ["insert" | "replace", "into" | "or", ..] | ["delete", "from", ..] | ["pragma", ..] => true,
        ["update", _, "set", ..] => true,
        ["create" | "drop" | "alter", "table" | "index" | "view" | "trigger" | "unique" | "temp" | "virtual", ..] => {
            true
        }
        ["begin", "immediate" | "exclusive" | "deferred" | "transaction", ..] | ["attach", "database", ..] => true,
        ["with", _, "as", ..] => has("select"),
        _ => false,
    }
}

fn sql(file: &File) -> Vec<String> {
    if file.room() == "store" {
        return Vec::new();
    }
    let mut found = paths(file, &["rusqlite"]);
    found.extend(texts(file, is_sql));
    found
}

fn processes(file: &File) -> Vec<String> {
    if file.within("host/exec") { Vec::new() } else { paths(file, STARTERS) }
}

fn clock(file: &File) -> Vec<String> {
    if file.within("host/clock") { Vec::new() } else { paths(file, CLOCKS) }
}

fn letters(file: &File) -> Vec<String> {
    if file.within("notify/send") { Vec::new() } else { paths(file, &["lettre"]) }
}

fn metric_names(file: &File) -> Vec<String> {
    if file.room() == "metrics" { Vec::new() } else { texts(file, |t| t.starts_with("sendwarden_")) }
}

fn yaml(file: &File) -> Vec<String> {
    if file.room() == "config" { Vec::new() } else { paths(file, &["serde_yaml", "yaml_serde"]) }
}

fn window(file: &File) -> Vec<String> {
    if file.room() == "web" { paths(file, &["crate::store"]) } else { Vec::new() }
}

fn length(file: &File) -> Vec<String> {
    let lines = file.text.lines().count();
    if lines > 600 { vec![format!("src/{}: {lines} lines, 600 at most", file.name)] } else { Vec::new() }
}

fn first_line(file: &File) -> Vec<String> {
    if file.text.starts_with("//! ") { Vec::new() } else { vec![format!("src/{}: does not start with //!", file.name)] }
}

fn sources() -> Vec<(String, String)> {
    fn gather(folder: &std::path::Path, name: &str, out: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let own = entry.file_name().into_string().unwrap();
            let name = if name.is_empty() { own } else { format!("{name}/{own}") };
            if entry.file_type().unwrap().is_dir() {
                gather(&entry.path(), &name, out);
            } else if name.ends_with(".rs") {
                out.push((name, std::fs::read_to_string(entry.path()).unwrap()));
            }
        }
    }
    let mut out = Vec::new();
    gather(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut out);
    out.sort();
    out
}

#[test]
fn the_source_keeps_every_law() {
    let files = tree::read(&sources()).unwrap();
    assert!(files.len() > 15, "only {} files were read", files.len());
    let mut found = Vec::new();
    for law in LAWS {
        for finding in files.iter().flat_map(|file| (law.check)(file)) {
            found.push(format!("{finding}\n    law \"{}\": {}", law.name, law.why));
        }
    }
    found.sort();
    found.dedup();
    assert!(found.is_empty(), "{} findings\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_law_finds_its_violations_in_every_disguise() {
    let mut missed = Vec::new();
    for law in LAWS {
        let examples: Vec<_> = examples::broken().into_iter().filter(|e| e.law == law.name).collect();
        let least = if ["length", "first line"].contains(&law.name) { 1 } else { 3 };
        assert!(examples.len() >= least, "law {:?} has only {} examples", law.name, examples.len());
        for example in examples {
            let files = tree::read(&example.files).unwrap_or_else(|e| panic!("{}: {e}", example.disguise));
            if files.iter().all(|file| (law.check)(file).is_empty()) {
                missed.push(format!("law {:?}, {}", law.name, example.disguise));
            }
        }
    }
    assert!(missed.is_empty(), "not found:\n{}", missed.join("\n"));
}

#[test]
fn no_law_finds_what_is_allowed() {
    for law in LAWS {
        let examples: Vec<_> = examples::kept().into_iter().filter(|e| e.law == law.name).collect();
        assert!(!examples.is_empty(), "law {:?} has no example of what is allowed", law.name);
        for example in examples {
            let files = tree::read(&example.files).unwrap_or_else(|e| panic!("{}: {e}", example.disguise));
            let found: Vec<String> = files.iter().flat_map(|file| (law.check)(file)).collect();
            assert!(found.is_empty(), "law {:?}, {}: {}", law.name, example.disguise, found.join("\n"));
        }
    }
}

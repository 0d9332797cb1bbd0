//! Code that breaks each law in several disguises, and code that keeps it although it looks similar.

pub struct Example {
    pub law: &'static str,
    pub disguise: String,
    /// Name below `src/` and text.
    pub files: Vec<(String, String)>,
}

fn example(law: &'static str, disguise: impl Into<String>, files: &[(&str, &str)]) -> Example {
    let files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    Example { law, disguise: disguise.into(), files }
}

/// The same forbidden thing, `path::last`, in every disguise that code has for a path.
fn disguises(law: &'static str, room: &str, path: &str) -> Vec<Example> {
    let (head, last) = path.rsplit_once("::").unwrap_or(("", path));
    let file = format!("{room}/some.rs");
    let one = |disguise: &str, text: String| example(law, format!("{disguise} of {path}"), &[(&file, &text)]);
    let mut out = vec![
        one("full path", format!("fn f() {{ {path}::x(); }}")),
        one("import", format!("use {path};")),
        one("renamed", format!("use {path} as other; fn f() {{ other::x(); }}")),
        one("nested renamed", format!("use {{{path} as other, crate::mail}};")),
        one("in a function", format!("fn f() {{ use {path}; }}")),
        one("type position", format!("struct S {{ a: Option<{path}> }}")),
        one("macro tokens", format!("fn f() {{ vec![{path}::x()]; }}")),
        one("macro definition", format!("macro_rules! m {{ () => {{ {path}::x() }} }}")),
        one("attribute", format!("#[{path}::x] fn f() {{}}")),
        one(
            "inside a module, through super",
            format!("use {path} as far; mod inner {{ fn f() {{ super::far::x(); }} }}"),
        ),
        one("not in tests", format!("#[cfg(not(test))] use {path};")),
        example(
            law,
            format!("re-export chain of {path}"),
            &[
                (&file, "use crate::middle::two as three; fn f() { three::x(); }"),
                ("middle/mod.rs", "pub mod deep; pub use self::deep::one as two;"),
                ("middle/deep.rs", &format!("pub use {path} as one;")),
            ],
        ),
        example(
            law,
            format!("glob of a re-export of {path}"),
            &[
                (&file, "use crate::middle::*; fn f() { one::x(); }"),
                ("middle/mod.rs", &format!("pub use {path} as one;")),
            ],
        ),
    ];
    if !head.is_empty() {
        out.push(one("renamed parent", format!("use {head} as up; fn f() {{ up::{last}::x(); }}")));
        out.push(one("group", format!("use {head}::{{self as up, {last} as l}};")));
        out.push(one("glob", format!("use {head}::*; fn f() {{ {last}::x(); }}")));
        out.push(one("group in a macro", format!("fn f() {{ m! {{ use {head}::{{{last} as l}}; }} }}")));
    }
    out
}

/// Re-exports are followed only where the middle room itself may not name the thing; these check the far end alone.
fn far_end(law: &'static str, path: &str, may: &str, must_not: &str) -> Example {
    let text = format!("//! m\npub use {path} as Innocent;");
    example(
        law,
        format!("{must_not} through {may}"),
        &[(may, &text), (must_not, &format!("use crate::{}::Innocent; fn f() {{ Innocent::new(); }}", module(may)))],
    )
}

fn module(file: &str) -> String {
    file.trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::")
}

pub fn broken() -> Vec<Example> {
    let mut out = Vec::new();
    for room in ["mail", "mta", "engine"] {
        for path in
            ["std::fs", "std::thread", "std::time::Instant", "tokio", "tracing", "rusqlite", "crate::host::names"]
        {
            out.extend(disguises("pure", room, path));
        }
    }
    out.extend([
        example("pure", "printing", &[("engine/a.rs", "fn f() { println!(\"x\"); }")]),
        example("pure", "async fn", &[("mta/a.rs", "async fn f() {}")]),
        example("pure", "await in a method", &[("mta/a.rs", "impl A { fn f() { async { g().await }; } }")]),
        example("pure", "type alias", &[("engine/a.rs", "type T = jiff::Timestamp; fn f() { T::now(); }")]),
        example("pure", "qualified self", &[("engine/a.rs", "use jiff::Zoned as Z; fn f() { <Z>::now(); }")]),
        example("pure", "extern crate", &[("engine/a.rs", "extern crate std as s; fn f() { s::fs::read(\"a\"); }")]),
        example("pure", "core", &[("engine/a.rs", "use std as s; use s::env; fn f() { env::args(); }")]),
        example("pure", "leading colons", &[("engine/a.rs", "fn f() { ::std::process::id(); }")]),
    ]);
    out.extend(disguises("apart", "engine", "crate::mta"));
    out.extend(disguises("apart", "mta", "crate::engine::tracker"));
    out.extend(disguises("apart", "mta/far", "super::super::super::engine"));
    out.extend([
        example("words", "identifier", &[("engine/a.rs", "struct PostfixThing;")]),
        example("words", "string", &[("store/a.rs", "const A: &str = \"exim\";")]),
        example("words", "comment", &[("metrics/a.rs", "// as POSTFIX does it")]),
        example("words", "in a letter", &[("notify/a.rs", "/* Exim */")]),
    ]);
    for room in ["engine", "web", "host", "store", "lib", "mta"] {
        out.extend(disguises("household", room, "crate::config"));
        out.extend(disguises("household", room, "crate::app::pump"));
    }
    out.extend(disguises("household", "config", "crate::app"));
    out.extend(disguises("sql", "web", "rusqlite"));
    out.extend(disguises("sql", "app", "rusqlite::Connection"));
    out.extend([
        example("sql", "literal", &[("web/a.rs", "const Q: &str = \"SELECT 1\";")]),
        example("sql", "raw, small letters", &[("app/a.rs", "fn f() { q(r#\"  select a\n from b\"#); }")]),
        example("sql", "in a macro", &[("host/a.rs", "fn f() { format!(\"DELETE FROM {t}\"); }")]),
        example("sql", "concatenated", &[("host/a.rs", "const A: &str = concat!(\"INSERT \", \"INTO t\");")]),
        example("sql", "bytes", &[("host/a.rs", "const A: &[u8] = b\"pragma journal_mode\";")]),
    ]);
    out.extend(disguises("processes", "host", "std::process::Command"));
    out.push(far_end("processes", "std::process::Command", "host/exec.rs", "app/a.rs"));
    out.push(example(
        "processes",
        "parent kept",
        &[("app/a.rs", "use std::process; fn f() { process::Command::new(\"a\"); }")],
    ));
    for path in ["std::time::SystemTime::now", "jiff::Timestamp::now"] {
        out.extend(disguises("clock", "host", path));
        out.push(far_end("clock", path, "host/clock.rs", "app/a.rs"));
    }
    out.push(example("clock", "as a function", &[("web/a.rs", "use std::time::*; fn f() { g(Instant::now); }")]));
    out.extend(disguises("letters", "notify", "lettre"));
    out.push(far_end("letters", "lettre::Message", "notify/send.rs", "notify/report.rs"));
    out.extend([
        example("metric names", "literal", &[("app/a.rs", "const A: &str = \"sendwarden_messages_total\";")]),
        example("metric names", "in a macro", &[("web/a.rs", "fn f() { format!(\"sendwarden_{n}\"); }")]),
        example("metric names", "bytes", &[("host/a.rs", "fn f() { g(b\"sendwarden_up\"); }")]),
        example("metric names", "concatenated", &[("host/a.rs", "fn f() { g(concat!(\"sendwarden_\", \"up\")); }")]),
    ]);
    out.extend(disguises("yaml", "app", "serde_yaml"));
    out.push(far_end("yaml", "serde_yaml::Value", "config/mod.rs", "app/a.rs"));
    out.extend(disguises("window", "web", "crate::store"));
    out.extend(disguises("window", "web/page", "super::super::super::store::views"));
    out.push(example("length", "601 lines", &[("web/a.rs", &"//! m\n".repeat(601))]));
    out.push(example("first line", "no doc", &[("web/a.rs", "use a::b;\n//")]));
    out
}

pub fn kept() -> Vec<Example> {
    vec![
        example(
            "pure",
            "tests may read files, words that look alike may stand",
            &[(
                "engine/a.rs",
                "use std::collections::BTreeMap; use crate::mail::Time;
                fn f(fs: u8) -> u8 { fs } // std::fs in a comment
                const S: &str = \"std::fs::read\";
                #[cfg(test)] mod tests { use std::fs; #[test] fn t() { println!(\"x\"); fs::read(\"a\"); } }",
            )],
        ),
        example(
            "pure",
            "tests in a file of their own",
            &[("engine/a.rs", "#[cfg(test)] mod tests;"), ("engine/a/tests.rs", "use std::fs;")],
        ),
        example(
            "pure",
            "rooms that touch the machine",
            &[("host/a.rs", "use std::fs; async fn f() { fs::read(\"a\"); }")],
        ),
        example(
            "apart",
            "both read the words",
            &[
                ("engine/a.rs", "use crate::mail::Event; mod mta_like {}"),
                ("mta/a.rs", "use crate::mail::Event; fn f(engine: u8) -> u8 { engine }"),
            ],
        ),
        example(
            "words",
            "in the dialects",
            &[("mta/postfix/a.rs", "struct Postfix;"), ("engine/a.rs", "// maximum proximity")],
        ),
        example(
            "household",
            "main, app and config itself",
            &[
                ("main.rs", "use sendwarden::config; use sendwarden::app;"),
                ("app/a.rs", "use crate::config::Config;"),
                ("config/a.rs", "use crate::config::rooms; use super::Config; use crate::host::Settings;"),
                ("lib.rs", "pub mod app; pub mod config;"),
            ],
        ),
        example(
            "sql",
            "prose and the store",
            &[
                ("store/a.rs", "use rusqlite::Connection; const Q: &str = \"SELECT 1\";"),
                (
                    "app/a.rs",
                    "const A: &str = \"select the account\"; const B: &str = \"Create a file\"; const C: &str = \"update x\";",
                ),
            ],
        ),
        example(
            "processes",
            "exec, and ids",
            &[
                ("host/exec.rs", "use std::process::Command;"),
                ("app/a.rs", "fn f() { std::process::id(); std::process::ExitCode::SUCCESS; }"),
            ],
        ),
        example(
            "clock",
            "the clock, and the types of time",
            &[
                ("host/clock.rs", "use std::time::SystemTime; fn now() { SystemTime::now(); }"),
                (
                    "app/a.rs",
                    "use std::time::{Duration, SystemTime}; fn f(t: SystemTime, now: u8) {} fn g() { crate::host::clock::now(); }",
                ),
            ],
        ),
        example("letters", "send", &[("notify/send.rs", "use lettre::Message;")]),
        example(
            "metric names",
            "metrics",
            &[("metrics/a.rs", "const A: &str = \"sendwarden_up\";"), ("app/a.rs", "const A: &str = \"sendwarden\";")],
        ),
        example("yaml", "config", &[("config/a.rs", "use serde_yaml as y; fn f() { y::from_str(\"\"); }")]),
        example(
            "window",
            "views of others",
            &[
                ("web/a.rs", "fn f(store: u8) -> u8 { store } use crate::mail::Counts;"),
                ("app/a.rs", "use crate::store;"),
            ],
        ),
        example("length", "600 lines", &[("web/a.rs", &"//! m\n".repeat(600))]),
        example("first line", "doc", &[("web/a.rs", "//! What it is for.")]),
    ]
}

//! Every package we build on has a licence that `deny.toml` allows, and none is banned there.
//!
//! The same lists serve cargo-deny; this test needs no network and no further tool.
#![allow(clippy::disallowed_methods, reason = "a test starts cargo itself")]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::string_slice, reason = "a failing test")]
use std::process::Command;

/// Whether an SPDX expression can be met with allowed licences. `/` is the old way to write OR.
fn permitted(expression: &str, allow: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let verdict = either(&words, &mut at, allow);
    verdict && at == words.len()
}

fn either(words: &[&str], at: &mut usize, allow: &[String]) -> bool {
    let mut verdict = both(words, at, allow);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        // Not short-circuited: the words of the right side must be consumed.
        verdict |= both(words, at, allow);
    }
    verdict
}

fn both(words: &[&str], at: &mut usize, allow: &[String]) -> bool {
    let mut verdict = single(words, at, allow);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        verdict &= single(words, at, allow);
    }
    verdict
}

fn single(words: &[&str], at: &mut usize, allow: &[String]) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let verdict = either(words, at, allow);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return verdict && closed;
    }
    let mut name = (*word).to_owned();
    if words.get(*at) == Some(&"WITH") {
        name = format!("{name} WITH {}", words.get(*at + 1).copied().unwrap_or_default());
        *at += 2;
    }
    allow.contains(&name)
}

/// The strings between quotes in `text`, from `start` to `end`.
fn quoted(text: &str, start: &str, end: &str) -> Vec<String> {
    let from = text.find(start).unwrap_or_else(|| panic!("deny.toml has no {start:?}")) + start.len();
    let list = &text[from..];
    let list = &list[..list.find(end).unwrap_or(list.len())];
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn rules() -> (Vec<String>, Vec<String>) {
    let text = std::fs::read_to_string("deny.toml").expect("deny.toml is beside Cargo.toml");
    let bans: Vec<String> =
        text.split("crate = \"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect();
    (quoted(&text, "\nallow = [", "]"), bans)
}

fn findings(packages: &[(String, Option<String>)], allow: &[String], bans: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, licence) in packages {
        if bans.contains(name) {
            found.push(format!("{name} is banned by deny.toml"));
        }
        match licence {
            Some(expression) if permitted(expression, allow) => {}
            Some(expression) => found.push(format!("{name}: licence {expression:?} is not allowed by deny.toml")),
            None => found.push(format!("{name}: has no SPDX licence")),
        }
    }
    found
}

#[test]
fn every_dependency_is_permitted() {
    let host = Command::new(env!("CARGO")).args(["-vV"]).output().expect("cargo runs");
    let host = String::from_utf8(host.stdout).unwrap();
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo -vV names the host").to_owned();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--locked", "--format-version", "1", "--filter-platform", &host])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages: Vec<(String, Option<String>)> = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|package| {
            (package["name"].as_str().expect("name").to_owned(), package["license"].as_str().map(str::to_owned))
        })
        .collect();
    assert!(packages.len() > 50, "only {} packages: the list is not complete", packages.len());
    let (allow, bans) = rules();
    let found = findings(&packages, &allow, &bans);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn expressions_are_understood() {
    let allow = ["MIT".to_owned(), "Apache-2.0".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()];
    for good in [
        "MIT",
        "MIT/Apache-2.0",
        "GPL-3.0 OR MIT",
        "(MIT OR GPL-3.0) AND Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "MIT OR GPL-3.0 AND LGPL-2.1",
    ] {
        assert!(permitted(good, &allow), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR GPL-3.0) AND ISC", "MIT WITH X", "", "(MIT", "MIT MIT"] {
        assert!(!permitted(bad, &allow), "{bad}");
    }
}

#[test]
fn a_banned_or_unlicensed_package_is_found() {
    let (allow, bans) = rules();
    assert_eq!(bans.len(), 5);
    let packages = [
        ("openssl".to_owned(), Some("MIT".to_owned())),
        ("fine".to_owned(), Some("MIT".to_owned())),
        ("copyleft".to_owned(), Some("GPL-3.0-or-later".to_owned())),
        ("bare".to_owned(), None),
    ];
    assert_eq!(findings(&packages, &allow, &bans).len(), 3);
}

//! The situations: small logs of one case each, and the figures a person worked out for them.

#![allow(dead_code, reason = "each test uses its own part")]

use std::path::{Path, PathBuf};

use crate::corpus::Books;

pub struct Situation {
    /// The case, from the name of the file.
    pub name: String,
    pub path: PathBuf,
    pub log: String,
    pub expected: Books,
}

/// Every situation of Postfix.
pub fn all() -> Vec<Situation> {
    of("situations")
}

/// Every situation of Exim.
pub fn exim() -> Vec<Situation> {
    of("exim")
}

/// By name. Accounts that an expectation does not list are bound by the totals only.
fn of(folder: &str) -> Vec<Situation> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(folder);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("reading {}: {error}", folder.display()))
        .map(|entry| entry.expect("a folder entry").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "log"))
        .collect();
    paths.sort();
    let read = |path: &Path| {
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("reading {}: {error}", path.display()))
    };
    let situation = |path: PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let json = read(&path.with_extension("expected.json"));
        let json = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{name}.expected.json: {error}"));
        Situation { log: read(&path), expected: Books::from_json(&json), name, path }
    };
    paths.into_iter().map(situation).collect()
}

/// The users of the hosts that the Exim situations are about: Exim logs names, Postfix numbers.
pub const PASSWD: &str = "root:x:0:0::/root:/bin/sh\n";

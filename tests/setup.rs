//! What `setup` shows for configurations as they are met, word for word; that it changes nothing unless it is told to,
//! and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of the command starts it")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn setup(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sendwarden")).arg("setup").args(arguments).output().unwrap()
}

fn told(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

#[test]
fn shows_what_it_would_change_and_changes_nothing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/setup");
    let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter_map(|name| Some(name.strip_suffix(".main.cf")?.to_owned())).collect();
    names.sort();
    assert!(names.len() >= 6, "{names:?}");
    let mut wrong = Vec::new();
    for name in names {
        let dir = tempfile::tempdir().unwrap();
        for file in ["main.cf", "master.cf"] {
            fs::copy(folder.join(format!("{name}.{file}")), dir.path().join(file)).unwrap();
        }
        let here = dir.path().to_str().unwrap();
        let output = setup(&["postfix", "--config-directory", here]);
        let text = format!("{}exit {}\n", told(&output).replace(here, "DIR"), output.status.code().unwrap());
        let expected = fs::read_to_string(folder.join(format!("{name}.expected"))).unwrap_or_default();
        if text != expected {
            wrong.push(format!("{name}.expected is not\n{text}"));
        }
        let mut left: Vec<String> =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["main.cf", "master.cf"]);
        for file in left {
            let same =
                fs::read(dir.path().join(&file)).unwrap() == fs::read(folder.join(format!("{name}.{file}"))).unwrap();
            assert!(same, "{name}: {file} was changed");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn two_wishes_at_once_and_directories_without_a_server_are_refused() {
    let output = setup(&["postfix", "--apply", "--undo"]);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    let output = setup(&["postfix", "--print", "--config-directory", "/nonexistent/postfix"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(told(&output).contains("/nonexistent/postfix"), "{}", told(&output));
}

//! Whatever stands in a file: an answer, never a panic; and every complaint names a line that exists.

use proptest::prelude::*;
use sendwarden::config::{self, Problem, explain};

/// Pieces a real file is made of, in any order and indentation: far deeper into the code than random bytes get.
fn yaml_like() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "accounts:",
        "logs:",
        "- ",
        "-",
        "path: /a",
        "id: one",
        "id: two",
        "logins: [a@b, C@B]",
        "uids: [1, x]",
        "zone: UTC",
        "metrics:",
        "queue:",
        "interval: 5s",
        "interval: 99999999999999999999d",
        "max_accounts: 99999999999999999999999",
        "listen: ",
        "state_dir:",
        "<<: *a",
        "&a ",
        "*a",
        "? ",
        "|",
        ">-",
        "\"",
        "'",
        "{",
        "}",
        "[",
        "]",
        ",",
        ": ",
        "#",
        "---",
        "...",
        "!t ",
        "%YAML 1.1",
        "é",
        "\u{feff}",
        "\t",
        "\0",
        "networks: [::ffff:1.2.3.4/8]",
        "other",
        "~",
        ".inf",
    ]);
    let line = (0usize..6, prop::collection::vec(word, 0..4), any::<bool>());
    prop::collection::vec(line, 0..12).prop_map(|lines| {
        let mut text = String::new();
        for (indent, words, end) in lines {
            text += &" ".repeat(indent);
            text += &words.concat();
            text += if end { "\n" } else { "\r\n" };
        }
        text
    })
}

fn csv_like() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "id", "uids", "logins", "networks", "zone", ",", ",", "\n", "\r\n", "\"", ";", " ", "one", "1", "a@b", "::/0",
        "é", "\0",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|p| format!("id,uids,logins\n{}", p.concat()))
}

fn check(text: &[u8]) {
    // A lone `\r` and Unicode line ends are line breaks to YAML too.
    let breaks = text.iter().filter(|b| matches!(b, b'\n' | b'\r' | 0x85 | 0xa8 | 0xa9)).count();
    let sound = |problems: Vec<Problem>| {
        assert!(!problems.is_empty() && !explain(&problems).is_empty());
        for p in problems {
            assert!(p.line <= breaks + 1, "line {} of {breaks}: {}", p.line, p.message);
        }
    };
    config::parse("f", text).map_or_else(&sound, drop);
    config::parse_accounts_yaml("f", text).map_or_else(&sound, drop);
    config::parse_accounts_csv("f", text).map_or_else(&sound, drop);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check(&bytes);
    }

    #[test]
    fn any_file_of_known_pieces_gets_an_answer(text in yaml_like()) {
        check(text.as_bytes());
    }

    #[test]
    fn any_table_gets_an_answer(text in csv_like()) {
        check(text.as_bytes());
    }
}

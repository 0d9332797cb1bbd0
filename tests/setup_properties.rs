//! The gate in Postfix's configuration files: random main.cf and master.cf, random edits between set-up and undo.
//! What a list comes to is worked out by an evaluator of the test's own, written from postconf(5); which services are to
//! be asked is known to the one who made them. How often each situation occurred is printed; one that never does fails.

#![allow(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use sendwarden::mta::postfix::setup::{Away, File, plan, undo};
use std::collections::{BTreeMap, HashMap};

const CASES: u64 = 12_000;
const OURS: &str = "sendwarden/gate.sock";

/// Enough chance for a test, and the same for the same case.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % n
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }
}

const MILTERS: [&str; 5] = [
    "inet:localhost:8891",
    "unix:opendkim/opendkim.sock",
    "inet:127.0.0.1:11332",
    "{ inet:localhost:8893, default_action=accept }",
    "local:/run/x.sock",
];

/// A list as an administrator writes it, over one line or several.
fn list(dice: &mut Dice) -> String {
    let mut text = String::new();
    for number in 0..dice.below(4) {
        text.push_str(if number == 0 { "" } else { dice.of(&[", ", " ", ",\n    ", "\n\t", "\n# between\n  "]) });
        text.push_str(dice.of(&MILTERS));
    }
    text.push_str(dice.of(&["", "", "", ",", "  ", "\r"]));
    text
}

fn noise(dice: &mut Dice) -> &'static str {
    dice.of(&[
        "# smtpd_milters = inet:not:1\n",
        "\n",
        "  # an indented comment, \u{fc}mlaut\n",
        "myhostname = mx.hosting.test\n",
        "mynetworks = 127.0.0.0/8\n    10.0.0.0/8\n",
        "relayhost =\n",
        "smtpd_recipient_restrictions = permit_mynetworks,\n# why\n\n  reject_unauth_destination\n",
        "milter_default_action = accept\n",
    ])
}

fn main_cf(dice: &mut Dice, seen: &mut Seen) -> String {
    let mut parts: Vec<String> = (0..dice.below(8)).map(|_| noise(dice).to_owned()).collect();
    let mut put = |at: usize, text: String| parts.insert(at % (parts.len() + 1), text);
    let smtpd = dice.below(6);
    let takes = smtpd == 5;
    match smtpd {
        0 => seen.note("no list for SMTP"),
        1..=3 => {
            let text = list(dice);
            put(dice.below(999), format!("smtpd_milters{}={}{text}\n", dice.of(&["", " "]), dice.of(&["", " "])));
        }
        4 => {
            seen.note("two lists of one name");
            put(dice.below(999), "smtpd_milters = inet:first:1\n".to_owned());
            let text = list(dice);
            put(dice.below(999), format!("smtpd_milters = {text}\n"));
        }
        _ => put(
            dice.below(999),
            format!("smtpd_milters = inet:x:1 {}\n", dice.of(&["$non_smtpd_milters", "${non_smtpd_milters}"])),
        ),
    }
    match dice.below(5) {
        0 => seen.note("no list for scripts"),
        1 | 2 if !takes => {
            seen.note("one list takes the other over");
            if dice.one_in(2) {
                put(dice.below(999), "both = $(smtpd_milters)\n".to_owned());
                put(dice.below(999), "non_smtpd_milters = inet:y:1, $both\n".to_owned());
            } else {
                put(
                    dice.below(999),
                    format!("non_smtpd_milters = {}\n", dice.of(&["$smtpd_milters", "${smtpd_milters},"])),
                );
            }
        }
        _ => {
            let text = list(dice);
            put(dice.below(999), format!("non_smtpd_milters = {text}\n"));
        }
    }
    let mut text = parts.concat();
    if dice.one_in(4) && text.ends_with('\n') {
        seen.note("no end of the last line");
        text.pop();
    }
    text
}

/// What a service is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    In,
    Submission,
    Back,
    /// Takes mail back and says no_milters.
    Deaf,
    Cleanup,
    Other,
}

fn own_list(dice: &mut Dice) -> String {
    match dice.below(4) {
        0 => " -o smtpd_milters=".to_owned(),
        1 => "\n  -o smtpd_milters=inet:own:1,inet:own:2".to_owned(),
        2 => format!("\n  -o {{ smtpd_milters = inet:own:1{} inet:own:2 }}", dice.of(&["", ",", "\n   # hm\n   "])),
        _ => "\n  -o\n    smtpd_milters=$mine -o syslog_name=mine".to_owned(),
    }
}

fn master_cf(dice: &mut Dice, seen: &mut Seen) -> (String, Vec<(String, Kind)>) {
    let mut services = vec![
        ("pickup unix n - y 60 1 pickup".to_owned(), "pickup", Kind::Other),
        ("qmgr unix n - n 300 1 qmgr".to_owned(), "qmgr", Kind::Other),
        ("relay unix - - y - - smtp\n        -o syslog_name=postfix/$service_name".to_owned(), "relay", Kind::Other),
    ];
    let mut cleanup = "cleanup unix n - y - 0 cleanup".to_owned();
    if dice.one_in(3) {
        seen.note("cleanup has a list");
        cleanup.push_str(dice.of(&["\n  -o non_smtpd_milters=inet:own:3", "\n  -o { non_smtpd_milters = }"]));
    }
    services.push((cleanup, "cleanup", Kind::Cleanup));
    let mut smtp = "smtp inet n - y - - smtpd".to_owned();
    if dice.one_in(4) {
        smtp.push_str(&own_list(dice));
    }
    services.push((smtp, "smtp", Kind::In));
    for name in ["submission", "127.0.0.1:1587", "smtps"] {
        if dice.one_in(2) {
            let mut text = format!(
                "{name} inet n - y - - /usr/lib/postfix/sbin/smtpd -v\n# people\n  -o smtpd_sasl_auth_enable=yes"
            );
            if dice.one_in(2) {
                seen.note("submission has a list");
                text.push_str(&own_list(dice));
            }
            services.push((text, name, Kind::Submission));
        }
    }
    if dice.one_in(2) {
        let (text, kind) = match dice.below(4) {
            0 => ("-o content_filter=", Kind::Back),
            1 => ("-o content_filter= -o smtpd_milters=", Kind::Back),
            2 => ("-o receive_override_options=no_header_body_checks,no_unknown_recipient_checks", Kind::Back),
            _ => ("-o content_filter=\n   -o receive_override_options=no_milters,no_address_mappings", Kind::Deaf),
        };
        seen.note("takes mail back");
        services.push((format!("127.0.0.1:10025 inet n - n - - smtpd\n  {text}"), "127.0.0.1:10025", kind));
    }
    let mut text = String::new();
    let mut kinds = Vec::new();
    while !services.is_empty() {
        let (service, name, kind) = services.remove(dice.below(services.len()));
        if dice.one_in(3) {
            text.push_str("# -o smtpd_milters=no\n");
        }
        text.push_str(&service);
        text.push_str(dice.of(&["\n", "\n", "\n\n", "\n  # -o smtpd_milters=\n", " \n"]));
        kinds.push((name.to_owned(), kind));
    }
    if dice.one_in(4) {
        text.pop();
    }
    (text, kinds)
}

#[derive(Default)]
struct Seen(BTreeMap<&'static str, u32>);

impl Seen {
    fn note(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }
}

// The evaluator.

fn joined(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.split('\n') {
        let bare = line.trim();
        if bare.is_empty() || bare.starts_with('#') {
            continue;
        }
        match line.starts_with([' ', '\t']) {
            true => lines.last_mut().unwrap().push_str(line),
            false => lines.push(line.to_owned()),
        }
    }
    lines
}

fn settings(main: &str) -> HashMap<String, String> {
    let pair = |line: String| line.split_once('=').map(|(a, b)| (a.trim().to_owned(), b.trim().to_owned())).unwrap();
    joined(main).into_iter().map(pair).collect()
}

/// The text of a brace group that begins here, and what follows it.
fn group(text: &str) -> (&str, &str) {
    let mut depth = 0;
    for (at, one) in text.char_indices() {
        depth += match one {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if depth == 0 {
            return (&text[1..at], &text[at + 1..]);
        }
    }
    panic!("braces of {text}")
}

fn expand(text: &str, of: &HashMap<String, String>) -> String {
    let Some(at) = text.find('$') else { return text.to_owned() };
    let (before, rest) = (&text[..at], &text[at + 1..]);
    let value = |name: &str| expand(of.get(name).map_or("", String::as_str), of);
    let (is, rest) = if rest.starts_with('{') {
        let (within, rest) = group(rest);
        (inside(within.trim(), of), rest)
    } else if let Some(named) = rest.strip_prefix('(') {
        let (name, rest) = named.split_once(')').unwrap();
        (value(name), rest)
    } else {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        (value(&rest[..end]), &rest[end..])
    };
    format!("{before}{is}{}", expand(rest, of))
}

/// `name`, `name?{a}:{b}` and `{a} == {b} ? {c} : {d}`.
fn inside(text: &str, of: &HashMap<String, String>) -> String {
    let choose = |yes: bool, rest: &str| {
        let (a, rest) = group(rest.trim_start_matches([' ', '?']));
        let (b, _) = group(rest.trim_start_matches([' ', ':']));
        expand(if yes { a } else { b }.trim(), of)
    };
    if text.starts_with('{') {
        let (left, rest) = group(text);
        let (right, rest) = group(rest.trim_start().strip_prefix("==").unwrap().trim_start());
        return choose(expand(left, of) == expand(right, of), rest);
    }
    match text.split_once('?') {
        Some((name, rest)) => choose(of.get(name).is_some_and(|value| !value.is_empty()), rest),
        None => expand(of.get(text).map_or("", String::as_str), of),
    }
}

fn items(list: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = list.trim_start_matches([' ', ',', '\t', '\r']);
    while !rest.is_empty() {
        let (item, after) = if rest.starts_with('{') {
            let (item, after) = group(rest);
            (format!("{{{item}}}"), after)
        } else {
            let end = rest.find([' ', ',', '\t', '\r']).unwrap_or(rest.len());
            (rest[..end].to_owned(), &rest[end..])
        };
        found.push(item);
        rest = after.trim_start_matches([' ', ',', '\t', '\r']);
    }
    found
}

/// The words of a service's line; braces keep a word together and are taken off.
fn words(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, after) = if rest.starts_with('{') {
            let (word, after) = group(rest);
            (word.to_owned(), after)
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            (rest[..end].to_owned(), &rest[end..])
        };
        found.push(word);
        rest = after.trim_start();
    }
    found
}

/// The list that a service of this name goes by.
fn effective(main: &str, master: &str, service: &str, process: &str, list: &str) -> Vec<String> {
    let mut of = settings(main);
    of.insert("process_name".into(), process.into());
    let line = joined(master).into_iter().find(|line| line.split_whitespace().next() == Some(service)).unwrap();
    let words = words(&line);
    for pair in words.windows(2).filter(|pair| pair[0] == "-o") {
        let (name, value) = pair[1].split_once('=').unwrap();
        of.insert(name.trim().to_owned(), value.trim().to_owned());
    }
    items(&expand(of.get(list).map_or("", String::as_str), &of))
}

/// Everything others have in a list, and our entries.
fn parted(list: Vec<String>) -> (Vec<String>, Vec<String>) {
    list.into_iter().partition(|item| !item.contains(OURS))
}

#[test]
fn set_up_asks_once_everywhere_and_undo_leaves_what_was_there() {
    let mut seen = Seen::default();
    for case in 1..=CASES {
        let mut dice = Dice(case.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let main = main_cf(&mut dice, &mut seen);
        let (master, kinds) = master_cf(&mut dice, &mut seen);
        let away = if dice.one_in(3) { Away::Tempfail } else { Away::Accept };
        let shown = || format!("case {case}\n--- main.cf\n{main}\n--- master.cf\n{master}");
        let set = plan(&main, &master, away).unwrap_or_else(|why| panic!("{}\n{why:?}", shown()));
        let shown = || format!("{}\n=== main.cf\n{}\n=== master.cf\n{}", shown(), set.main, set.master);

        // Nothing but lines and entries of ours are new.
        assert_eq!(undo(File::Main, &set.main).text, main, "{}", shown());
        assert_eq!(undo(File::Master, &set.master).text, master, "{}", shown());
        let again = plan(&set.main, &set.master, away).unwrap();
        assert_eq!((&again.main, &again.master), (&set.main, &set.master), "{}", shown());
        let other = plan(&set.main, &set.master, Away::Accept).unwrap();
        assert_eq!(other, plan(&main, &master, Away::Accept).unwrap(), "{}", shown());

        for (service, kind) in &kinds {
            let (process, list) = match kind {
                Kind::Other => continue,
                Kind::Cleanup => ("cleanup", "non_smtpd_milters"),
                _ => ("smtpd", "smtpd_milters"),
            };
            let before = effective(&main, &master, service, process, list);
            let after = effective(&set.main, &set.master, service, process, list);
            let (others, ours) = parted(after.clone());
            assert_eq!(others, before, "{service}: {}", shown());
            let expected = match kind {
                Kind::Deaf => continue,
                Kind::Back => None,
                Kind::In => Some("accept"),
                Kind::Cleanup => Some("tempfail"),
                Kind::Submission if away == Away::Tempfail => Some("tempfail"),
                _ => Some("accept"),
            };
            let told = format!("{service} {kind:?} {after:?}: {}", shown());
            let Some(action) = expected else {
                assert!(ours.is_empty(), "{told}");
                seen.note("not asked again");
                continue;
            };
            assert_eq!(ours.len(), 1, "{told}");
            assert_eq!(after.last(), ours.last(), "{told}");
            assert!(ours[0].contains(&format!("default_action={action},")), "{told}");
            seen.note(if before.is_empty() { "asked, alone" } else { "asked, behind others" });
        }

        let edited = [
            (File::Main, edit(&main, &set.main, &mut dice, &mut seen)),
            (File::Master, edit(&master, &set.master, &mut dice, &mut seen)),
        ];
        for (file, (plain, with_us)) in edited {
            let undone = undo(file, &with_us);
            assert_eq!(undone.text, plain, "edited {}\n{with_us}\n{}", file.name(), shown());
            assert!(undone.left.is_empty());
        }
    }
    println!("{:?}", seen.0);
    for what in ["inserted a line", "deleted a line", "went on with the list", "went on behind the gate"] {
        assert!(seen.0.contains_key(what), "{what} never happened");
    }
    assert!(seen.0.len() >= 14 && seen.0.values().all(|times| *times > 100), "{:?}", seen.0);
}

/// The same edit of a file without us and of the one with us.
fn edit(plain: &str, with_us: &str, dice: &mut Dice, seen: &mut Seen) -> (String, String) {
    let mut plain: Vec<String> = plain.split('\n').map(str::to_owned).collect();
    let mut ours: Vec<String> = with_us.split('\n').map(str::to_owned).collect();
    // Which line of the plain file each one is; none: it is ours.
    let whose = |lines: &[String]| {
        let mut number = 0;
        let mut all_ours = false;
        let mut whose = Vec::new();
        for line in lines {
            let is_ours = line.starts_with("# sendwarden: ") || all_ours;
            all_ours = line.starts_with("# sendwarden: the next line");
            whose.push((!is_ours).then_some(number));
            number += usize::from(!is_ours);
        }
        whose
    };
    for _ in 0..=dice.below(4) {
        let of = whose(&ours);
        let at = dice.below(ours.len());
        let Some(in_plain) = of[at] else { continue };
        let after_mark = at > 0 && ours[at - 1].starts_with("# sendwarden: ");
        let carries = ours[at].contains(OURS);
        match dice.below(4) {
            0 if !after_mark => {
                seen.note("inserted a line");
                let line = dice.of(&["# a word of mine", "", "always_bcc = x@y.test", "    # indented"]);
                plain.insert(in_plain, line.to_owned());
                ours.insert(at, line.to_owned());
            }
            1 if !carries && plain.len() > 1 => {
                seen.note("deleted a line");
                plain.remove(in_plain);
                ours.remove(at);
            }
            2 if carries => {
                let entry =
                    ours[at].find(" ${pass_sendwarden").or_else(|| ours[at].find(" { unix:sendwarden")).unwrap();
                let (before, after) = ours[at].split_at(entry);
                let bare = before.replace("{ smtpd_milters=", "smtpd_milters=").replace("{ non_smtpd", "non_smtpd");
                let bare = if plain[in_plain].starts_with(before) { before.to_owned() } else { bare };
                assert!(plain[in_plain].starts_with(&bare), "{bare:?} {:?}", plain[in_plain]);
                seen.note("went on with the list");
                plain[in_plain].insert_str(bare.len(), ",inet:new:1");
                ours[at] = format!("{before},inet:new:1{after}");
            }
            3 if carries && plain[in_plain].trim_end().ends_with(|c: char| c.is_ascii_digit()) && after_mark => {
                // Only where the list is not in braces of ours: these would be needed from now on.
                if ours[at - 1].contains("braces") || ours[at].trim_end().ends_with("} }") {
                    continue;
                }
                seen.note("went on behind the gate");
                let end = plain[in_plain].trim_end().len();
                plain[in_plain].insert_str(end, " inet:new:2");
                let end = ours[at].trim_end().len();
                ours[at].insert_str(end, " inet:new:2");
            }
            _ => {}
        }
    }
    (plain.join("\n"), ours.join("\n"))
}

#[test]
fn what_is_not_understood_is_refused_with_its_line() {
    let master = "pickup unix n - y 60 1 pickup\ncleanup unix n - y - 0 cleanup\nsmtp inet n - y - - smtpd\n";
    let refused = |main: &str, master: &str| {
        let all = plan(main, master, Away::Accept).expect_err(&format!("{main}{master}"));
        let told: Vec<String> =
            all.iter().map(|one| format!("{}:{} {}", one.file.name(), one.line, one.what)).collect();
        assert!(all.iter().all(|one| !one.by_hand.is_empty()));
        told.join("; ")
    };
    for (main, told) in [
        (" x = y\n", "main.cf:1 the first line begins with white space"),
        ("x = y\nsmtpd_milters inet:x\n", "main.cf:2 this is no `name = value`"),
        ("\nsmtpd_milters = { inet:x\n", "main.cf:2 its braces do not match"),
        (
            "x = y\nnon_smtpd_milters = ${x?$smtpd_milters}\n",
            "main.cf:2 non_smtpd_milters takes smtpd_milters over only",
        ),
        ("smtpd_milters = $non_smtpd_milters\nnon_smtpd_milters = $smtpd_milters\n", "takes"),
        ("receive_override_options = no_milters\n", "main.cf:1 receive_override_options says no_milters"),
    ] {
        let said = refused(main, master);
        assert!(said.contains(told), "{main}: {said}");
    }
    for (line, told) in [
        ("smtp inet n - y - smtpd\n", "master.cf:4 this is no service of eight fields"),
        ("2525 inet n - y - - smtpd -o { smtpd_milters = x\n", "master.cf:4 its braces do not match"),
        ("2525 inet n - y - - smtpd\n  -osmtpd_milters=inet:x\n", "master.cf:5 service 2525 writes -osmtpd_milters"),
        (
            "pickup fifo n - n 60 1 pickup\n  -o receive_override_options=no_milters\n",
            "master.cf:5 pickup says no_milters",
        ),
    ] {
        let said = refused("x = y\n", &format!("{master}{line}"));
        assert!(said.contains(told), "{line}: {said}");
    }
}

#[test]
fn an_entry_that_was_written_by_hand_is_ours_too() {
    let main = "smtpd_milters = inet:a:1, { unix:sendwarden/gate.sock, default_action=accept }, inet:b:1\n\
                non_smtpd_milters = unix:sendwarden/gate.sock\n";
    let undone = undo(File::Main, main);
    assert_eq!(undone.text, "smtpd_milters = inet:a:1, inet:b:1\nnon_smtpd_milters =\n");
    let master = "smtp inet n - y - - smtpd\npickup unix n - y 60 1 pickup\n";
    let set = plan(main, master, Away::Accept).unwrap();
    let list = effective(&set.main, &set.master, "smtp", "smtpd", "smtpd_milters");
    assert_eq!(list.len(), 3, "{list:?}");
    assert_eq!(list[..2], ["inet:a:1", "inet:b:1"]);
    // In two lines, as nobody but a person would write it: said, not guessed.
    let undone = undo(File::Main, "smtpd_milters = { unix:\n  sendwarden/gate.sock, default_action=accept }\n");
    assert_eq!(undone.left, [2], "{undone:?}");
}

//! Each file in `tests/config/` holds the mistake of its name; the `.err` beside it is what a person reads about it.
//! `SENDWARDEN_BLESS=1 cargo test --test config_files` writes the `.err` files anew: read the difference before keeping it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sendwarden::config::{self, Config, Problem, explain};
use sendwarden::engine::directory::{AccountSpec, Directory, Policy};
use sendwarden::engine::replies::Pattern;
use sendwarden::engine::rules::{Classes, Enforcement, Lane, Rule, Target, built_in};
use sendwarden::host::journal;
use sendwarden::host::socket::Address;
use sendwarden::mail::{Cause, Measure, ReplyClass, Signal};
use sendwarden::notify::Event;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn problems(name: &str, text: &[u8]) -> Vec<Problem> {
    let file = format!("{name}.yaml");
    if name.starts_with("accounts_") {
        config::parse_accounts_yaml(&file, text).expect_err(name)
    } else {
        config::parse(&file, text).expect_err(name)
    }
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let mut seen = 0;
    for entry in std::fs::read_dir(root().join("tests/config")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        let text = explain(&problems(name, &std::fs::read(&path).unwrap()));
        let expected = path.with_extension("err");
        if std::env::var_os("SENDWARDEN_BLESS").is_some() {
            std::fs::write(&expected, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(&expected).unwrap_or_default(), "{name}");
        seen += 1;
    }
    assert!(seen > 30, "only {seen} files of mistakes found");
}

#[test]
fn five_mistakes_are_five_problems() {
    let text = std::fs::read(root().join("tests/config/five_mistakes.yaml")).unwrap();
    let found = config::parse("f", &text).unwrap_err();
    let places: Vec<(&str, usize)> = found.iter().map(|p| (p.path.as_str(), p.line)).collect();
    let expected =
        [("listn", 1), ("logs[0].path", 3), ("metrics.max_accounts", 5), ("metrics.public", 6), ("queue.interval", 9)];
    assert_eq!(places, expected);
}

fn example() -> String {
    std::fs::read_to_string(root().join("config.example.yaml")).unwrap()
}

/// The example with its `#key:` lines in force; the default `logs: auto` gives way to the list shown below it.
fn uncommented() -> String {
    let shown = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') || rest.starts_with("  ") => rest.to_owned(),
        _ => line.to_owned(),
    };
    example().lines().filter(|l| *l != "logs: auto").map(|l| shown(l) + "\n").collect()
}

#[test]
fn the_example_is_the_default() {
    assert_eq!(config::load(&root().join("config.example.yaml")).unwrap(), Config::default());
    assert_eq!(config::parse("empty", b"").unwrap(), Config::default());
    assert_eq!(config::parse("empty", b"# nothing\nmetrics:\n").unwrap(), Config::default());
}

#[test]
fn the_example_shows_every_key_and_no_other() {
    let tree: serde_yaml::Value = serde_yaml::from_str(&uncommented()).unwrap();
    let mut shown = BTreeSet::new();
    for (key, value) in tree.as_mapping().unwrap() {
        let key = key.as_str().unwrap();
        shown.insert(key.to_owned());
        let entries = value.as_sequence().into_iter().flatten().filter_map(|e| e.as_mapping()).map(|m| ("[]", m));
        for (infix, inner) in value.as_mapping().map(|m| ("", m)).into_iter().chain(entries) {
            shown.extend(inner.keys().map(|k| format!("{key}{infix}.{}", k.as_str().unwrap())));
        }
    }
    assert_eq!(shown, config::key_paths().into_iter().collect());
    let full = config::parse("example", uncommented().as_bytes()).map_err(|p| explain(&p)).unwrap();
    assert_eq!(full.logs.len(), 3);
    assert!(full.state_dir.is_some() && full.operator_token_file.is_some() && full.accounts_file.is_some());
}

#[test]
fn every_key_takes_effect() {
    let text = "logs: [{path: /a, mta: postfix, format: php, zone: UTC}, {socket: /s}, {socket: /t, socket_mode: '0622'}, \
        {socket: 'udp:127.0.0.1:5140'}, {journal: true}, \
        {journal: true, identifiers: [a, b*], units: [u], directory: /j}]\nbackfill: 90d\nstate_dir: /s\nlisten: '[::1]:1'\n\
        operator_token_file: /t\naccounts_file: /f\nlog_level: warn\n\
        web: {hosts: [Figures.Test.]}\nmetrics: {max_accounts: 1, account_label: hash, public: true}\n\
        attribution: {min_uid: 1, web_server_users: [w], web_server_uids: [1], local_networks: [10.0.0.1], \
        max_known_accounts: 1, claimed_domains: false, name_service_timeout: 500ms}\n\
        tracking: {max_open_messages: 1000, max_line_bytes: 4096}\nhistory: {hours_days: 1, days_days: 2}\n\
        retention: {errors_days: 1, index_days: 2, index_max_bytes: 2MiB}\nqueue: {directories: [/q], config_directories: [/e], exim_program: /x, interval: 72s}\n\
        gate: {mode: watch, logins: hold, exim_flags: /g}\n\
        own_addresses: [192.0.2.25, '2001:db8::1']\nreplies: [{pattern: 'a.b', class: loop}]\n\
        enforcement: {dry_run: false, max_blocks_per_hour: 3, max_age: 2m, respect_unblock: 3h, force_for: 2h, max_relapses: 4, exempt: [vip]}\n\
        rules: [{name: error_ratio, action: off}, {name: spam_verdicts, limit: 9, action: block}, {name: own, signal: error_ratio, \
        window: 90m, limit: 12.5, min_sample: 7, classes: [loop], for: 'plan:pro', action: notify, state: spam, scope: all, \
        duration: 2h, share: 30}, {name: against_history, floor: 70, limit: 2.5}]\n\
        quotas: [{for: 'plan:pro', max_per_hour: 5, max_per_day: 6, over: block, scope: all}, {max_per_day: 7}]\n\
        hooks: [{url: 'https://Hooks.test/T', secret_file: /h, events: [purged, blocked], timeout: 2s}, {url: 'http://[::1]:81'}]\n";
    let c = config::parse("f", text.as_bytes()).map_err(|p| explain(&p)).unwrap();
    assert_eq!(c.logs[0].format, config::Format::Php);
    assert_eq!((c.logs[0].mta, c.logs[0].zone.as_deref()), (config::Mta::Postfix, Some("UTC")));
    let inputs: Vec<config::LogInput> = c.logs.into_iter().map(|log| log.input).collect();
    let unix = |path: &str, mode| config::LogInput::Socket(Address::Unix { path: path.into(), mode });
    let udp = config::LogInput::Socket(Address::Udp("127.0.0.1:5140".parse().unwrap()));
    let own = config::LogInput::Journal(journal::Settings::default());
    let filter = journal::Filter { identifiers: vec!["a".into(), "b*".into()], units: vec!["u".into()] };
    let other = config::LogInput::Journal(journal::Settings { directory: Some("/j".into()), filter, after: None });
    let file = config::LogInput::File("/a".into());
    assert_eq!(inputs, [file, unix("/s", 0o660), unix("/t", 0o622), udp, own, other]);
    assert_eq!((c.listen.to_string().as_str(), c.log_level), ("[::1]:1", config::LogLevel::Warn));
    assert_eq!(c.backfill, config::Backfill::Since(Duration::from_secs(90 * 86_400)));
    assert_eq!(c.state_dir.as_deref(), Some(Path::new("/s")));
    assert_eq!(c.operator_token_file.as_deref(), Some(Path::new("/t")));
    assert_eq!(c.accounts_file.as_deref(), Some(Path::new("/f")));
    assert_eq!(c.web.hosts, ["figures.test"]);
    let label = config::AccountLabel::Hash;
    assert_eq!(c.metrics, config::Metrics { max_accounts: 1, account_label: label, public: true });
    let policy = Policy {
        min_uid: 1,
        web_server_users: vec!["w".into()],
        web_server_uids: vec![1],
        local_networks: vec!["10.0.0.1/32".parse().unwrap()],
        max_known_accounts: 1,
        claimed_domains: false,
    };
    assert_eq!(c.attribution, config::Attribution { policy, name_service_timeout: Duration::from_millis(500) });
    assert_eq!(c.tracking, config::Tracking { max_open_messages: 1000, max_line_bytes: 4096 });
    assert_eq!(c.history, config::History { hours_days: 1, days_days: 2 });
    assert_eq!(c.retention, config::Retention { errors_days: 1, index_days: 2, index_max_bytes: 2 << 20 });
    assert_eq!(c.own_addresses, ["192.0.2.25".parse::<std::net::IpAddr>().unwrap(), "2001:db8::1".parse().unwrap()]);
    assert_eq!(c.replies, [Pattern { pattern: "a.b".into(), class: ReplyClass::Loop }]);
    let enforcement = Enforcement {
        force_secs: 7_200,
        max_relapses: 4,
        dry_run: false,
        max_blocks_per_hour: 3,
        max_age_secs: 120,
        respect_secs: 10_800,
        exempt: vec!["vip".into()],
    };
    assert_eq!(c.enforcement, enforcement);
    let named = |name: &str| c.rules.iter().find(|rule| *rule.name == *name).cloned();
    assert_eq!((named("error_ratio"), c.rules.len()), (None, built_in().len() + 3));
    let spam = built_in().into_iter().find(|rule| &*rule.name == "spam_verdicts").unwrap();
    assert_eq!(named("spam_verdicts"), Some(Rule { limit: 9, measure: Measure::Block, ..spam }));
    let history = built_in().into_iter().find(|rule| &*rule.name == "against_history").unwrap();
    assert_eq!(named("against_history"), Some(Rule { min_sample: 70, limit: 25, ..history }));
    let own = Rule {
        min_sample: 7,
        classes: Classes::of(&[ReplyClass::Loop]),
        target: Target::Plan("pro".into()),
        measure: Measure::Notify,
        cause: Cause::Spam,
        lane: Lane::All,
        for_secs: Some(7_200),
        share: 30,
        ..Rule::new("own", Signal::ErrorRatio, 5_400, 125)
    };
    assert_eq!(named("own"), Some(own));
    let quota = |name, window, limit| Rule { warns: true, ..Rule::new(name, Signal::Recipients, window, limit) };
    let whose = |rule: Rule, measure| Rule { target: Target::Plan("pro".into()), measure, lane: Lane::All, ..rule };
    for (name, window, limit) in [("max_per_hour:all:plan:pro", 3_600, 5), ("max_per_day:all:plan:pro", 86_400, 6)] {
        assert_eq!(named(name), Some(whose(quota(name, window, limit), Measure::Block)));
    }
    let day = quota("max_per_day", 86_400, 7);
    assert_eq!(named("max_per_day"), Some(Rule { measure: Measure::Slow, ..day }));
    let [signed, plain] = &c.hooks[..] else { panic!("{:?}", c.hooks) };
    assert_eq!((signed.target.host(), signed.target.port, signed.target.tls), ("hooks.test", 443, true));
    assert_eq!((signed.secret_file.as_deref(), signed.timeout), (Some(Path::new("/h")), Duration::from_secs(2)));
    assert_eq!(signed.events, [Event::Purged, Event::Blocked]);
    assert_eq!((plain.target.host(), plain.target.port, plain.target.tls), ("::1", 81, false));
    assert_eq!((plain.secret_file.as_deref(), plain.timeout), (None, Duration::from_secs(5)));
    assert_eq!(plain.events, Event::ALL);
    let (mode, logins) = (config::GateMode::Watch, config::GateLogins::Hold);
    assert_eq!(c.gate, config::Gate { mode, logins, exim_flags: "/g".into() });
    assert_eq!(
        c.queue,
        config::Queue {
            directories: vec!["/q".into()],
            config_directories: vec!["/e".into()],
            exim_program: Some("/x".into()),
            interval: Duration::from_secs(72)
        }
    );
}

#[test]
fn merged_keys_count_and_own_keys_win() {
    let text = b"history: &h\n  hours_days: 7\n  days_days: 8\n";
    let merged = [text.as_slice(), b"metrics:\n  max_accounts: 9\n"].concat();
    assert_eq!(config::parse("f", &merged).unwrap().history.hours_days, 7);
    let yaml = b"accounts:\n- &a {id: one, zone: UTC}\n- {<<: *a, id: two}\n";
    let accounts = config::parse_accounts_yaml("f", yaml).map_err(|p| explain(&p)).unwrap();
    assert_eq!((accounts[1].id.as_str(), accounts[1].zone.as_deref()), ("two", Some("UTC")));
}

#[test]
fn towers_of_brackets_are_refused_before_they_are_parsed() {
    for tower in ["[".repeat(100_000), "{a: ".repeat(100_000)] {
        let found = config::parse("f", format!("x: 1\na: {tower}").as_bytes()).unwrap_err();
        assert_eq!((found[0].line, found.len()), (2, 1));
        assert!(explain(&found).contains("nested deeper"), "{}", explain(&found));
    }
}

#[test]
fn a_named_pipe_is_no_file_and_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("accounts.yaml");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    let why = explain(&config::load_accounts(&pipe).unwrap_err());
    assert!(why.contains("no regular file"), "{why}");
}

#[test]
fn large_bad_or_absent_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.yaml");
    assert!(explain(&config::load(&file).unwrap_err()).contains("cannot read"));
    std::fs::write(&file, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(explain(&config::load(&file).unwrap_err()).contains("larger than 1 MiB"));
    std::fs::write(&file, b"listen: x\nlog_level: \xff\n").unwrap();
    assert!(explain(&config::load(&file).unwrap_err()).contains("c.yaml:2:12: this byte is not UTF-8"));
    // A hundred thousand uses of as many values stay under the library's alias limit; ours must stop them.
    let values = "x,".repeat(100_000);
    let uses = "*a,".repeat(100_000);
    let bomb = format!("a: &a [{values}]\nb: [{uses}]\n");
    assert!(explain(&config::parse("f", bomb.as_bytes()).unwrap_err()).contains("too many values"));
}

#[test]
fn yaml_and_csv_say_the_same() {
    let yaml =
        b"accounts:\n  - id: one\n    uids: [1001, 1002]\n    unix_users: [web1]\n    logins: [a@s.test, b]\n    \
        domains: [s.test]\n    networks: [10.0.0.1, 2001:db8::/32]\n    plan: pro\n    zone: UTC\n  - id: two\n";
    let csv = b"id,uids,unix_users,logins,domains,networks,plan,zone\n\
        one,1001 1002,web1,a@s.test;b,s.test,10.0.0.1; 2001:db8::/32,pro,UTC\ntwo,,,,,,,\n";
    let from_yaml = config::parse_accounts_yaml("f", yaml).map_err(|p| explain(&p)).unwrap();
    let from_csv = config::parse_accounts_csv("f", csv).map_err(|p| explain(&p)).unwrap();
    assert_eq!(from_yaml, from_csv);
    assert_eq!(from_csv[1], AccountSpec { id: "two".into(), ..AccountSpec::default() });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.CSV");
    std::fs::write(&file, csv).unwrap();
    assert_eq!(config::load_accounts(&file).unwrap(), from_csv);
}

#[test]
fn csv_mistakes_are_told_with_their_lines() {
    let told = |text: &str| explain(&config::parse_accounts_csv("a.csv", text.as_bytes()).unwrap_err());
    let bad = told("id,login,uids\none,,x\n\ntwo,,1,2\nother,,\n,,\n");
    let expected = "a.csv:1:2: login: this column does not exist; did you mean `logins`?\n\
        a.csv:2:3: uids: `x` is not a uid; give whole numbers\n\
        a.csv:4:1: cells in this line: 4, in the header: 3; separate several values of one cell by spaces or `;`, not commas\n\
        a.csv:5:1: id: the id `other` is reserved; choose another id\n\
        a.csv:6:1: id: `` is not an account id; 1 to 64 of A-Z a-z 0-9 . _ @ + -, beginning with a letter or digit\n";
    assert_eq!(bad, expected);
    let both = told("id,logins\none,a\n# not a comment,\n");
    assert!(both.starts_with("a.csv:3:1: id: `# not a comment`"), "{both}");
    let twice = told("id,logins\none,a\ntwo,b\nthree,A\n");
    assert!(twice.starts_with("a.csv:4:1: the login `a` belongs to account `one` and to account `three`"), "{twice}");
    assert!(twice.contains("the other one is on line 2"), "{twice}");
    assert!(told("").contains("begin with `id,uids"));
    assert!(told("uids\n1\n").contains("id: this column is missing"));
    assert!(told("id,id\na,b\n").contains("given twice"));
}

#[test]
fn a_hundred_thousand_accounts_load() {
    let mut csv = String::from("id,uids,unix_users,logins,domains\n");
    let mut yaml = String::from("accounts:\n");
    for i in 0..100_000 {
        csv += &format!("acct{i},{},web{i},box@site{i}.test info@site{i}.test,site{i}.test\n", i + 1000);
        let logins = format!("[box@site{i}.test, info@site{i}.test]");
        yaml += &format!("- id: acct{i}\n  uids: [{}]\n  unix_users: [web{i}]\n  logins: {logins}\n", i + 1000);
        yaml += &format!("  domains: [site{i}.test]\n");
    }
    let accounts = config::parse_accounts_csv("f", csv.as_bytes()).unwrap();
    assert_eq!(config::parse_accounts_yaml("f", yaml.as_bytes()).unwrap(), accounts);
    let directory = Directory::build(accounts, Policy::default()).unwrap();
    assert_eq!(directory.by_login(b"info@site99999.test"), Some("acct99999"));
}

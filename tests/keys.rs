//! Every key of the configuration changes what the built binary does, and each has a test here that sees it.
//!
//! A test is named after its key (`metrics.max_accounts` → `metrics_max_accounts`); one that is missing fails the first
//! test of this file.
#![allow(clippy::disallowed_methods, reason = "tests start processes and poll the real clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod corpus;
mod crash_support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crash_support::{House, Running, exchange, wait};
use serde_json::Value;

/// Keys that only hold others.
const SECTIONS: [&str; 16] = [
    "logs",
    "web",
    "metrics",
    "attribution",
    "tracking",
    "history",
    "retention",
    "queue",
    "gate",
    "helper",
    "hold",
    "replies",
    "hooks",
    "enforcement",
    "rules",
    "quotas",
];

/// Keys whose effect needs a real journal or a sender: where their tests are.
const ELSEWHERE: [(&str, &str, &str); 21] = [
    ("hooks[].url", "each_order_is_told_once_and_signed_and_nothing_secret_is_shown", include_str!("hooks.rs")),
    ("hooks[].secret_file", "each_order_is_told_once_and_signed_and_nothing_secret_is_shown", include_str!("hooks.rs")),
    ("hooks[].events", "each_order_is_told_once_and_signed_and_nothing_secret_is_shown", include_str!("hooks.rs")),
    ("hooks[].timeout", "a_receiver_that_hangs_slows_nobody", include_str!("hooks.rs")),
    ("hold.max_held", "no_more_is_held_than_there_is_room_for_and_nobody_else_notices", include_str!("gate_bounds.rs")),
    ("hold.max_held_bytes", "no_more_is_held_than_may_lie_in_the_queue", include_str!("gate_bounds.rs")),
    ("hold.min_free", "where_too_little_is_free_nothing_more_is_held", include_str!("gate_bounds.rs")),
    ("hold.min_free_inodes", "where_too_little_is_free_nothing_more_is_held", include_str!("gate_bounds.rs")),
    ("gate.exim_flags", "watching_holds_nobody_and_takes_back_what_was_held", include_str!("gate_exim.rs")),
    ("queue.exim_program", "watching_holds_nobody_and_takes_back_what_was_held", include_str!("gate_exim.rs")),
    (
        "hold.held_max",
        "what_is_held_too_long_is_deleted_and_told_for_each_recipient",
        include_str!("release_postfix.rs"),
    ),
    (
        "gate.mode",
        "a_gate_that_watches_lets_everything_pass_and_says_what_it_would_hold",
        include_str!("gate_postfix.rs"),
    ),
    (
        "gate.logins",
        "nothing_that_is_accepted_after_the_acknowledgement_leaves_also_around_a_kill",
        include_str!("gate_postfix.rs"),
    ),
    ("helper.socket", "only_root_and_the_agents_user_are_heard", include_str!("helper.rs")),
    ("logs[].journal", "journalctl_killed_and_the_agent_killed_count_every_entry_once", include_str!("journal.rs")),
    ("logs[].directory", "journalctl_killed_and_the_agent_killed_count_every_entry_once", include_str!("journal.rs")),
    ("logs[].identifiers", "identifiers_and_units_choose_and_check_says_what_there_is", include_str!("journal.rs")),
    ("logs[].units", "identifiers_and_units_choose_and_check_says_what_there_is", include_str!("journal.rs")),
    ("logs[].socket", "a_flood_of_a_stopped_agent_over_udp_adds_up", include_str!("syslog_socket.rs")),
    ("logs[].socket_mode", "a_unix_socket_makes_its_senders_wait_and_loses_nothing", include_str!("syslog_socket.rs")),
    (
        "queue.config_directories",
        "only_the_accounts_mail_is_held_and_only_what_the_agent_holds_is_released_and_purged",
        include_str!("sanctions_postfix.rs"),
    ),
];

#[test]
fn every_key_has_a_test_of_its_effect() {
    let source = include_str!("keys.rs");
    let missing: Vec<String> = sendwarden::config::key_paths()
        .into_iter()
        .filter(|path| !SECTIONS.contains(&path.as_str()))
        .filter(|path| {
            let name = path.replace("[]", "").replace('.', "_");
            let elsewhere = ELSEWHERE
                .iter()
                .any(|(key, test, text)| key == path && text.contains(&format!("#[test]\nfn {test}() {{\n")));
            !elsewhere && !source.contains(&format!("#[test]\nfn {name}() {{\n"))
        })
        .collect();
    assert!(missing.is_empty(), "no test sees the effect of {missing:?}");
}

/// A configuration that is complete but for `more`; `log` is where the log is said to be.
fn house(log: &str, more: &str) -> House {
    let house = House::new("");
    let dir = house.dir.display();
    let log = if log.is_empty() { format!("logs:\n  - path: {dir}/mail.log\n    zone: UTC\n") } else { log.to_owned() };
    let rest = [
        ("listen:", "listen: 127.0.0.1:0\n".to_owned()),
        ("state_dir:", format!("state_dir: {dir}/state\n")),
        ("queue:", format!("queue:\n  directories: [{dir}]\n")),
    ];
    let rest: String = rest.into_iter().filter(|(key, _)| !more.contains(key)).map(|(_, text)| text).collect();
    let text = format!("{log}{rest}{more}").replace("DIR", &dir.to_string());
    fs::write(&house.config, text).unwrap();
    house
}

const HOUR_AGO: i64 = 3_600;

fn stamp(seconds_ago: i64) -> String {
    let now = jiff::Timestamp::now().as_second();
    jiff::Timestamp::from_second(now - seconds_ago).unwrap().to_string()
}

/// One message by `arrival` (`pickup[1]: ID: uid=…`, with ID for the queue id), bounced or sent.
fn message(id: &str, seconds_ago: i64, arrival: &str, sender: &str, to: &str, dsn: &str) -> String {
    let at = stamp(seconds_ago);
    let status = if dsn.starts_with('5') { "bounced (550 no)" } else { "sent (250 ok)" };
    [
        arrival.replace("ID", id),
        format!("cleanup[2]: {id}: message-id=<{id}@mx.test>"),
        format!("qmgr[3]: {id}: from=<{sender}>, size=400, nrcpt=1 (queue active)"),
        format!(
            "smtp[4]: {id}: to=<{to}>, relay=r.test[192.0.2.1]:25, delay=1, delays=0/0/0/1, dsn={dsn}, status={status}"
        ),
        format!("qmgr[3]: {id}: removed"),
    ]
    .iter()
    .map(|line| format!("{at} mx postfix/{line}\n"))
    .collect()
}

fn by_uid(uid: u32) -> String {
    message(
        &format!("A{uid:09X}"),
        HOUR_AGO,
        &format!("pickup[1]: ID: uid={uid} from=<x>"),
        "x@mx.test",
        "a@b.test",
        "2.0.0",
    )
}

fn by_client(address: &str, sender: &str) -> String {
    message("AB01234567", HOUR_AGO, &format!("smtpd[1]: ID: client=pc[{address}]"), sender, "a@b.test", "2.0.0")
}

/// What `replay` makes of this log under this configuration.
fn replay(more: &str, log: &str) -> Value {
    let house = house("", more);
    house.append(log);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sendwarden"));
    let out =
        command.args(["replay", "--format", "json", "--config"]).arg(&house.config).arg(&house.log).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

/// The account or the reason that the one message of this log is given to.
fn owner(more: &str, log: &str) -> String {
    let said = replay(more, log);
    let mut names = Vec::new();
    for kind in ["accounts", "unattributed_by_reason"] {
        let owners = said[kind].as_object().unwrap().iter();
        names.extend(owners.filter(|(_, counts)| counts["messages"] == 1).map(|(name, _)| name.clone()));
    }
    assert_eq!(names.len(), 1, "{said}");
    names.remove(0)
}

/// An agent that has read `log`.
fn agent<'a>(house: &'a House, log: &str) -> Running<'a> {
    house.append(log);
    let running = house.start();
    let lines = log.lines().count() as f64;
    wait(house, "the log to be read", || house.metric("sendwarden_log_lines_read_total") >= lines);
    running
}

fn address(house: &House) -> String {
    let printed = house.printed();
    printed.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("it says where").to_owned()
}

#[test]
fn logs_path() {
    let house = house("logs:\n  - path: DIR/elsewhere.log\n", "");
    fs::write(house.dir.join("elsewhere.log"), by_uid(54_001)).unwrap();
    let _running = house.start();
    wait(&house, "its figures", || house.metric("sendwarden_messages_accepted_total") == 1.0);
}

#[test]
fn logs_zone() {
    let last = |zone: &str| {
        let house = house(&format!("logs:\n  - path: DIR/mail.log\n    zone: {zone}\n"), "");
        let _running = agent(
            &house,
            "Nov  2 10:00:00 mx postfix/qmgr[3]: A000000001: from=<x@y.test>, size=1, nrcpt=1 (queue active)\n",
        );
        house.metric("sendwarden_log_last_event_timestamp_seconds")
    };
    assert_eq!(last("UTC") - last("Asia/Tokyo"), 9.0 * 3_600.0);
}

#[test]
fn logs_mta() {
    let read = |mta: &str| {
        let house = house(&format!("logs:\n  - path: DIR/mail.log\n    zone: UTC\n    mta: {mta}\n"), "");
        let _running = agent(&house, &by_uid(54_001));
        house.metric("sendwarden_messages_accepted_total")
    };
    assert_eq!((read("auto"), read("postfix"), read("exim")), (1.0, 1.0, 0.0));
}

/// More is in `backfill.rs`.
#[test]
fn backfill() {
    let lines = |more: &str| {
        let house = house("", more);
        fs::write(house.dir.join("mail.log.1"), by_uid(54_001)).unwrap();
        let _running = agent(&house, &by_uid(54_002));
        house.wait_ready();
        house.metric("sendwarden_log_lines_read_total")
    };
    let live = lines("backfill: none\n");
    assert!(live > 0.0);
    assert_eq!((lines("backfill: all\n"), lines("backfill: 1h\n"), lines("")), (2.0 * live, 2.0 * live, 2.0 * live));
}

/// A call in PHP's log names the script of its message; read as a mail log, it says nothing.
#[test]
fn logs_format() {
    let script = |format: &str| {
        let logs = format!(
            "logs:\n  - path: DIR/mail.log\n    zone: UTC\n  - path: DIR/php.log\n    zone: UTC\n    format: {format}\n"
        );
        let house = house(&logs, "attribution: {web_server_uids: [54001]}\n");
        let when = jiff::Timestamp::now().as_second() - HOUR_AGO;
        let when = jiff::Timestamp::from_second(when).unwrap().strftime("%d-%b-%Y %H:%M:%S UTC");
        let call = format!("[{when}] mail() on [/srv/site/a.php:7]: To: A <a@b.test> -- Headers:  -- Subject: s\n");
        fs::write(house.dir.join("php.log"), call).unwrap();
        let _running = agent(&house, &by_uid(54_001));
        assert_eq!(house.metric("sendwarden_messages_accepted_total"), 1.0);
        let mut command = Command::new(env!("CARGO_BIN_EXE_sendwarden"));
        let out =
            command.args(["trace", "a@b.test", "--format", "json", "--config"]).arg(&house.config).output().unwrap();
        let view: Value = serde_json::from_slice(&out.stdout).unwrap();
        view["legs"][0]["script"]["path"].as_str().map(str::to_owned)
    };
    assert_eq!((script("php").as_deref(), script("mail")), (Some("/srv/site/a.php"), None));
}

#[test]
fn state_dir() {
    let house = house("", "state_dir: DIR/other\n");
    let running = house.spawn();
    wait(&house, "the store", || house.dir.join("other/sendwarden.db").is_file());
    drop(running);
    assert!(!house.state.exists());
}

#[test]
fn listen() {
    let house = house("", "listen: '[::1]:0'\n");
    let _running = house.start();
    assert!(address(&house).starts_with("[::1]:"), "{}", house.printed());
    let stream = std::net::TcpStream::connect(address(&house)).unwrap();
    assert_eq!(exchange(stream, "GET /-/healthy HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap().0, 200);
}

#[test]
fn web_hosts() {
    let answered = |more: &str, host: &str| {
        let house = house("", more);
        let _running = house.start();
        let stream = std::net::TcpStream::connect(address(&house)).unwrap();
        exchange(stream, &format!("GET /metrics HTTP/1.0\r\nHost: {host}\r\n\r\n")).unwrap()
    };
    let (status, body) = answered("", "figures.test:80");
    assert!(status == 421 && body.contains("web.hosts"), "{status} {body}");
    assert_eq!(answered("web:\n  hosts: [Figures.test]\n", "figures.test:80").0, 200);
}

#[test]
fn operator_token_file() {
    let house = house("", "operator_token_file: DIR/token\n");
    fs::write(house.dir.join("token"), "0123456789abcdef\n").unwrap();
    let _running = house.start();
    let reload = |token: &str| {
        let stream = std::net::TcpStream::connect(address(&house)).unwrap();
        exchange(stream, &crash_support::post("/-/reload", &format!("Authorization: Bearer {token}\r\n"))).unwrap().0
    };
    assert_eq!((reload("0123456789abcdef"), reload("0123456789abcdeX")), (200, 401));
}

#[test]
fn accounts_file() {
    let house = house("", "accounts_file: DIR/accounts.yaml\n");
    fs::write(house.dir.join("accounts.yaml"), "accounts: [{id: bakery, uids: [54001]}]\n").unwrap();
    let _running = agent(&house, &by_uid(54_001));
    wait(&house, "the account", || house.metrics().keys().any(|name| name.contains("account=\"bakery\"")));
}

#[test]
fn log_level() {
    let printed = |level: &str| {
        let house = house("", &format!("log_level: {level}\n"));
        let _running = agent(&house, &by_uid(54_001));
        house.printed()
    };
    assert!(printed("info").contains("INFO"));
    assert!(!printed("error").contains("INFO"));
}

#[test]
fn metrics_max_accounts() {
    let house = house("", "metrics:\n  max_accounts: 1\n");
    let _running = agent(&house, &(by_uid(54_001) + &by_uid(54_002)));
    wait(&house, "the account that has no series", || {
        house.metrics().keys().any(|name| name.contains("account=\"other\""))
    });
    assert_eq!(house.metric("sendwarden_accounts_tracked"), 1.0);
}

#[test]
fn metrics_account_label() {
    let labels = |kind: &str| {
        let house = house("", &format!("metrics:\n  account_label: {kind}\n"));
        let _running = agent(&house, &by_uid(54_001));
        wait(&house, "the message", || house.metric("sendwarden_messages_accepted_total") == 1.0);
        let page = house.metrics();
        let own = |name: &String| name.contains("account=\"") && !name.contains("account=\"other\"");
        (page.keys().any(|name| name.contains("uid54001")), page.keys().any(own))
    };
    assert_eq!(labels("name"), (true, true));
    assert_eq!(labels("hash"), (false, true));
    assert_eq!(labels("none"), (false, false));
}

#[test]
fn metrics_public() {
    let refused = house("", "listen: 0.0.0.0:0\n").refused(&[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("metrics.public"));
    let house = house("", "listen: 0.0.0.0:0\nmetrics:\n  public: true\n");
    let _running = house.start();
}

#[test]
fn attribution_min_uid() {
    assert_eq!(owner("", &by_uid(54_001)), "uid54001");
    assert_eq!(owner("attribution:\n  min_uid: 54002\n", &by_uid(54_001)), "system_uid");
}

#[test]
fn attribution_web_server_users() {
    let log = by_uid(33);
    assert_eq!(owner("", &log), "web_server_uid");
    assert_eq!(owner("attribution:\n  min_uid: 1\n  web_server_users: [apache]\n", &log), "www-data");
}

#[test]
fn attribution_web_server_uids() {
    assert_eq!(owner("", &by_uid(54_001)), "uid54001");
    assert_eq!(owner("attribution:\n  web_server_uids: [54001]\n", &by_uid(54_001)), "web_server_uid");
}

#[test]
fn attribution_local_networks() {
    let log = by_client("10.3.0.7", "x@nowhere.test");
    assert_eq!(owner("", &log), "incoming");
    assert_eq!(owner("attribution:\n  local_networks: [10.3.0.0/16]\n", &log), "no_evidence");
}

#[test]
fn attribution_max_known_accounts() {
    let said = replay("attribution:\n  max_known_accounts: 1\n", &(by_uid(54_001) + &by_uid(54_002)));
    assert_eq!(said["unattributed_by_reason"]["account_limit"]["messages"], 1, "{said}");
    // One that the accounts file lists has room all the same.
    let house = House::new("");
    let accounts = house.dir.join("accounts.yaml");
    fs::write(&accounts, "accounts: [{id: shop, uids: [54003]}]\n").unwrap();
    let log = by_uid(54_001) + &by_uid(54_002) + &by_uid(54_003);
    let said = replay(&format!("accounts_file: {}\nattribution:\n  max_known_accounts: 1\n", accounts.display()), &log);
    assert_eq!(said["unattributed_by_reason"]["account_limit"]["messages"], 1, "{said}");
    assert_eq!(said["accounts"]["shop"]["messages"], 1, "{said}");
}

#[test]
fn attribution_claimed_domains() {
    let house = House::new("");
    let accounts = house.dir.join("accounts.yaml");
    fs::write(&accounts, "accounts: [{id: shop, domains: [shop.test]}]\n").unwrap();
    let log = by_client("127.0.0.1", "x@shop.test");
    let with = |more: &str| owner(&format!("accounts_file: {}\n{more}", accounts.display()), &log);
    assert_eq!(with(""), "shop");
    assert_eq!(with("attribution:\n  claimed_domains: false\n"), "no_evidence");
}

/// A name service that needs a second for an answer, in a mount namespace of the agent's own.
#[test]
fn attribution_name_service_timeout() {
    let named = |limit: &str| {
        let house = house("", &format!("attribution:\n  name_service_timeout: {limit}\n"));
        fs::write(house.dir.join("nsswitch"), "passwd: files sss\n").unwrap();
        let getent = house.dir.join("getent");
        fs::write(&getent, "#!/bin/sh\nsleep 1\necho slow:x:54001:54001::/home/slow:/bin/sh\n").unwrap();
        fs::set_permissions(&getent, fs::Permissions::from_mode(0o755)).unwrap();
        house.append(by_uid(54_001));
        let mut command = Command::new("unshare");
        let dir = house.dir.display();
        let mounts = format!(
            "mount --bind {dir}/nsswitch /etc/nsswitch.conf && mount --bind {dir}/getent /usr/bin/getent && exec \"$@\""
        );
        command
            .args(["-m", "sh", "-c", &mounts, "sh", env!("CARGO_BIN_EXE_sendwarden"), "run", "--config"])
            .arg(&house.config);
        let _running = house.spawn_as(command);
        wait(&house, "the message", || house.metric("sendwarden_messages_accepted_total") == 1.0);
        house.books().accounts.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(named("30s"), ["slow"]);
    assert_eq!(named("100ms"), ["uid54001"]);
}

#[test]
fn tracking_max_open_messages() {
    let log: String = (0..1_500)
        .map(|n| {
            format!("{} mx postfix/qmgr[3]: C{n:09X}: from=<x@y.test>, size=1, nrcpt=1 (queue active)\n", stamp(60))
        })
        .collect();
    let open = |more: &str| {
        let house = house("", more);
        let _running = agent(&house, &log);
        wait(&house, "the log to be read", || house.metric("sendwarden_log_lines_read_total") == 1_500.0);
        house.metric("sendwarden_tracked_messages")
    };
    assert_eq!((open("tracking:\n  max_open_messages: 1000\n"), open("")), (1_000.0, 1_500.0));
}

#[test]
fn tracking_max_line_bytes() {
    let cut = |more: &str| {
        let house = house("", more);
        let _running = agent(&house, &format!("{}\n{}", "x".repeat(5_000), by_uid(54_001)));
        house.metric("sendwarden_log_lines_cut_total")
    };
    assert_eq!((cut("tracking:\n  max_line_bytes: 4KiB\n"), cut("")), (1.0, 0.0));
}

const DAY: i64 = 86_400;

/// A message of `days` ago that bounced, and one of an hour ago that did.
fn old_and_new(days: i64) -> String {
    let one = |id: &str, ago: i64| {
        message(id, ago, "pickup[1]: ID: uid=54001 from=<x>", "x@mx.test", &format!("{id}@b.test"), "5.1.1")
    };
    one("D000000001", days * DAY) + &one("D000000002", HOUR_AGO)
}

/// How many of the two `what` tells of.
fn told(more: &str, log: &str, what: impl Fn(&House) -> usize, want: usize) {
    let house = house("", more);
    let _running = agent(&house, log);
    wait(&house, "the messages", || house.metric("sendwarden_messages_accepted_total") == 2.0);
    wait(&house, &format!("{want} of them with {more:?}"), || what(&house) == want);
}

#[test]
fn history_hours_days() {
    let hours = |house: &House| {
        let views = sendwarden::store::Views::open(&house.state).unwrap();
        let owner = views.all_totals().unwrap().into_iter().find(|(_, c)| c.messages == 2).unwrap().0;
        views.hours(owner, 0, i64::MAX).unwrap().len()
    };
    told("history:\n  hours_days: 3\n", &old_and_new(5), hours, 1);
    told("", &old_and_new(5), hours, 2);
}

#[test]
fn history_days_days() {
    let days = |house: &House| {
        let said = house.command_json(&["history", "uid54001", "--days", "30"]);
        said["points"].as_array().unwrap().iter().filter(|day| day["messages"] == 1).count()
    };
    told("history:\n  hours_days: 1\n  days_days: 3\n", &old_and_new(5), days, 1);
    told("", &old_and_new(5), days, 2);
}

#[test]
fn retention_errors_days() {
    let errors = |house: &House| house.command_json(&["errors", "uid54001"])["errors"].as_array().unwrap().len();
    told("retention:\n  errors_days: 3\n", &old_and_new(5), errors, 1);
    told("", &old_and_new(5), errors, 2);
}

fn indexed(house: &House) -> usize {
    ["D000000001", "D000000002"]
        .iter()
        .filter(|id| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_sendwarden"));
            let out = command.args(["trace", id, "--state-dir"]).arg(&house.state).output().unwrap();
            out.status.success() && String::from_utf8_lossy(&out.stdout).contains(*id)
        })
        .count()
}

#[test]
fn retention_index_days() {
    told("retention:\n  index_days: 3\n", &old_and_new(5), indexed, 1);
    told("", &old_and_new(5), indexed, 2);
}

/// Over the least size that can be set: random text, which does not compress.
#[test]
fn retention_index_max_bytes() {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut word = |n: usize| -> String { (0..n).map(|_| rng.alphanumeric()).collect() };
    let log: String = (0..20_000)
        .map(|n| {
            let (id, at) = (format!("{:010X}", 0xE0_0000_0000_u64 + n), stamp(HOUR_AGO));
            format!(
                "{at} mx postfix/pickup[1]: {id}: uid=54001 from=<x>\n{at} mx postfix/cleanup[2]: {id}: message-id=<{}@x>\n\
                 {at} mx postfix/qmgr[3]: {id}: from=<{}@y.test>, size=1, nrcpt=1 (queue active)\n\
                 {at} mx postfix/qmgr[3]: {id}: removed\n",
                word(60),
                word(40)
            )
        })
        .collect();
    let oldest = |more: &str, want: bool| {
        let house = house("", more);
        let _running = agent(&house, &log);
        wait(&house, &format!("the oldest message to be kept: {want}"), || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_sendwarden"));
            let out = command.args(["trace", "E000000000", "--state-dir"]).arg(&house.state).output().unwrap();
            String::from_utf8_lossy(&out.stdout).contains("uid54001") == want
        });
    };
    oldest("", true);
    oldest("retention:\n  index_max_bytes: 1MiB\n", false);
}

#[test]
fn queue_directories() {
    let house = house("", "queue:\n  directories: [DIR/spool]\n");
    for queue in ["maildrop", "incoming", "active", "deferred", "hold"] {
        fs::create_dir_all(house.dir.join("spool").join(queue)).unwrap();
    }
    fs::write(house.dir.join("spool/hold/A1"), "").unwrap();
    let _running = house.start();
    wait(&house, "the queue to be counted", || house.metric("sendwarden_queue_messages") == 1.0);
}

#[test]
fn queue_interval() {
    let house = house("", "queue:\n  directories: [DIR/spool]\n  interval: 1s\n");
    for queue in ["maildrop", "incoming", "active", "deferred", "hold"] {
        fs::create_dir_all(house.dir.join("spool").join(queue)).unwrap();
    }
    let _running = house.start();
    let scanned = || house.metric("sendwarden_queue_scan_last_success_timestamp_seconds");
    wait(&house, "the first count", || scanned() > 0.0);
    let first = scanned();
    wait(&house, "another count before the default interval is over", || {
        assert!(scanned() - first < 25.0, "only at the default pace");
        scanned() - first >= 1.0
    });
}

/// One message that a receiver refused with these words.
fn refused(id: &str, words: &str) -> String {
    let at = stamp(HOUR_AGO);
    format!(
        "{at} mx postfix/pickup[1]: {id}: uid=54001 from=<x>\n\
         {at} mx postfix/cleanup[2]: {id}: message-id=<{id}@mx.test>\n\
         {at} mx postfix/qmgr[3]: {id}: from=<x@mx.test>, size=400, nrcpt=1 (queue active)\n\
         {at} mx postfix/smtp[4]: {id}: to=<a@b.test>, relay=r.test[192.0.2.1]:25, delay=1, delays=0/0/0/1, dsn=5.7.0, \
         status=bounced (host r.test[192.0.2.1] said: 550 5.7.0 {words} (in reply to RCPT TO command))\n\
         {at} mx postfix/qmgr[3]: {id}: removed\n"
    )
}

/// Of the newest error: its class and the address of this host that it names.
fn newest_error(house: &House) -> (String, String) {
    let error = house.command_json(&["errors", "uid54001"])["errors"][0].clone();
    let field = |name: &str| error[name].as_str().unwrap().to_owned();
    (field("class"), field("own_address"))
}

fn about_this_host(house: &House, reason: &str) -> f64 {
    let series = format!("sendwarden_own_address_refusals_total{{mta=\"postfix\",reason=\"{reason}\"}}");
    house.metrics().get(&series).copied().unwrap_or(0.0)
}

#[test]
fn own_addresses() {
    let words = "Client host blocked, see https://www.spamhaus.org/query/ip/198.51.100.25";
    for (more, named) in
        [("own_addresses: [198.51.100.25]\n", "198.51.100.25"), ("own_addresses: [198.51.100.2]\n", "")]
    {
        let house = house("", more);
        let _running = agent(&house, &refused("A000000001", words));
        assert_eq!(newest_error(&house), ("blocklisted".to_owned(), named.to_owned()));
        assert_eq!(about_this_host(&house, "blocklisted"), f64::from(u8::from(!named.is_empty())));
        let mut command = Command::new(env!("CARGO_BIN_EXE_sendwarden"));
        let out = command.args(["errors", "uid54001", "--state-dir"]).arg(&house.state).output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert_eq!(said.contains("about this host: it names 198.51.100.25"), !named.is_empty(), "{said}");
    }
}

/// Taken up by a reload too: what is read after it has the new class.
#[test]
fn replies_pattern() {
    let house = house("", "");
    let _running = agent(&house, &refused("A000000001", "Fish and chips"));
    assert_eq!(newest_error(&house).0, "policy");
    let more = "replies:\n  - {pattern: 'fish (and|&) chips', class: loop}\n  - {pattern: fish, class: tls}\n";
    let text = fs::read_to_string(&house.config).unwrap();
    fs::write(&house.config, format!("{text}{more}")).unwrap();
    assert_eq!(house.post("/-/reload").unwrap().0, 200);
    wait(&house, "the reload", || house.printed().contains("are in force"));
    house.append(refused("A000000002", "FISH and chips"));
    wait(&house, "the second error", || house.metric("sendwarden_log_lines_read_total") >= 10.0);
    assert_eq!(newest_error(&house).0, "loop");
}

#[test]
fn replies_class() {
    for class in ["greylisted", "timeout"] {
        let house = house("", &format!("replies:\n  - {{pattern: fish, class: {class}}}\n"));
        let _running = agent(&house, &refused("A000000001", "Fish and chips"));
        assert_eq!(newest_error(&house).0, class);
        let series = format!("sendwarden_delivery_failures_total{{mta=\"postfix\",reason=\"{class}\"}}");
        assert_eq!(house.metrics()[&series], 1.0);
    }
}

/// Messages of one account, this many seconds ago each, delivered or refused.
fn sent_at(ages: &[i64], dsn: &str) -> String {
    let one = |(n, age): (usize, &i64)| {
        let (id, to) = (format!("B{n:09}"), format!("a{n}@b.test"));
        message(&id, *age, "pickup[1]: ID: uid=54001 from=<x>", "x@mx.test", &to, dsn)
    };
    ages.iter().enumerate().map(one).collect()
}

/// Four a minute ago.
fn burst() -> String {
    sent_at(&[60; 4], "2.0.0")
}

/// What rule `r` with these keys says of a log, under `more`: its verdicts, and the account.
fn judged(rule: &str, more: &str, log: &str) -> (Vec<Value>, Value) {
    let house = house("", &format!("{more}rules:\n  - {{name: r, {rule}}}\n"));
    let _running = agent(&house, log);
    let account = house.command_json(&["status", "uid54001"]);
    (account["verdicts"].as_array().cloned().unwrap_or_default(), account)
}

const ARMED: &str = "enforcement: {dry_run: false}\n";
const MESSAGES: &str = "signal: messages, window: 1h, limit: 3";

/// Of the newest verdict of an armed rule over four messages.
fn outcome(more: &str, log: &str) -> String {
    let (verdicts, _) = judged(&format!("{MESSAGES}, action: block"), more, log);
    verdicts.first().map_or(String::new(), |verdict| verdict["outcome"].as_str().unwrap().to_owned())
}

/// Whether the rule says anything.
fn speaks(rule: &str, log: &str) -> bool {
    !judged(rule, "", log).0.is_empty()
}

#[test]
fn enforcement_dry_run() {
    assert_eq!(outcome("", &burst()), "dry_run");
    assert_eq!(outcome(ARMED, &burst()), "blocked");
}

#[test]
fn enforcement_max_blocks_per_hour() {
    assert_eq!(outcome("enforcement: {dry_run: false, max_blocks_per_hour: 0}\n", &burst()), "block_budget");
}

#[test]
fn enforcement_max_age() {
    let log = sent_at(&[3_600; 4], "2.0.0");
    assert_eq!(outcome(ARMED, &log), "backlog");
    assert_eq!(outcome("enforcement: {dry_run: false, max_age: 2h}\n", &log), "blocked");
}

#[test]
fn enforcement_exempt() {
    assert_eq!(outcome("enforcement: {dry_run: false, exempt: [uid54001]}\n", &burst()), "exempt");
    assert_eq!(outcome("enforcement: {dry_run: false, exempt: [uid54002]}\n", &burst()), "blocked");
}

#[test]
fn enforcement_respect_unblock() {
    for (respect, expected) in [("0s", "blocked"), ("24h", "lifted_by_person")] {
        let more = format!(
            "enforcement: {{dry_run: false, respect_unblock: {respect}}}\nrules:\n  \
             - {{name: r, signal: messages, window: 1m, limit: 0, action: block}}\n"
        );
        let house = house("", &more);
        let _running = agent(&house, &sent_at(&[300], "2.0.0"));
        let account = || house.command_json(&["status", "uid54001"]);
        assert_eq!(account()["state"], "ko");
        house.command_json(&["unblock", "uid54001"]);
        house.append(message("C000000001", 60, "pickup[1]: ID: uid=54001 from=<x>", "x@mx.test", "z@b.test", "2.0.0"));
        wait(&house, "the second verdict", || account()["verdicts"].as_array().is_some_and(|all| all.len() == 2));
        assert_eq!(account()["verdicts"][0]["outcome"], expected);
    }
}

#[test]
fn enforcement_force_for() {
    for (long, expected) in [("0s", "ok"), ("24h", "force")] {
        let more = format!(
            "enforcement: {{dry_run: false, force_for: {long}}}\nrules:\n  \
             - {{name: r, signal: errors, window: 1h, limit: 0, action: block}}\n"
        );
        let house = house("", &more);
        let _running = agent(&house, &sent_at(&[300], "5.1.1"));
        let account = || house.command_json(&["status", "uid54001"]);
        assert_eq!(account()["state"], "bounce");
        house.command_json(&["unblock", "uid54001"]);
        wait(&house, "what the unblock comes to", || account()["state"] == expected);
    }
}

#[test]
fn enforcement_max_relapses() {
    for (most, lifted_by) in [(1, "operator"), (2, "owner")] {
        let more = format!(
            "enforcement: {{dry_run: false, respect_unblock: 0s, max_relapses: {most}}}\nrules:\n  \
             - {{name: r, signal: errors, window: 1h, limit: 0, action: block}}\n"
        );
        let house = house("", &more);
        let _running = agent(&house, &sent_at(&[300], "5.1.1"));
        let account = || house.command_json(&["status", "uid54001"]);
        house.command_json(&["unblock", "uid54001"]);
        wait(&house, "the second chance", || account()["state"] == "force");
        house.append(message("C000000001", 60, "pickup[1]: ID: uid=54001 from=<x>", "x@mx.test", "z@b.test", "5.1.1"));
        wait(&house, "the relapse", || account()["state"] == "bounce");
        assert_eq!(account()["sanction"]["liftable_by"], lifted_by);
    }
}

#[test]
fn rules_name() {
    let house = house("", "rules:\n  - {name: recipients_per_hour, limit: 3}\n");
    let _running = agent(&house, &burst());
    let verdict = house.command_json(&["status", "uid54001"])["verdicts"][0].clone();
    assert_eq!((&verdict["rule"], &verdict["signal"]), (&"recipients_per_hour".into(), &"recipients".into()));
}

#[test]
fn rules_signal() {
    let refused = sent_at(&[60; 4], "5.1.1");
    assert!(speaks("signal: unknown_recipients, window: 1h, limit: 3", &refused));
    assert!(!speaks("signal: spam_verdicts, window: 1h, limit: 3", &refused));
}

#[test]
fn rules_window() {
    let log = sent_at(&[400, 300, 200, 100], "2.0.0");
    assert!(speaks("signal: messages, window: 1h, limit: 3", &log));
    assert!(!speaks("signal: messages, window: 1m, limit: 3", &log));
}

#[test]
fn rules_limit() {
    assert!(speaks(MESSAGES, &burst()));
    assert!(!speaks("signal: messages, window: 1h, limit: 4", &burst()));
}

#[test]
fn rules_min_sample() {
    let refused = sent_at(&[60; 4], "5.1.1");
    assert!(speaks("signal: error_ratio, window: 1h, limit: 10, min_sample: 4", &refused));
    assert!(!speaks("signal: error_ratio, window: 1h, limit: 10, min_sample: 5", &refused));
}

#[test]
fn rules_floor() {
    // Known for twenty days, and one message is usual.
    let log = sent_at(&[20 * 86_400, 60, 60, 60, 60], "2.0.0");
    assert!(speaks("signal: against_history, window: 1h, limit: 3.9, floor: 4", &log));
    assert!(!speaks("signal: against_history, window: 1h, limit: 3.9, floor: 5", &log));
}

#[test]
fn rules_classes() {
    let refused = sent_at(&[60; 4], "5.1.1");
    assert!(speaks("signal: errors, window: 1h, limit: 3, classes: [loop, unknown_recipient]", &refused));
    assert!(!speaks("signal: errors, window: 1h, limit: 3, classes: [loop]", &refused));
}

#[test]
fn rules_for() {
    assert!(speaks(&format!("{MESSAGES}, for: 'account:uid54001'"), &burst()));
    assert!(!speaks(&format!("{MESSAGES}, for: 'account:uid54002'"), &burst()));
    assert!(!speaks(&format!("{MESSAGES}, for: 'plan:pro'"), &burst()));
}

#[test]
fn rules_action() {
    for (action, outcome) in
        [("observe", "observed"), ("notify", "notified"), ("slow", "dry_run"), ("block", "dry_run")]
    {
        let (verdicts, _) = judged(&format!("{MESSAGES}, action: {action}"), "", &burst());
        assert_eq!(verdicts[0]["outcome"], outcome);
    }
    assert!(!speaks(&format!("{MESSAGES}, action: off"), &burst()));
}

/// What the quotas say of four messages to one recipient each.
fn quota(keys: &str, more: &str) -> Vec<(String, String)> {
    let house = house("", &format!("{more}quotas:\n  - {{{keys}}}\n"));
    let _running = agent(&house, &burst());
    let account = house.command_json(&["status", "uid54001"]);
    let word = |verdict: &Value, key: &str| verdict[key].as_str().unwrap().to_owned();
    let verdicts = account["verdicts"].as_array().cloned().unwrap_or_default();
    verdicts.iter().map(|verdict| (word(verdict, "rule"), word(verdict, "outcome"))).collect()
}

fn said(rule: &str, outcome: &str) -> Vec<(String, String)> {
    vec![(rule.to_owned(), outcome.to_owned())]
}

#[test]
fn quotas_for() {
    let own = quota("for: 'account:uid54001', max_per_hour: 3", "");
    assert_eq!(own, said("max_per_hour:account:uid54001", "dry_run"));
    assert_eq!(quota("for: 'account:uid54002', max_per_hour: 3", ""), []);
}

#[test]
fn quotas_max_per_hour() {
    assert_eq!(quota("max_per_hour: 3", ""), said("max_per_hour", "dry_run"));
    assert_eq!(quota("max_per_hour: 4", ""), []);
}

#[test]
fn quotas_max_per_day() {
    assert_eq!(quota("max_per_day: 3", ""), said("max_per_day", "dry_run"));
    assert_eq!(quota("max_per_day: 4", ""), []);
}

#[test]
fn quotas_over() {
    assert_eq!(quota("max_per_hour: 3, over: block", ARMED), said("max_per_hour", "blocked"));
    assert_eq!(quota("max_per_hour: 3, over: observe", ARMED), said("max_per_hour", "observed"));
    // No gate holds mail here.
    assert_eq!(quota("max_per_hour: 3", ARMED), said("max_per_hour", "no_gate"));
}

#[test]
fn quotas_scope() {
    assert_eq!(quota("max_per_hour: 3, scope: all", ""), said("max_per_hour:all", "dry_run"));
    assert_eq!(quota("max_per_hour: 3, scope: login", ""), []);
}

#[test]
fn rules_state() {
    for state in ["ko", "bounce", "spam"] {
        let (_, account) = judged(&format!("{MESSAGES}, action: block, state: {state}"), ARMED, &burst());
        assert_eq!(account["state"], state);
    }
}

#[test]
fn rules_scope() {
    let (_, account) = judged(&format!("{MESSAGES}, action: block, scope: all"), ARMED, &burst());
    assert_eq!(account["sanction"]["scope"], "all");
    assert!(!speaks(&format!("{MESSAGES}, scope: login"), &burst()));
}

#[test]
fn rules_duration() {
    let until = |keys: &str| {
        let (_, account) = judged(&format!("{MESSAGES}, action: block{keys}"), ARMED, &burst());
        account["sanction"]["until"].is_string()
    };
    assert!(until(", duration: 2h") && !until(", duration: until_lifted") && !until(""));
}

#[test]
fn rules_share() {
    assert!(!speaks(&format!("{MESSAGES}, share: 0"), &burst()));
    assert!(speaks(&format!("{MESSAGES}, share: 100"), &burst()));
}

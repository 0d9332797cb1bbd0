//! `sendwarden check` on hosts with something missing: what it says, its exit status, and that it changes nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]
#![allow(clippy::disallowed_methods, reason = "tests start processes")]

use serde_json::Value;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

const TRAFFIC: &str = include_str!("../src/app/demo/traffic.log");

fn check(config: &Path, args: &[&str]) -> (i32, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_sendwarden"))
        .args(["check", "--config"])
        .arg(config)
        .args(args)
        .output()
        .expect("the built binary starts");
    (out.status.code().expect("it ends by itself"), String::from_utf8(out.stdout).expect("UTF-8"))
}

/// A host in a directory; `more` is added to its configuration.
fn host(port: u16, more: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let shown = dir.path().display();
    for queue in ["maildrop", "incoming", "active", "deferred", "hold"] {
        std::fs::create_dir_all(dir.path().join("queue").join(queue)).unwrap();
    }
    std::fs::write(dir.path().join("mail.log"), TRAFFIC).unwrap();
    let config = dir.path().join("config.yaml");
    let text = format!(
        "logs:\n  - path: {shown}/mail.log\nstate_dir: {shown}/state\nlisten: 127.0.0.1:{port}\nqueue:\n  \
         directories: [{shown}/queue]\n{more}"
    );
    std::fs::write(&config, text).unwrap();
    (dir, config)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn has(text: &str, level: &str, words: &str) -> bool {
    text.lines().any(|line| line.starts_with(level) && line.contains(words))
}

#[test]
fn a_good_host_is_told_what_is_understood_and_attributed() {
    let (dir, config) = host(free_port(), "");
    let (status, text) = check(&config, &[]);
    assert_eq!(status, 0, "{text}");
    assert!(has(&text, "ok ", "state: ") && has(&text, "ok ", "port: ") && has(&text, "ok ", "queue: "), "{text}");
    assert!(has(&text, "ok ", "understood: ") && text.contains("every line"), "{text}");
    assert!(has(&text, "ok ", "%), to 8 accounts"), "{text}");
    assert!(has(&text, "warn", "web_server_uid") && text.contains("→ run each customer's scripts"), "{text}");
    assert!(has(&text, "warn", "no_evidence"), "{text}");
    assert!(!dir.path().join("state").exists(), "check made the state directory");
    let kept: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(kept.len(), 3, "check wrote something: {kept:?}");

    let (status, json) = check(&config, &["--format", "json", "--lines", "100"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((status, json["result"].as_str()), (0, Some("warn")));
    assert_eq!(json["logs"][0]["lines"]["total"], 100, "only the end of the log is read");
    assert_eq!(json["logs"][0]["lines"]["unknown"], 0);
}

#[test]
fn what_is_not_understood_or_mapped_is_named() {
    let (dir, config) = host(free_port(), "accounts_file: ACCOUNTS\n");
    let accounts = dir.path().join("accounts.yaml");
    std::fs::write(&accounts, "accounts:\n  - id: bakery\n    uids: [2001]\n").unwrap();
    let text = std::fs::read_to_string(&config).unwrap().replace("ACCOUNTS", accounts.to_str().unwrap());
    std::fs::write(&config, text).unwrap();
    let odd = "2026-11-23T10:00:00+01:00 mx postfix/smtp[1]: 4jXzQ04qblz5b0g: to=<a@b.example>, gibberish\n";
    std::fs::write(dir.path().join("mail.log"), format!("{TRAFFIC}{odd}")).unwrap();
    let (status, text) = check(&config, &[]);
    assert_eq!(status, 0, "{text}");
    assert!(has(&text, "warn", "all but 1 line (0.17 %): smtp 1 (") && text.contains("gibberish"), "{text}");
    assert!(has(&text, "warn", "identities missing in the accounts file: "), "{text}");
    assert!(text.contains("uid 2006") && text.contains("login desk@dentist.example: "), "{text}");
    assert!(!text.contains("uid 2001") && !text.contains("uid 33"), "mapped or no customer's: {text}");
}

#[test]
fn what_keeps_the_agent_from_its_work_is_one() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (dir, config) = host(taken.local_addr().unwrap().port(), "");
    std::fs::remove_file(dir.path().join("mail.log")).unwrap();
    std::fs::write(dir.path().join("state"), "in the way").unwrap();
    let (status, text) = check(&config, &[]);
    assert_eq!(status, 1, "{text}");
    assert!(has(&text, "fail", "mail.log does not exist"), "{text}");
    assert!(has(&text, "fail", "port: cannot listen on"), "{text}");
    assert!(has(&text, "fail", "is not a directory"), "{text}");
    assert!(text.contains("3 to mend before the agent can do its work"), "{text}");
    let (_, json) = check(&config, &["--format", "json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["result"], "fail");
}

#[test]
fn mistakes_in_the_configuration_are_two() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/five_mistakes.yaml");
    let (status, text) = check(&config, &[]);
    assert_eq!(status, 2);
    assert_eq!(text.lines().filter(|line| line.starts_with("fail  configuration: ")).count(), 5, "{text}");
    assert!(text.contains("five_mistakes.yaml:3:5: logs[0].path"), "{text}");
    let (status, json) = check(&config, &["--format", "json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((status, json["findings"].as_array().map(Vec::len)), (2, Some(5)));
}

/// A log that its reader may not open: the group that may is named. Root may open everything, so it is asked as web1.
#[test]
fn the_group_that_is_missing_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, config) = host(free_port(), "");
    let log = dir.path().join("mail.log");
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(dir.path(), 0o755);
    mode(&config, 0o644);
    mode(&log, 0o640);
    std::os::unix::fs::chown(&log, Some(0), Some(4)).unwrap();
    // The binary may lie where only root can go.
    let binary = dir.path().join("sendwarden");
    std::fs::copy(env!("CARGO_BIN_EXE_sendwarden"), &binary).unwrap();
    mode(&binary, 0o755);
    let out = Command::new("setpriv")
        .args(["--reuid=web1", "--regid=web1", "--clear-groups"])
        .arg(&binary)
        .args(["check", "--config"])
        .arg(&config)
        .current_dir("/")
        .output()
        .expect("setpriv starts");
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert!(has(&text, "fail", "group adm may read it: add this user to group adm"), "{text}");
    assert!(has(&text, "fail", "state: "), "web1 may not write in root's directory: {text}");
}

/// What the agent would meet, and only then complain of.
#[test]
fn what_an_agent_could_not_use_is_told_before_it_is_started() {
    let (dir, config) = host(free_port(), "");
    let here = dir.path().display();
    let plain = std::fs::read_to_string(&config).unwrap();
    let with_logs = |logs: &str| {
        let text = plain.replace(&format!("logs:\n  - path: {here}/mail.log\n"), &format!("logs:\n{logs}"));
        std::fs::write(&config, text).unwrap();
        check(&config, &[])
    };

    // A socket: something else is there, or somebody listens there.
    std::fs::write(dir.path().join("file.sock"), "").unwrap();
    let (status, text) = with_logs(&format!("  - socket: {here}/file.sock\n"));
    assert!(status == 1 && has(&text, "fail", "file.sock: it exists and is not a socket"), "{text}");
    let taken = std::os::unix::net::UnixDatagram::bind(dir.path().join("taken.sock")).unwrap();
    let (status, text) = with_logs(&format!("  - socket: {here}/taken.sock\n"));
    assert!(status == 1 && has(&text, "fail", "another program listens there"), "{text}");
    drop(taken);
    let (_, text) = with_logs(&format!("  - socket: {here}/taken.sock\n"));
    assert!(has(&text, "ok ", "lines will be received on"), "a socket that was left behind: {text}");
    assert!(dir.path().join("taken.sock").exists(), "check removed it");
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (status, text) = with_logs(&format!("  - socket: udp:{}\n", udp.local_addr().unwrap()));
    assert!(status == 1 && has(&text, "fail", "name another port"), "{text}");

    // A packed file: nobody adds to it.
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, TRAFFIC.as_bytes()).unwrap();
    std::fs::write(dir.path().join("mail.log.1.gz"), packed.finish().unwrap()).unwrap();
    let (status, text) = with_logs(&format!("  - path: {here}/mail.log.1.gz\n"));
    assert!(status == 1 && has(&text, "fail", "mail.log.1.gz is packed"), "{text}");
    assert!(text.is_ascii() || !text.contains('\u{fffd}'), "raw bytes: {text}");

    // Beside its log it is one that a first start reads.
    std::fs::write(&config, &plain).unwrap();
    let (status, text) = check(&config, &[]);
    assert!(status == 0 && has(&text, "ok ", "mail.log: 1 rotated file, the oldest last written "), "{text}");
    assert!(text.contains("a first start reads all of them (backfill)"), "{text}");
    assert!(has(&text, "warn", "lines about mail, of the last") && text.contains("; the newest is "), "{text}");

    // The store is damaged.
    std::fs::create_dir(dir.path().join("state")).unwrap();
    let store = dir.path().join("state/sendwarden.db");
    std::fs::write(&store, "not a store at all").unwrap();
    let (status, text) = check(&config, &[]);
    assert!(status == 1 && has(&text, "fail", "store: cannot open the store"), "{text}");
    assert!(text.contains("--new-store`, with the --config"), "{text}");
    assert_eq!(std::fs::read_to_string(&store).unwrap(), "not a store at all");
    std::fs::remove_file(&store).unwrap();

    // A place that keeps nothing.
    std::fs::write(&config, plain.replace(&format!("{here}/state"), "/proc/sendwarden")).unwrap();
    let (status, text) = check(&config, &[]);
    assert!(status == 1 && has(&text, "fail", "/proc/sendwarden cannot be kept: /proc is on a file system"), "{text}");
}

/// Pages of the middle are gone: what stands at the beginning looks right.
#[test]
fn a_store_with_a_hole_is_told_and_a_whole_one_is_sound() {
    let (dir, config) = host(free_port(), "");
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    drop(sendwarden::store::Store::open(&state, sendwarden::store::Settings::default()).unwrap());
    let (status, text) = check(&config, &[]);
    assert!(status == 0 && has(&text, "ok ", "sendwarden.db is sound"), "{text}");
    let path = state.join("sendwarden.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let half = bytes.len() / 2;
    bytes[half..].fill(0x5a);
    std::fs::write(&path, &bytes).unwrap();
    let (status, text) = check(&config, &[]);
    assert!(status == 1 && has(&text, "fail", "store: ") && text.contains("it is damaged"), "{text}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "check changed it");
}

/// Exim that does not log recipients: what that costs is told where no Exim is installed that could be asked, too.
#[test]
fn a_log_that_names_no_recipients_is_told_with_what_it_costs() {
    let (dir, config) = host(free_port(), "");
    let log = dir.path().join("mail.log");
    let line = |rest: &str| format!("2026-11-23 10:35:32 1xVROW-0001BH-2c <= w@l.test U=web1 P=local S=360{rest}\n");
    std::fs::write(&log, line("")).unwrap();
    let (_, text) = check(&config, &[]);
    let cost = "counts as one recipient until lines of its deliveries name more";
    assert!(text.contains(cost) && text.contains("+received_recipients"), "{text}");
    std::fs::write(&log, line(" for a@d.test")).unwrap();
    let (_, text) = check(&config, &[]);
    assert!(!has(&text, "warn  log", cost), "{text}");
}

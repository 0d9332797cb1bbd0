//! Situations of the joiner, line by line. The many interleavings are in `tests/script_properties.rs`.

use super::*;

fn spot(pid: u32, at: i64) -> Spot {
    Spot { host: 0, instance: 0, pid, at: Time::from_secs(at) }
}

fn id(n: u32) -> QueueId {
    QueueId::new(format!("1xVRO{n}-0001BH-2c").as_bytes()).unwrap()
}

struct Log(Scripts);

impl Log {
    fn new() -> Log {
        Log(Scripts::new(true))
    }

    fn command(&mut self, pid: u32, at: i64, directory: &str, many: bool) {
        let from = ScriptSource::Command { many };
        let directory = directory.as_bytes();
        let script = Script { id: None, from, uid: None, directory, path: b"", line: 0, recipients: b"" };
        self.0.claimed(spot(pid, at), &script);
    }

    fn rule(&mut self, at: i64, message: u32, path: &str) {
        let (id, from, path) = (Some(id(message)), ScriptSource::Rule, path.as_bytes());
        let script = Script { id, from, uid: None, directory: b"", path, line: 0, recipients: b"" };
        self.0.claimed(spot(0, at), &script);
    }

    /// Directory and path of the message that arrives.
    fn arrival(&mut self, pid: u32, at: i64, message: u32) -> (String, String) {
        let claim = self.0.submitted(spot(pid, at), id(message));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&claim.directory), text(&claim.path))
    }

    fn directory(&mut self, pid: u32, at: i64) -> String {
        self.arrival(pid, at, 0).0
    }
}

#[test]
fn the_process_id_joins_whatever_stands_between() {
    let mut log = Log::new();
    log.command(7, 100, "/a", false);
    log.command(8, 100, "/b", false);
    assert_eq!((log.directory(8, 101), log.directory(7, 400)), ("/b".into(), "/a".into()));
    assert_eq!(log.directory(7, 401), "", "a process submits one message");
    log.command(9, 500, "/c", true);
    assert_eq!((log.directory(9, 500), log.directory(9, 900)), ("/c".into(), "/c".into()), "SMTP on its input");
    assert_eq!(log.directory(9, 900 + 601), "", "the number is another process's by now");
    log.command(10, 2_000, "/old", false);
    log.command(10, 2_001, "/new", false);
    assert_eq!(log.directory(10, 2_001), "/new");
}

#[test]
fn without_process_ids_only_the_one_under_way() {
    let mut log = Log::new();
    log.command(0, 100, "/a", false);
    assert_eq!(log.directory(0, 100), "/a");
    assert_eq!(log.directory(0, 100), "", "it is used up");
    log.command(0, 101, "/a", false);
    log.command(0, 101, "/b", false);
    assert_eq!((log.directory(0, 101), log.directory(0, 101)), (String::new(), String::new()), "either could be");
    log.command(0, 102, "/c", false);
    assert_eq!(log.directory(0, 102), "/c", "both have arrived");
    log.command(0, 103, "/slow", false);
    assert_eq!(log.directory(0, 104), "", "not in the same second");
}

#[test]
fn a_slow_process_keeps_its_directory_from_others() {
    let mut log = Log::new();
    log.command(0, 100, "/slow", false);
    log.command(0, 200, "/quick", false);
    // The slow one's message arrives right behind the quick one's command line.
    assert_eq!(log.directory(0, 200), "");
    log.command(0, 900, "/later", false);
    assert_eq!(log.directory(0, 900), "/later", "a process that says nothing for ten minutes has ended");
}

#[test]
fn one_that_submits_several_is_under_way_until_it_is_forgotten() {
    let mut log = Log::new();
    log.command(0, 100, "/smtp", true);
    assert_eq!((log.directory(0, 100), log.directory(0, 100)), ("/smtp".into(), "/smtp".into()));
    log.command(0, 101, "/a", false);
    assert_eq!((log.directory(0, 101), log.directory(0, 101)), (String::new(), String::new()));
    log.command(0, 102, "/b", false);
    assert_eq!(log.directory(0, 102), "", "its further messages cannot be counted");
}

#[test]
fn more_than_can_be_told_apart_is_told_of_nobody() {
    let mut log = Log::new();
    for n in 0..65 {
        log.command(0, 100, &format!("/{n}"), false);
    }
    log.command(0, 101, "/a", false);
    assert_eq!(log.directory(0, 101), "");
    log.command(0, 701, "/b", false);
    assert_eq!(log.directory(0, 701), "/b");
}

#[test]
fn what_waits_is_bounded() {
    let mut log = Log::new();
    for n in 0..10_000 {
        log.command(n + 1, 100, "/a", false);
        log.rule(100, n, "a.php");
    }
    assert!(log.0.commands.by_pid.len() <= 4_096 && log.0.rules.len() <= MOST_RULES);
    for host in 0..200 {
        let from = ScriptSource::Command { many: false };
        let script = Script { id: None, from, uid: None, directory: b"/", path: b"", line: 0, recipients: b"" };
        log.0.claimed(Spot { host, ..spot(0, 100) }, &script);
    }
    assert!(log.0.commands.lanes.len() <= 64);
}

#[test]
fn a_rule_names_its_message_and_adds_to_the_command() {
    let mut log = Log::new();
    log.command(7, 100, "/home/web1", false);
    log.rule(100, 1, "mailer.php");
    log.rule(100, 2, "other.php");
    assert_eq!(log.arrival(7, 101, 1), ("/home/web1".into(), "mailer.php".into()));
    assert_eq!(log.arrival(0, 101, 1), (String::new(), String::new()));
    assert_eq!(log.0.named(spot(0, 701), id(2)), ScriptClaim::default(), "long ago");
}

/// Calls and messages of users; a user's scripts lie in `/UID/`.
struct Host(Scripts);

impl Host {
    fn call(&mut self, at: i64, path: &str, to: &[u64]) {
        let from = ScriptSource::Interpreter;
        let path = path.as_bytes();
        let script = Script { id: None, from, uid: None, directory: b"", path, line: 7, recipients: b"" };
        self.0.called(Time::from_secs(at), &script, to.to_vec());
    }

    fn arrives(&mut self, uid: u32, at: i64) {
        self.0.user_submitted(uid, Time::from_secs(at));
    }

    /// The script of the user's message that arrived at `at` and goes to `to`.
    fn script(&mut self, uid: u32, at: i64, to: u64) -> String {
        let home = format!("/{uid}/");
        let claim = self.0.made_by(uid, Time::from_secs(at), &[to, 0], |path| path.starts_with(home.as_bytes()));
        claim.map_or_else(String::new, |claim| String::from_utf8_lossy(&claim.path).into_owned())
    }
}

fn host() -> Host {
    Host(Scripts::new(true))
}

#[test]
fn a_call_makes_one_message_of_its_user_to_its_recipient() {
    let mut host = host();
    host.call(100, "/1/a.php", &[5, 6]);
    host.call(100, "/2/b.php", &[5]);
    host.arrives(1, 101);
    host.arrives(2, 101);
    assert_eq!(host.script(1, 101, 9), "", "another recipient");
    assert_eq!((host.script(2, 101, 5), host.script(1, 101, 6)), ("/2/b.php".into(), "/1/a.php".into()));
    assert_eq!(host.script(1, 101, 6), "", "it is used up");
}

#[test]
fn calls_that_fit_and_name_different_scripts_leave_it_without() {
    let mut host = host();
    host.call(100, "/1/a.php", &[5]);
    host.call(100, "/1/b.php", &[5]);
    host.arrives(1, 100);
    host.arrives(1, 100);
    assert_eq!(host.script(1, 100, 5), "");
    host.call(200, "/1/a.php", &[5]);
    host.call(200, "/1/a.php", &[5]);
    host.arrives(1, 200);
    host.arrives(1, 200);
    assert_eq!((host.script(1, 200, 5), host.script(1, 200, 5)), ("/1/a.php".into(), "/1/a.php".into()));
}

#[test]
fn more_messages_than_calls_come_from_elsewhere() {
    let mut host = host();
    host.call(100, "/1/a.php", &[5]);
    host.arrives(1, 100);
    host.arrives(1, 100);
    assert_eq!(host.script(1, 100, 5), "", "one of them was not made by the interpreter");
    host.call(111, "/1/a.php", &[5]);
    host.arrives(1, 111);
    assert_eq!(host.script(1, 111, 5), "/1/a.php");
}

#[test]
fn calls_and_messages_belong_to_one_moment() {
    let mut host = host();
    host.call(100, "/1/a.php", &[5]);
    host.arrives(1, 99);
    assert_eq!(host.script(1, 98, 5), "", "a message does not come before its call");
    host.arrives(1, 111);
    assert_eq!(host.script(1, 111, 5), "", "nor long after it");
    host.call(300, "/1/a.php", &[5]);
    assert_eq!(host.script(1, 300, 5), "", "a message whose arrival is not known here");
}

#[test]
fn calls_are_bounded_and_cleared() {
    let mut host = host();
    for n in 0..10_000 {
        host.call(100, "/1/a.php", &[5]);
        host.arrives(n, 100);
        host.arrives(1, 100);
    }
    assert!(host.0.calls.list.len() <= 4_096 && host.0.calls.arrivals.len() <= 4_096);
    assert_eq!(host.script(1, 100, 5), "", "more messages than are counted");
    host.0.clear();
    assert!(!host.0.hears_calls() && host.0.calls.arrivals.len() == 0);
}

#[test]
fn addresses_of_a_header() {
    let found = |text: &str| -> Vec<String> {
        addresses(text.as_bytes()).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    };
    assert_eq!(found("Name <x@y.test>, z@w.test;(c@d) \"e@f\" g"), ["x@y.test", "z@w.test", "c@d", "e@f"]);
    assert_eq!(found("undisclosed-recipients:;"), [""; 0]);
    assert_eq!(found(&"a@b,".repeat(1_000)).len(), 16);
}

#[test]
fn everything_comes_back_from_its_rows() {
    let mut log = Log::new();
    log.command(7, 100, "/a", false);
    log.command(0, 100, "/b", false);
    log.rule(100, 1, "mailer.php");
    let mut calling = Host(log.0);
    calling.call(100, "/1/a.php", &[5]);
    calling.arrives(1, 100);
    let mut log = Log(calling.0);
    let mut restored = Log::new();
    log.0.take_rows(|key, value| assert_eq!(restored.0.restore_row(&key, &value.unwrap()), Some(())));
    assert_eq!(restored.arrival(7, 100, 1), log.arrival(7, 100, 1));
    assert_eq!(restored.directory(0, 100), "/b");
    let mut calling = Host(restored.0);
    assert_eq!(calling.script(1, 100, 5), "/1/a.php");
    let mut restored = Log(calling.0);
    assert_eq!(restored.0.restore_row(&[9], &[1]), None);
    let mut gone = Vec::new();
    log.0.take_rows(|_, value| gone.push(value.is_none()));
    assert_eq!(gone, [true, true], "what was used is taken out of the store");
}

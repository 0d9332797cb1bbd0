//! Rules tried on old logs: what armed rules would have held, which verdicts are new against the present rules, and limits
//! that are suggested. On generated logs of Postfix whose truth is known by construction; what is counted here is counted
//! from the generated messages, not by the engine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test"
)]
#![allow(clippy::disallowed_methods, reason = "tests start processes")]

use fastrand::Rng;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// Monday, 2 November 2026.
const START: i64 = 1_793_577_600;

/// How a recipient ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Sent,
    Unknown,
    Spam,
}

#[derive(Debug, Clone)]
enum By {
    Script(u32),
    /// A login, from an address.
    Login(String, u32),
    /// SMTP from this host, without a login.
    Local,
}

impl By {
    fn account(&self) -> Result<u32, &str> {
        match self {
            By::Script(uid) => Ok(*uid),
            By::Login(login, _) => Err(login),
            By::Local => Err(""),
        }
    }
}

#[derive(Debug, Clone)]
struct Message {
    at: i64,
    by: By,
    ends: Vec<End>,
    sender: String,
    /// Whom it is for, where that matters, and the script that it names.
    whom: Option<String>,
    script: Option<&'static str>,
}

#[derive(Default)]
struct Log(Vec<Message>);

impl Log {
    fn script(&mut self, at: i64, uid: u32, ends: &[End]) {
        let sender = format!("www@site{uid}.test");
        self.push(at, By::Script(uid), ends, sender);
    }

    fn push(&mut self, at: i64, by: By, ends: &[End], sender: String) {
        self.0.push(Message { at, by, ends: ends.to_vec(), sender, whom: None, script: None });
    }

    /// To one recipient, by a script that may be named.
    fn to(&mut self, at: i64, uid: u32, whom: &str, script: Option<&'static str>) {
        self.script(at, uid, &[End::Sent]);
        if let Some(message) = self.0.last_mut() {
            (message.whom, message.script) = (Some(whom.to_owned()), script);
        }
    }

    fn login(&mut self, at: i64, login: &str, address: u32, recipients: usize) {
        let (by, sender) = (By::Login(login.to_owned(), address), "me@logins.test".to_owned());
        self.push(at, by, &vec![End::Sent; recipients], sender);
    }

    /// As Postfix writes it. No message waits.
    fn text(&mut self) -> String {
        self.0.sort_by_key(|message| message.at);
        let mut out = String::new();
        for (n, Message { at, by, ends, sender, whom, script }) in self.0.iter().enumerate() {
            let stamp = jiff::Timestamp::from_second(*at).unwrap().strftime("%Y-%m-%dT%H:%M:%S.000000+00:00");
            let id = format!("{:010X}", 0xA000_0000_u64 + n as u64);
            let mut line =
                |daemon: &str, what: &str| writeln!(out, "{stamp} mx postfix/{daemon}[7]: {id}: {what}").unwrap();
            match by {
                By::Script(uid) => line("pickup", &format!("uid={uid} from=<{sender}>")),
                By::Local => line("smtpd", "client=localhost[127.0.0.1]"),
                By::Login(login, address) => {
                    let client = format!("client=c.test[198.51.{}.{}]", address / 250, address % 250 + 1);
                    line("submission/smtpd", &format!("{client}, sasl_method=PLAIN, sasl_username={login}"));
                }
            }
            if let (Some(script), By::Script(uid)) = (script, by) {
                line(
                    "cleanup",
                    &format!("info: header X-PHP-Originating-Script: {uid}:{script} from local; from=<{sender}>"),
                );
            }
            line("cleanup", &format!("message-id=<{n}@mx.test>"));
            line("qmgr", &format!("from=<{sender}>, size=900, nrcpt={} (queue active)", ends.len()));
            for (r, end) in ends.iter().enumerate() {
                let relay = "mx.far.test[192.0.2.1]";
                let to = whom.clone().unwrap_or_else(|| format!("r{n}x{r}@far.test"));
                let (dsn, status, said) = match end {
                    End::Sent => ("2.0.0", "sent", "250 2.0.0 Ok: queued".to_owned()),
                    End::Unknown => (
                        "5.1.1",
                        "bounced",
                        format!(
                            "host {relay} said: 550 5.1.1 <{to}>: Recipient address rejected: User unknown (in reply to RCPT TO command)"
                        ),
                    ),
                    End::Spam => (
                        "5.7.1",
                        "bounced",
                        format!(
                            "host {relay} said: 554 5.7.1 Message rejected as spam (in reply to end of DATA command)"
                        ),
                    ),
                };
                line(
                    "smtp",
                    &format!(
                        "to=<{to}>, relay={relay}:25, delay=1, delays=0/0/1/0, dsn={dsn}, status={status} ({said})"
                    ),
                );
            }
            line("qmgr", "removed");
        }
        out
    }
}

/// A folder with the log, and the names of its uids.
struct Place {
    dir: tempfile::TempDir,
    log: PathBuf,
}

impl Place {
    fn new(log: &mut Log) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mail.log");
        fs::write(&path, log.text()).unwrap();
        fs::write(dir.path().join("passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        Place { dir, log: path }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn run(&self, args: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sendwarden"));
        let passwd = self.dir.path().join("passwd");
        let got = command.args(args).arg("--passwd").arg(&passwd).arg(&self.log).output().unwrap();
        let err = String::from_utf8(got.stderr).unwrap();
        assert!(got.status.success() && err.is_empty(), "{args:?}: {:?}: {err}", got.status);
        String::from_utf8(got.stdout).unwrap()
    }

    fn replay(&self, config: &Path, more: &[&str]) -> Value {
        let args = [&["replay", "--format", "json", "--config", config.to_str().unwrap()], more].concat();
        serde_json::from_str(&self.run(&args)).unwrap()
    }
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("no list {key} in {value}"))
}

fn word(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("no text {key} in {value}")).to_owned()
}

fn time(value: &Value, key: &str) -> i64 {
    word(value, key).parse::<jiff::Timestamp>().unwrap().as_second()
}

/// Which rules speak of whom.
fn pairs(answer: &Value, key: &str) -> BTreeSet<(String, String)> {
    list(answer, key).iter().map(|one| (word(one, "account"), word(one, "rule"))).collect()
}

// ---- suggest ----

/// The login of somebody who would like to write into a configuration.
const HOSTILE: &str = "box: \"#{}\\n- name: x@site.test";

/// 240 accounts and 60 logins over two weeks, among them some that send newsletters, as ordinary people do: few send much.
fn population(dice: &mut Rng) -> Log {
    let mut log = Log::default();
    // The sum of twelve is near enough to a normal distribution.
    let normal = |dice: &mut Rng| (0..12).map(|_| dice.f64()).sum::<f64>() - 6.0;
    for n in 0..240 {
        let (uid, scale) = (5_000 + n, (normal(dice) * 0.9).exp() * 2.0);
        for day in 0..14 {
            for _ in 0..(scale * dice.f64() * 2.0) as u32 {
                let end = match dice.u32(..1_000) {
                    0..12 => End::Unknown,
                    12..15 => End::Spam,
                    _ => End::Sent,
                };
                let ends = vec![end; dice.usize(1..3)];
                log.script(START + day * DAY + dice.i64(6 * HOUR..22 * HOUR), uid, &ends);
            }
        }
    }
    // Newsletters on Tuesdays, of different sizes, a few addresses in them are dead.
    for (n, size) in [60, 90, 130, 170, 230, 300].into_iter().enumerate() {
        for week in 0..2 {
            let at = START + DAY + week * 7 * DAY + 9 * HOUR;
            for sent in 0..size / 10 {
                let dead = if sent < 3 { End::Unknown } else { End::Sent };
                let ends = [vec![dead], vec![End::Sent; 9]].concat();
                log.script(at + i64::from(sent) * 20, 5_000 + n as u32 * 31, &ends);
            }
        }
    }
    for n in 0..60 {
        let login = format!("box{n}@site.test");
        for day in 0..14 {
            for _ in 0..dice.u32(..8) {
                let at = START + day * DAY + dice.i64(6 * HOUR..22 * HOUR);
                log.login(at, &login, n * 3 + dice.u32(..3), dice.usize(1..4));
            }
        }
    }
    log
}

/// Accounts that should be caught, with a rule that has to.
fn abusers(log: &mut Log) -> BTreeMap<String, &'static str> {
    let at = START + 9 * DAY + 3 * HOUR;
    for n in 0..600 {
        log.script(at + n * 5, 6_001, &[End::Sent; 10]);
    }
    for n in 0..150 {
        let end = if n % 3 > 0 { End::Unknown } else { End::Sent };
        log.script(at + n * 20, 6_002, &[end]);
    }
    for n in 0..60 {
        log.script(at + n * 40, 6_003, &[End::Spam]);
    }
    // Days later they hardly send: the busiest window is what counts.
    for (uid, end) in [(6_001, End::Sent), (6_002, End::Unknown), (6_003, End::Spam)] {
        log.script(at + 3 * DAY, uid, &[end]);
    }
    // Never more than 180 an hour, but day and night.
    for n in 0..48 * 18 {
        log.script(at + n * 200, 6_004, &[End::Sent; 10]);
    }
    for n in 0..70 {
        log.login(at + n * 30, HOSTILE, 1_000 + n as u32, 10);
    }
    [
        ("uid6001", "recipients_per_hour"),
        ("uid6002", "unknown_recipients"),
        ("uid6003", "spam_verdicts"),
        ("uid6004", "recipients_per_day"),
        (HOSTILE, "login_addresses"),
    ]
    .map(|(account, rule)| (account.to_ascii_lowercase(), rule))
    .into()
}

#[test]
fn suggested_limits_hit_every_abuser_and_nobody_else() {
    for seed in 0..6 {
        let mut log = population(&mut Rng::with_seed(0x5eed_0500 + seed));
        let guilty = abusers(&mut log);
        let place = Place::new(&mut log);
        let senders: BTreeSet<String> = log.0.iter().map(|message| format!("{:?}", message.by.account())).collect();
        let scripts = senders.iter().filter(|sender| sender.starts_with("Ok")).count();
        let logins = senders.len() - scripts;
        let suggested: Value = serde_json::from_str(&place.run(&["suggest", "--format", "json"])).unwrap();
        let yaml = place.run(&["suggest"]);
        let answer = place.replay(&place.write("suggested.yaml", &yaml), &[]);

        let spoken = pairs(&answer, "verdicts");
        let whom: BTreeSet<String> = spoken.iter().map(|(account, _)| account.clone()).collect();
        assert_eq!(whom, guilty.keys().cloned().collect(), "seed {seed}: {spoken:?}\n{yaml}");
        for (account, rule) in &guilty {
            assert!(spoken.contains(&(account.clone(), (*rule).to_owned())), "{rule} spares {account}: {spoken:?}");
        }
        // Whom a limit would hit is what replay says, and the file has the same limits.
        let hits = |rule: &Value| {
            let name = word(rule, "name");
            list(rule, "hits").iter().map(move |hit| (word(hit, "account"), name.clone())).collect::<Vec<_>>()
        };
        let told: BTreeSet<(String, String)> = list(&suggested, "rules").iter().flat_map(hits).collect();
        assert_eq!(told, spoken);
        for rule in list(&suggested, "rules") {
            let entry = format!(
                "  - name: {}\n    limit: {}",
                word(rule, "name"),
                rule["limit"].to_string().trim_end_matches(".0")
            );
            assert!(yaml.contains(&entry), "no {entry} in\n{yaml}");
            assert_eq!(rule["population"], if rule["scope"] == "login" { logins } else { scripts });
        }
        assert!(list(&answer, "verdicts").iter().all(|verdict| verdict["outcome"] == "observed"));
        assert_eq!(answer["would_hold"]["messages"], 0);
        // The busiest windows, where the truth is plain: all of a burst is within one.
        for (rule, account, observed) in [
            ("recipients_per_hour", "uid6001", 6_000),
            ("unknown_recipients", "uid6002", 100),
            ("spam_verdicts", "uid6003", 60),
            ("login_recipients_per_hour", HOSTILE, 700),
            ("login_addresses", HOSTILE, 70),
        ] {
            let of = list(&suggested, "rules").iter().find(|one| word(one, "name") == rule).unwrap();
            let hit = list(of, "hits").iter().find(|hit| word(hit, "account") == account.to_ascii_lowercase()).unwrap();
            assert_eq!(hit["observed"], observed, "{rule} of {account}");
        }
        assert_eq!(place.run(&["suggest"]), yaml, "the same twice");
    }
}

#[test]
fn of_few_accounts_and_of_no_mail_nothing_is_learnt() {
    let mut log = Log::default();
    for n in 0..500 {
        log.script(START + n, 5_000 + (n % 3) as u32, &[End::Sent; 20]);
    }
    let place = Place::new(&mut log);
    let yaml = place.run(&["suggest"]);
    assert!(yaml.contains("limit: 2000    # as built in") && yaml.contains("only 3 accounts sent"), "{yaml}");
    assert!(
        yaml.contains("would have hit 3 accounts") && yaml.contains("uid5000: 3 340 (1.7 times the limit)"),
        "{yaml}"
    );
    assert!(yaml.contains("less than a week"), "{yaml}");
    let empty = place.write("empty.log", "Nov  2 10:00:00 mx sshd[1]: nothing about mail\n");
    let got = Command::new(env!("CARGO_BIN_EXE_sendwarden")).arg("suggest").arg(&empty).output().unwrap();
    let err = String::from_utf8(got.stderr).unwrap();
    assert!(got.status.code() == Some(1) && got.stdout.is_empty() && err.contains("nothing to learn from"), "{err}");
}

// ---- what needs a past, or names scripts ----

/// Limits that are crossed by the one beyond 60 of a burst.
const YOUNG: &str = "rules:\n\
    - {name: strangers, signal: new_recipients, window: 1h, limit: 60}\n\
    - {name: script, signal: scripts, window: 1h, limit: 60}\n\
    - {name: history, signal: against_history, window: 1h, limit: 10, floor: 60}\n";

#[test]
fn new_recipients_scripts_and_history_are_judged_from_old_logs() {
    let mut log = Log::default();
    let burst = START + 20 * DAY + 3 * HOUR + 60;
    for n in 0..20 {
        for uid in [7_001, 7_002, 7_003, 7_004] {
            log.to(START + n * DAY + 9 * HOUR, uid, "office@far.test", Some("form.php"));
        }
        // Every night as much as in the burst, to the same people.
        for r in 0..100 {
            log.to(START + n * DAY + 3 * HOUR + 60 + r, 7_003, &format!("reader{r}@far.test"), None);
        }
    }
    for r in 0..100 {
        // To people nobody wrote to, by one script; in 7002 by many, and to one who is known. 7005 was never heard of.
        let scripts = ["a.php", "b.php", "c.php", "d.php"];
        log.to(burst + r, 7_001, &format!("stranger{r}@far.test"), Some("form.php"));
        log.to(burst + r, 7_002, "office@far.test", Some(scripts[r as usize % 4]));
        log.to(burst + r, 7_003, &format!("reader{r}@far.test"), None);
        log.to(burst + r, 7_005, &format!("stranger{r}@far.test"), Some("form.php"));
    }
    // A message is one, however many it is for.
    for n in 0..40 {
        log.script(burst + n, 7_006, &[End::Sent; 3]);
        log.0.last_mut().unwrap().script = Some("list.php");
    }
    let place = Place::new(&mut log);
    let answer = place.replay(&place.write("young.yaml", YOUNG), &[]);
    let of = |account: &str, rule: &str| {
        let its = list(&answer, "verdicts").iter().find(|one| one["account"] == account && one["rule"] == rule);
        its.map(|one| (one["observed"].as_f64().unwrap(), one["limit"].as_f64().unwrap(), time(one, "time") - burst))
    };
    // Usual is one message at most: at the 60th message it is 60 times.
    assert_eq!(of("uid7001", "strangers"), Some((61.0, 60.0, 60)));
    assert_eq!(of("uid7001", "script"), Some((61.0, 60.0, 60)));
    assert_eq!(of("uid7001", "history"), Some((60.0, 10.0, 59)));
    assert_eq!(of("uid7002", "strangers"), None);
    assert_eq!(of("uid7002", "script"), None);
    assert_eq!(of("uid7002", "history"), Some((60.0, 10.0, 59)));
    // A nightly newsletter is what is usual, and nothing is known of a new account but its scripts.
    for rule in ["strangers", "script", "history"] {
        let seen = of("uid7005", rule);
        assert_eq!((of("uid7003", rule), seen.is_some()), (None, rule == "script"), "{rule}");
        assert_eq!(of("uid7006", rule), None, "{rule}");
    }
    let text = place.run(&["replay", "--config", place.write("young.yaml", YOUNG).to_str().unwrap()]);
    for said in [
        "61 new recipients in 1h, limit 60 ",
        "61 messages of one script in 1h, limit 60 ",
        "60.0 times the usual messages in 1h, limit 10.0 times ",
    ] {
        assert!(text.contains(said), "no {said} in\n{text}");
    }
    let suggested = place.run(&["suggest"]);
    for said in ["new recipients of scripts within", "messages of one script within", "limit: 20    # as built in"] {
        assert!(suggested.contains(said), "no {said} in\n{suggested}");
    }
}

// ---- what would be held ----

const ACCOUNTS: &str = "accounts:\n\
    - {id: shop, uids: [7001], logins: [box@shop.test]}\n\
    - {id: blog, uids: [7002], logins: [box@blog.test]}\n\
    - {id: vip, uids: [7003]}\n\
    - {id: claimed, domains: [claimed.test]}\n\
    - {id: long, uids: [7005]}\n\
    - {id: quiet, uids: [7006]}\n";

/// Rules, and what a block of each covers. Different signals or scopes: no verdict of one is another's.
const ARMED: &str = "enforcement: {exempt: [vip]}\nrules:\n\
    - {name: script, signal: messages, window: 1h, limit: 10, action: block, duration: 2h}\n\
    - {name: login, signal: messages, scope: login, window: 1h, limit: 15, action: block, duration: 90m}\n\
    - {name: forever, signal: recipients, window: 1h, limit: 400, action: block}\n\
    - {name: told, signal: messages, window: 2h, limit: 12, action: notify}\n";

fn mixed(dice: &mut Rng) -> Log {
    let mut log = Log::default();
    // No two messages of one second, so that a verdict's stamp says between which messages it came.
    let mut at = START;
    while at < START + 10 * DAY + 4 * HOUR {
        at += dice.i64(1..60);
        // Loud for some hours, quiet for others.
        let loud = (at - START) / (5 * HOUR) % 3 == 0;
        match dice.u32(..100) {
            _ if !loud && dice.u32(..10) > 0 => {}
            0..30 => log.script(at, 7_001, &[End::Sent]),
            30..55 => log.login(at, "Box@shop.test", 1, 1),
            55..75 => log.script(at, 7_002, &[End::Sent; 2]),
            75..80 => log.login(at, "box@blog.test", 2, 1),
            80..88 => log.script(at, 7_003, &[End::Sent]),
            88..95 => {
                let sender = "w@claimed.test".to_owned();
                log.push(at, By::Local, &[End::Sent], sender);
            }
            _ => log.script(at, 7_005, &[End::Sent]),
        }
        if (at - START) / 60 == 3 * 24 * 60 {
            at += 1;
            log.script(at, 7_005, &[End::Sent; 500]);
        }
    }
    log.script(at + 1, 7_006, &[End::Sent]);
    log
}

#[test]
fn what_blocks_would_have_held_is_what_a_plain_count_says() {
    let (mut goes_on, mut again, mut to_the_end) = (0, 0, 0);
    for seed in 0..4 {
        let mut log = mixed(&mut Rng::with_seed(0x5eed_4e1d + seed));
        let place = Place::new(&mut log);
        let accounts = place.write("accounts.yaml", ACCOUNTS);
        let config = place.write("new.yaml", &format!("accounts_file: {}\n{ARMED}", accounts.display()));
        let answer = place.replay(&config, &[]);
        let verdicts = list(&answer, "verdicts");
        for account in ["vip", "claimed", "quiet"] {
            assert!(verdicts.iter().all(|one| one["account"] != account || one["outcome"] != "blocked"));
        }
        for outcome in ["exempt", "claimed_evidence", "notified", "blocked"] {
            assert!(verdicts.iter().any(|one| one["outcome"] == outcome), "{outcome} never occurred");
        }
        let last = log.0.last().unwrap().at;
        // What an account sends under a scope.
        let sent = |account: &str, scope: &str| -> Vec<i64> {
            let its = |message: &&Message| match (&message.by, account, scope) {
                (By::Script(7_001), "shop", "script" | "all") | (By::Script(7_002), "blog", "script" | "all") => true,
                (By::Script(7_005), "long", "script") => true,
                (By::Login(login, _), "shop", "all" | "login:box@shop.test") => {
                    login.eq_ignore_ascii_case("box@shop.test")
                }
                (By::Login(login, _), "blog", "all" | "login:box@blog.test") => login == "box@blog.test",
                _ => false,
            };
            log.0.iter().filter(its).map(|message| message.at).collect()
        };
        // Blocks of an account in the order of time: each begins anew or adds to the one before.
        let (mut by_account, mut by_rule) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, u64>::new());
        let whom: BTreeSet<String> = verdicts.iter().map(|one| word(one, "account")).collect();
        for account in &whom {
            let blocks: Vec<&Value> = verdicts
                .iter()
                .filter(|one| {
                    one["account"] == **account
                        && one["action"] == "block"
                        && one["outcome"] != "exempt"
                        && one["outcome"] != "claimed_evidence"
                })
                .collect();
            // Scope, begin, end as counted, end by itself.
            let mut standing: Option<(String, i64, Option<i64>)> = None;
            let ends =
                |(_, since, until): &(String, i64, Option<i64>)| until.unwrap_or(i64::MAX).min(since + 72 * HOUR);
            let mut made: Vec<(usize, String, i64, i64)> = Vec::new();
            for (n, block) in blocks.iter().enumerate() {
                let (at, scope) = (time(block, "time"), word(block, "scope"));
                let until = match word(block, "rule").as_str() {
                    "script" => Some(at + 2 * HOUR),
                    "login" => Some(at + 90 * 60),
                    _ => None,
                };
                let new = match standing.take().filter(|old| at < ends(old)) {
                    None => (scope, at, until),
                    Some(old) => {
                        let wider = if old.0 == scope { scope } else { "all".to_owned() };
                        let longer = old.2.zip(until).map(|(a, b)| a.max(b));
                        if (&wider, longer) == (&old.0, old.2) {
                            assert_eq!(block["outcome"], "already_blocked", "{block}");
                            standing = Some(old);
                            again += 1;
                            continue;
                        }
                        // What comes from now on is held by this one.
                        made.last_mut().unwrap().3 = at + 1;
                        goes_on += 1;
                        (wider, old.1, longer)
                    }
                };
                assert_eq!(block["outcome"], "blocked", "{block}");
                assert_eq!(time(block, "until"), ends(&new), "{block}");
                made.push((n, new.0.clone(), at + 1, ends(&new)));
                to_the_end += u32::from(ends(&new) > last);
                standing = Some(new);
            }
            for (n, scope, from, end) in made {
                let expected = sent(account, &scope).iter().filter(|at| (from..end).contains(*at)).count() as u64;
                assert_eq!(blocks[n]["held"], expected, "seed {seed}: {}", blocks[n]);
                *by_account.entry(account.clone()).or_default() += expected;
                *by_rule.entry(word(blocks[n], "rule")).or_default() += expected;
            }
        }
        let told = |key: &str| -> BTreeMap<String, u64> {
            let all = answer["would_hold"][key].as_object().unwrap();
            all.iter().map(|(name, its)| (name.clone(), its["messages"].as_u64().unwrap())).collect()
        };
        assert_eq!((told("by_account"), told("by_rule")), (by_account.clone(), by_rule.clone()));
        assert_eq!(answer["would_hold"]["messages"], by_account.values().sum::<u64>());
        assert_eq!(by_rule.len(), 3, "every armed rule blocks");
        assert!(by_rule.values().all(|n| *n > 0), "{by_rule:?}");
        let text = place.run(&["replay", "--config", config.to_str().unwrap()]);
        for (account, n) in &by_account {
            let row = |line: &str| line.split_whitespace().take(2).eq([account.as_str(), n.to_string().as_str()]);
            assert!(text.lines().any(row), "no row of {account} with {n} in\n{text}");
        }
    }
    assert!(goes_on > 10 && again > 10 && to_the_end > 0, "{goes_on} {again} {to_the_end}");
}

// ---- --against ----

#[test]
fn what_is_new_gone_and_the_same_against_the_present_rules() {
    let mut log = Log::default();
    // The n-th account sends 10 n messages at once.
    for n in 1..=12_u32 {
        for sent in 0..10 * n {
            log.script(START + i64::from(sent) * 2, 7_100 + n, &[End::Sent]);
        }
    }
    let place = Place::new(&mut log);
    let rule = |name: &str, limit: u32, action: &str| {
        format!("  - {{name: {name}, signal: messages, window: 1h, limit: {limit}, action: {action}, duration: 1h}}\n")
    };
    let new = format!("rules:\n{}{}", rule("burst", 35, "block"), rule("now", 115, "notify"));
    let old = format!("rules:\n{}{}", rule("burst", 55, "block"), rule("before", 105, "observe"));
    let (new, old) = (place.write("new.yaml", &new), place.write("old.yaml", &old));
    let answer = place.replay(&new, &["--against", old.to_str().unwrap()]);
    let against = &answer["against"];
    let of = |rule: &str, which: std::ops::RangeInclusive<u32>| -> Vec<(String, String)> {
        which.map(|n| (format!("uid{}", 7_100 + n), rule.to_owned())).collect()
    };
    let set = |all: Vec<Vec<(String, String)>>| all.concat().into_iter().collect::<BTreeSet<_>>();
    assert_eq!(pairs(against, "new"), set(vec![of("burst", 4..=5), of("now", 12..=12)]));
    assert_eq!(pairs(against, "gone"), set(vec![of("before", 11..=12)]));
    assert_eq!(pairs(against, "same"), set(vec![of("burst", 6..=12)]));
    // Behind the one that crosses the limit everything is held.
    let rest = |limit: u64, which: std::ops::RangeInclusive<u64>| which.map(|n| 10 * n - limit - 1).sum::<u64>();
    assert_eq!(against["held"]["now"], rest(35, 4..=12));
    assert_eq!(against["held"]["before"], rest(55, 6..=12));
    for one in list(against, "same") {
        let n = word(one, "account")[5..].parse::<u64>().unwrap();
        assert_eq!((&one["before"]["held"], &one["now"]["held"]), (&(10 * n - 56).into(), &(10 * n - 36).into()));
    }
    let text = place.run(&["replay", "--config", new.to_str().unwrap(), "--against", old.to_str().unwrap()]);
    assert!(text.contains("3 new, 2 gone, 7 the same"), "{text}");
    for line in ["+ uid7104", "+ uid7112", "- uid7111", "- uid7112", "= uid7106", "= uid7112"] {
        assert!(text.lines().any(|own| own.trim_start().starts_with(line)), "no {line} in\n{text}");
    }
    // The same rules: nothing is new.
    let same = place.replay(&new, &["--against", new.to_str().unwrap()]);
    assert!(list(&same["against"], "new").is_empty() && list(&same["against"], "gone").is_empty());
    assert_eq!(list(&same["against"], "same").len(), 10);
    assert_eq!(same["verdicts"], answer["verdicts"]);
}

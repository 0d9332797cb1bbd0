//! Stories: a host's month, with all built-in rules armed together. A thousand ordinary accounts, innocents that look guilty
//! (each also at half and at double its volume), and the guilty ones. No innocent may be blocked, and each guilty one has to
//! be, before more of its messages have left than its story says. As log lines of Postfix, through the reader and `replay`;
//! virtual time is that of the lines. So every story is also one of a log that is read hours later, all at once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "tests start processes")]

use fastrand::Rng;
use sendwarden::engine::rules::built_in;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

const SEED: u64 = 0x5eed_5704;
const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
const DAYS: i64 = 28;
/// Monday, 5 October 2026, midnight in Paris.
const START: i64 = 1_791_158_400 - 2 * HOUR;
/// Sunday, 25 October: clocks go back.
const WINTER: i64 = 1_792_890_000;
const ORDINARY: u32 = 1_000;

/// The moment at which clocks in Paris show this time of a day of the month.
fn local(day: i64, hour: i64) -> i64 {
    let at = START + day * DAY + hour * HOUR;
    if at >= WINTER { at + HOUR } else { at }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Sent,
    Unknown,
    Spam,
}

#[derive(Debug, Clone)]
enum By {
    /// A program of this uid.
    Script(u32, &'static str),
    /// A login, from an address.
    Login(&'static str, u32),
    /// A process of this host, over SMTP without a login.
    Local,
    /// Somebody outside.
    Outside,
}

#[derive(Debug, Clone)]
struct Message {
    at: i64,
    by: By,
    sender: String,
    to: String,
    end: End,
}

/// What the story says of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Says {
    Innocent,
    /// So many messages may have left before it is blocked.
    Guilty(usize),
}

struct Month {
    dice: Rng,
    messages: Vec<Message>,
    says: BTreeMap<String, (String, Says)>,
    next_uid: u32,
}

impl Month {
    /// A new account of a story.
    fn account(&mut self, story: &str, says: Says) -> u32 {
        let uid = self.next_uid;
        self.next_uid += 1;
        self.says.insert(format!("uid{uid}"), (story.to_owned(), says));
        uid
    }

    fn send(&mut self, at: i64, uid: u32, script: &'static str, to: String, end: End) {
        let (by, sender) = (By::Script(uid, script), format!("www@site{uid}.test"));
        self.messages.push(Message { at, by, sender, to, end });
    }

    /// What each account sends: some mail on each day, in the hours when people are awake, most of it to people it knows.
    fn ordinary(&mut self, uid: u32, a_day: f64) {
        for day in 0..DAYS {
            for _ in 0..(a_day * self.dice.f64() * 2.0 + self.dice.f64()) as u32 {
                let at = local(day, 0) + self.dice.i64(7 * HOUR..22 * HOUR);
                let whom = if self.dice.u32(..4) == 0 { self.dice.u32(..1_000_000) } else { self.dice.u32(..20) };
                let end = match self.dice.u32(..1_000) {
                    0..12 => End::Unknown,
                    12..15 => End::Spam,
                    _ => End::Sent,
                };
                let to = person(uid, whom);
                self.send(at, uid, "index.php", to, end);
            }
        }
    }

    /// So many messages within so long, to people that the function names.
    fn burst(&mut self, from: i64, long: i64, n: u32, uid: u32, script: &'static str, whom: impl Fn(u32) -> u32) {
        for m in 0..n {
            let at = from + long * i64::from(m) / i64::from(n);
            self.send(at, uid, script, person(uid, whom(m)), End::Sent);
        }
    }
}

/// Somebody: three in ten have their mail at a large receiver.
fn person(uid: u32, n: u32) -> String {
    let domain = match (uid + n) % 10 {
        0..3 => "big.test",
        3..5 => "mid.test",
        _ => "small.test",
    };
    format!("p{uid}x{n}@{domain}")
}

const VICTIM: &str = "accounts:\n- {id: victim, uids: [4001], domains: [victim.test]}\n";

fn innocents(month: &mut Month) {
    for (volume, share) in [("half", 1), ("usual", 2), ("double", 4)] {
        let scaled = |n: u32| n * share / 2;
        let account =
            |month: &mut Month, story: &str| month.account(&format!("{story}, {volume} volume"), Says::Innocent);

        let uid = account(month, "5 of 5 bounces");
        for m in 0..scaled(5) {
            month.send(local(15, 10) + i64::from(m) * HOUR, uid, "form.php", person(uid, m), End::Unknown);
        }

        // Each Tuesday at nine, to the same people but for a few; clocks are put back before the last time.
        let uid = account(month, "weekly newsletter");
        for week in 0..4 {
            let from = local(week * 7 + 1, 9) + month.dice.i64(0..20 * MINUTE);
            for m in 0..scaled(700) {
                let at = from + i64::from(m) * 55 * MINUTE / i64::from(scaled(700));
                let end = if m % 50 == 0 { End::Unknown } else { End::Sent };
                let whom = if m % 60 == 1 { m + 10_000 * (week as u32 + 1) } else { m };
                month.send(at, uid, "newsletter.php", person(uid, whom), end);
            }
        }

        // What comes from outside goes on elsewhere, and a third of it is called spam there.
        for m in 0..scaled(400) {
            let at = local(16, 8) + i64::from(m) * MINUTE;
            let end = if m % 3 == 0 { End::Spam } else { End::Sent };
            let (sender, to) = (format!("s{m}@spammer.test"), format!("forwarded{volume}@big.test"));
            month.messages.push(Message { at, by: By::Outside, sender, to, end });
        }

        // A vacation program answers each of a flood of forged mail; a third of the answers find nobody.
        let uid = account(month, "auto-reply storm");
        for day in 0..DAYS {
            month.burst(local(day, 9), 8 * HOUR, scaled(10), uid, "", |m| m);
        }
        for m in 0..scaled(700) {
            let at = local(19, 16) + i64::from(m) * HOUR / i64::from(scaled(700));
            let end = if m % 3 == 0 { End::Unknown } else { End::Sent };
            let (by, to) = (By::Script(uid, ""), person(uid, 3_000_000 + m));
            month.messages.push(Message { at, by, sender: String::new(), to, end });
        }

        // A shop, with orders all day; then everybody has to have a new password, at once.
        let uid = account(month, "password-reset rush of a shop");
        for day in 0..DAYS {
            for hour in 8..22 {
                let n = scaled(30);
                month.burst(local(day, hour), HOUR, n, uid, "order.php", |m| {
                    100_000 + day as u32 * 1_000 + hour as u32 * 60 + m
                });
            }
        }
        month.burst(local(21, 14), HOUR, scaled(450), uid, "reset.php", |m| m);

        // A site that was never seen here before, and all that waited elsewhere.
        let uid = account(month, "migration day");
        month.burst(local(19, 11), HOUR, scaled(400), uid, "cron.php", |m| m);
        for day in 20..DAYS {
            month.burst(local(day, 9), 8 * HOUR, scaled(60), uid, "index.php", |m| m + day as u32 * 7);
        }

        // Every night the same, also in the night that is an hour longer.
        let uid = account(month, "daylight saving");
        for day in 0..DAYS {
            month.burst(local(day, 2) + 10 * MINUTE, 40 * MINUTE, scaled(500), uid, "nightly.php", |m| m);
        }

        // In the middle of it the host's clock is three hours ahead for ten minutes.
        let uid = account(month, "clock jump");
        for week in 0..4 {
            month.burst(local(week * 7 + 3, 12), 50 * MINUTE, scaled(700), uid, "newsletter.php", |m| m);
        }

        // Of these days every account knows something: these send much then.
        for (story, day) in [("our address is listed", 17), ("a receiver's bad day", 18), ("our resolver is down", 16)]
        {
            let uid = account(month, story);
            for week in 0..4 {
                month.burst(local(week * 7 + day % 7, 10), 50 * MINUTE, scaled(600), uid, "newsletter.php", |m| m);
            }
        }
    }
    // Somebody writes the address of a site into mail that a shared uid sends, or a process over SMTP.
    month.says.insert("victim".into(), ("a victim whose address is forged".into(), Says::Innocent));
    for m in 0..5_000 {
        for by in [By::Script(33, "shared.php"), By::Local] {
            let (sender, to) = ("office@victim.test".to_owned(), format!("v{m}@small.test"));
            let end = if m % 2 == 0 { End::Unknown } else { End::Sent };
            month.messages.push(Message { at: local(20, 9) + m, by, sender, to, end });
        }
    }
}

fn guilty(month: &mut Month) {
    // Somebody has found the contact form: thousands of people who never heard of the site.
    let uid = month.account("hacked contact form", Says::Guilty(600));
    month.ordinary(uid, 40.0);
    month.burst(local(22, 13), 2 * HOUR, 6_000, uid, "contact.php", |m| 2_000_000 + m);

    // Below each limit of an hour, day and night.
    let uid = month.account("slow drip over days", Says::Guilty(2_010));
    month.ordinary(uid, 3.0);
    month.burst(local(18, 0), 5 * DAY, 5 * 24 * 450, uid, "x.php", |m| 2_000_000 + m);

    let uid = month.account("list of dead addresses", Says::Guilty(120));
    month.ordinary(uid, 5.0);
    for m in 0..2_000_u32 {
        let end = if m % 5 < 3 { End::Unknown } else { End::Sent };
        month.send(local(23, 11) + i64::from(m) * 2, uid, "import.php", person(uid, 2_000_000 + m), end);
    }

    const LOGIN: &str = "box@stolen.test";
    month.says.insert(LOGIN.into(), ("stolen login from many addresses".into(), Says::Guilty(40)));
    for m in 0..400 {
        let (at, sender) = (START + 60 + m * DAYS * DAY / 400, LOGIN.to_owned());
        month.messages.push(Message {
            at,
            by: By::Login(LOGIN, 1),
            sender,
            to: format!("l{}@mid.test", m % 30),
            end: End::Sent,
        });
    }
    for m in 0..900 {
        let (at, sender) = (local(24, 4) + m * 4, LOGIN.to_owned());
        let (by, to) = (By::Login(LOGIN, 10 + m as u32 % 150), format!("s{m}@small.test"));
        month.messages.push(Message { at, by, sender, to, end: End::Sent });
    }

    let uid = month.account("receiver says spam", Says::Guilty(70));
    month.ordinary(uid, 5.0);
    for m in 0..500_u32 {
        let end = if m % 2 == 0 { End::Spam } else { End::Sent };
        month.send(local(25, 15) + i64::from(m) * 5, uid, "index.php", person(uid, m), end);
    }

    // To people it has written to before, so that nothing but the number and the hour is unusual.
    let uid = month.account("night burst on a quiet account", Says::Guilty(510));
    month.ordinary(uid, 1.0);
    for day in 0..20 {
        month.burst(local(day, 11), 10 * HOUR, 6, uid, "index.php", |m| day as u32 * 6 + m);
    }
    month.burst(local(26, 3), HOUR, 900, uid, "index.php", |m| m % 120);
}

/// The host's troubles: what receivers say at some times, whoever writes.
fn trouble(message: &Message) -> Option<(&'static str, &'static str, &'static str)> {
    let (at, day) = (message.at, |day: i64| local(day, 0)..local(day + 1, 0));
    if message.to.ends_with("@big.test") && day(17).contains(&at) {
        let said = "554 5.7.1 Service unavailable; Client host [198.51.100.25] blocked using zen.spamhaus.org (in reply to RCPT TO command)";
        return Some(("5.7.1", "bounced", said));
    }
    // It knows nobody any more, and says so to whoever writes. From the morning on: that it is the receiver shows when many
    // write to it, and of one account in the night nobody could tell.
    if message.to.ends_with("@mid.test") && (local(18, 8)..local(19, 0)).contains(&at) {
        let said =
            "550 5.1.1 Recipient address rejected: User unknown in virtual mailbox table (in reply to RCPT TO command)";
        return Some(("5.1.1", "bounced", said));
    }
    if (local(16, 9)..local(16, 12)).contains(&at) {
        return Some(("5.4.4", "bounced", ""));
    }
    None
}

/// What clocks of the host show then.
fn stamp(at: i64) -> String {
    let jump = local(24, 12) + 20 * MINUTE;
    let shown = if (jump..jump + 10 * MINUTE).contains(&at) { at + 3 * HOUR } else { at };
    let (offset, zone) = if at < WINTER { (2 * HOUR, "+02:00") } else { (HOUR, "+01:00") };
    let text = jiff::Timestamp::from_second(shown + offset).unwrap().strftime("%Y-%m-%dT%H:%M:%S.000000");
    format!("{text}{zone}")
}

/// As Postfix writes it: what comes of a message some seconds after it was accepted.
fn log(messages: &[Message]) -> String {
    let mut lines: Vec<(i64, String)> = Vec::new();
    for (n, message) in messages.iter().enumerate() {
        let id = format!("{:010X}", 0xA000_0000_u64 + n as u64);
        let Message { at, by, sender, to, end } = message;
        let mut line = |after: i64, daemon: &str, what: &str| {
            lines.push((at + after, format!("{} mx postfix/{daemon}[7]: {id}: {what}\n", stamp(at + after))));
        };
        match by {
            By::Script(uid, "") => line(0, "pickup", &format!("uid={uid} from=<{sender}>")),
            By::Script(uid, script) => {
                line(0, "pickup", &format!("uid={uid} from=<{sender}>"));
                line(
                    0,
                    "cleanup",
                    &format!("info: header X-PHP-Originating-Script: {uid}:{script} from local; from=<{sender}>"),
                );
            }
            By::Login(login, address) => {
                let client = format!("client=c.test[198.51.{}.{}]", address / 250, address % 250 + 1);
                line(0, "submission/smtpd", &format!("{client}, sasl_method=PLAIN, sasl_username={login}"));
            }
            By::Local => line(0, "smtpd", "client=localhost[127.0.0.1]"),
            By::Outside => line(0, "smtpd", "client=far.test[203.0.113.9]"),
        }
        line(0, "cleanup", &format!("message-id=<{n}@mx.test>"));
        line(0, "qmgr", &format!("from=<{sender}>, size=900, nrcpt=1 (queue active)"));
        let relay = "mx.far.test[192.0.2.1]";
        let (dsn, status, said) = match (trouble(message), end) {
            (Some((dsn, status, "")), _) => {
                let domain = to.rsplit('@').next().unwrap_or_default();
                let said = format!(
                    "Host or domain name not found. Name service error for name={domain} type=MX: Host not found"
                );
                (dsn, status, said)
            }
            (Some((dsn, status, said)), _) => (dsn, status, format!("host {relay} said: {said}")),
            (None, End::Sent) => ("2.0.0", "sent", "250 2.0.0 Ok: queued".to_owned()),
            (None, End::Unknown) => {
                let said = format!(
                    "host {relay} said: 550 5.1.1 <{to}>: Recipient address rejected: User unknown (in reply to RCPT TO command)"
                );
                ("5.1.1", "bounced", said)
            }
            (None, End::Spam) => {
                let said =
                    format!("host {relay} said: 554 5.7.1 Message rejected as spam (in reply to end of DATA command)");
                ("5.7.1", "bounced", said)
            }
        };
        let after = 1 + n as i64 % 3;
        line(
            after,
            "smtp",
            &format!("to=<{to}>, relay={relay}:25, delay=1, delays=0/0/1/0, dsn={dsn}, status={status} ({said})"),
        );
        if status != "deferred" {
            line(after, "qmgr", "removed");
        }
    }
    lines.sort_by_key(|(at, _)| *at);
    lines.into_iter().map(|(_, line)| line).collect()
}

/// What `replay` answers to a configuration, a passwd file and a log.
fn replay(mut command: Command, [config, passwd, log]: &[&Path; 3]) -> Value {
    command.args(["replay", "--format", "json", "--config"]).arg(config).arg("--passwd").arg(passwd).arg(log);
    let got = command.output().unwrap();
    let err = String::from_utf8_lossy(&got.stderr);
    assert!(got.status.success(), "{:?}: {err}", got.status);
    serde_json::from_slice(&got.stdout).unwrap()
}

/// All built-in rules, to block.
fn armed() -> String {
    let mut config = String::from("enforcement: {dry_run: false, max_blocks_per_hour: 1000}\nrules:\n");
    for rule in built_in() {
        writeln!(config, "- {{name: {}, action: block}}", rule.name).unwrap();
    }
    config
}

/// Stamps of the classic form show no zone: an hour of them comes twice when clocks are put back.
#[test]
fn an_hour_that_comes_twice_makes_nobody_guilty() {
    let mut lines = String::new();
    for (uid, an_hour) in [(5_001, 450), (5_002, 900), (5_003, 1_800)] {
        let from = WINTER - 3 * HOUR;
        for n in 0..5 * an_hour {
            let at = from + HOUR * n / an_hour;
            let shown = at + if at < WINTER { 2 * HOUR } else { HOUR };
            let shown = jiff::Timestamp::from_second(shown).unwrap().strftime("%b %e %H:%M:%S");
            let id = format!("{:010X}", 0xA000_0000 + uid * 100_000 + n);
            for (daemon, what) in [
                ("pickup", format!("uid={uid} from=<w@site.test>")),
                ("cleanup", format!("message-id=<{id}@mx.test>")),
                ("qmgr", "from=<w@site.test>, size=900, nrcpt=1 (queue active)".to_owned()),
            ] {
                lines.push_str(&format!("{at} {shown} mx postfix/{daemon}[7]: {id}: {what}\n"));
            }
        }
    }
    // In the order of time, which the lines themselves do not show.
    let mut lines: Vec<(i64, &str)> =
        lines.lines().map(|line| line.split_once(' ').unwrap()).map(|(at, line)| (at.parse().unwrap(), line)).collect();
    lines.sort_by_key(|(at, _)| *at);
    let text: String = lines.iter().map(|(_, line)| format!("{line}\n")).collect();
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (config, passwd) = (write("armed.yaml", &armed()), write("passwd", "root:x:0:0::/:/bin/sh\n"));
    let log = write("mail.log", &text);
    let file = std::fs::File::options().write(true).open(&log).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(WINTER as u64 + 86_400)).unwrap();
    let verdicts = |zone: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sendwarden"));
        command.env("TZ", zone);
        let answer = replay(command, &[&config, &passwd, &log]);
        assert_eq!(answer["totals"]["messages"], 5 * (450 + 900 + 1_800));
        answer["verdicts"].as_array().unwrap().len()
    };
    assert_eq!(verdicts("Europe/Paris"), 0);
    assert!(verdicts("UTC") > 0, "the story is one: who takes it for one hour sees twice as much in it");
}

#[test]
fn the_innocent_are_spared_and_the_guilty_are_blocked_in_time() {
    let mut month = Month { dice: Rng::with_seed(SEED), messages: Vec::new(), says: BTreeMap::new(), next_uid: 9_000 };
    // The sum of twelve is near enough to a normal distribution: few send much.
    for n in 0..ORDINARY {
        let normal = (0..12).map(|_| month.dice.f64()).sum::<f64>() - 6.0;
        month.ordinary(5_000 + n, normal.exp() * 1.5);
    }
    innocents(&mut month);
    guilty(&mut month);
    month.messages.sort_by_key(|message| message.at);
    let Month { messages, says, .. } = month;

    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let accounts = write("accounts.yaml", VICTIM);
    let config = format!("{}accounts_file: {}\nattribution: {{web_server_uids: [33]}}\n", armed(), accounts.display());
    let (config, log) = (write("armed.yaml", &config), write("mail.log", &log(&messages)));
    let passwd = write("passwd", "root:x:0:0::/:/bin/sh\n");
    let answer = replay(Command::new(env!("CARGO_BIN_EXE_sendwarden")), &[&config, &passwd, &log]);

    // When each was blocked first, and by which rule.
    let mut blocked: BTreeMap<&str, (i64, &str)> = BTreeMap::new();
    let mut outcomes: BTreeSet<&str> = BTreeSet::new();
    for verdict in answer["verdicts"].as_array().unwrap() {
        let text = |key: &str| verdict[key].as_str().unwrap();
        let at = text("time").parse::<jiff::Timestamp>().unwrap().as_second();
        outcomes.insert(text("outcome"));
        if text("outcome") == "blocked" {
            blocked.entry(text("account")).or_insert((at, text("rule")));
        } else if text("account") == "victim" {
            assert_eq!(text("outcome"), "claimed_evidence");
        }
    }
    println!("{} messages, {} lines, {:?}", messages.len(), answer["lines"]["total"], blocked);
    let mut wrong = Vec::new();
    for (account, (at, rule)) in &blocked {
        if !matches!(says.get(*account), Some((_, Says::Guilty(_)))) {
            let story = says.get(*account).map_or("an ordinary account", |(story, _)| story);
            wrong.push(format!(
                "{story} ({account}) was blocked by {rule}, {} hours after the start",
                (at - START) / HOUR
            ));
        }
    }
    for (account, (story, says)) in &says {
        let Says::Guilty(most) = says else { continue };
        let Some((at, rule)) = blocked.get(&**account) else {
            wrong.push(format!("{story} ({account}) was not blocked"));
            continue;
        };
        let (key, bad) = (account.as_str(), story.as_str());
        // What it had sent in the last day.
        let its = |message: &&Message| match &message.by {
            By::Script(uid, _) => format!("uid{uid}") == key,
            By::Login(login, _) => *login == key,
            By::Local | By::Outside => false,
        };
        let left = messages.iter().filter(its).filter(|message| (at - DAY..=*at).contains(&message.at)).count();
        println!("{bad}: {left} of {most} left before {rule}");
        if left > *most {
            wrong.push(format!("of {bad} {left} messages left before {rule}, {most} at most may have"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(outcomes.contains("claimed_evidence"), "the victim is nobody's account: {outcomes:?}");
    assert_eq!(answer["totals"]["messages"], messages.len());
}

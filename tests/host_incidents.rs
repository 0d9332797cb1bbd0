//! What fails for many accounts at once is not their fault: on logs of Postfix and of Exim, whose truth is known by
//! construction, and on a real Postfix.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use support::gated::Site;
use support::helper::Role;
use support::receiver::{Answer, Receiver};
use support::{wait_for, wait_until};

/// Saturday, 7 November 2026, 00:00 UTC.
const START: i64 = 1_794_009_600;
const RULES: &str = "enforcement: {dry_run: false}\nrules:\n  \
    - {name: spam, signal: spam_verdicts, window: 1h, limit: 20, action: block}\n  \
    - {name: errors, signal: errors, window: 1h, limit: 40, action: block}\n  \
    - {name: ratio, signal: error_ratio, window: 1d, limit: 20, min_sample: 50, action: block}\n  \
    - {name: queued, signal: queued, window: 1h, limit: 15, action: block}\n  \
    - {name: much, signal: messages, window: 1h, limit: 300, action: block}\n";

#[derive(Clone, Copy)]
enum End {
    Sent,
    Spam,
    Deferred,
}

/// One recipient each.
#[derive(Default)]
struct Log(Vec<(i64, u32, &'static str, End)>);

impl Log {
    fn add(&mut self, at: i64, account: u32, domain: &'static str, end: End) {
        self.0.push((START + at, account, domain, end));
    }

    fn postfix(&mut self) -> String {
        self.0.sort_by_key(|one| one.0);
        let mut out = String::new();
        for (n, (at, account, domain, end)) in self.0.iter().enumerate() {
            let stamp = jiff::Timestamp::from_second(*at).unwrap().strftime("%Y-%m-%dT%H:%M:%S.000000+00:00");
            let (id, uid) = (format!("{:010X}", 0xA000_0000_u64 + n as u64), 2_000 + account);
            let relay = format!("mx.{domain}[192.0.2.1]");
            let (dsn, status, said) = match end {
                End::Sent => ("2.0.0", "sent", "250 2.0.0 Ok: queued".to_owned()),
                End::Spam => (
                    "5.7.1",
                    "bounced",
                    format!("host {relay} said: 554 5.7.1 Message rejected as spam (in reply to end of DATA command)"),
                ),
                End::Deferred => (
                    "4.7.1",
                    "deferred",
                    format!("host {relay} said: 451 4.3.0 try again (in reply to RCPT TO command)"),
                ),
            };
            for (daemon, what) in [
                ("pickup", format!("uid={uid} from=<w{uid}@site.test>")),
                ("cleanup", format!("message-id=<{n}@mx.test>")),
                ("qmgr", format!("from=<w{uid}@site.test>, size=900, nrcpt=1 (queue active)")),
                (
                    "smtp",
                    format!(
                        "to=<r{n}@{domain}>, relay={relay}:25, delay=1, delays=0/0/1/0, dsn={dsn}, status={status} ({said})"
                    ),
                ),
                ("qmgr", "removed".to_owned()),
            ] {
                if !(matches!(end, End::Deferred) && what == "removed") {
                    writeln!(out, "{stamp} mx postfix/{daemon}[7]: {id}: {what}").unwrap();
                }
            }
        }
        out
    }

    fn exim(&mut self) -> String {
        self.0.sort_by_key(|one| one.0);
        let mut out = String::new();
        for (n, (at, account, domain, end)) in self.0.iter().enumerate() {
            let stamp = jiff::Timestamp::from_second(*at).unwrap().strftime("%Y-%m-%d %H:%M:%S.000 +0000");
            let (id, user) = (
                format!("1w{:04}-00000000{:03}-{:04}", n / 1_000, n % 1_000, n % 10_000),
                format!("w{}", 2_000 + account),
            );
            let host = format!("H=mx.{domain} [192.0.2.1]");
            writeln!(out, "{stamp} {id} <= {user}@site.test U={user} P=local S=900").unwrap();
            let to = format!("r{n}@{domain} R=dnslookup T=remote_smtp");
            let said = |code: &str| format!("SMTP error from remote mail server after end of data: {code}");
            match end {
                End::Sent => writeln!(out, "{stamp} {id} => {to} {host} C=\"250 Ok\"").unwrap(),
                End::Spam => {
                    writeln!(out, "{stamp} {id} ** {to} {host}: {}", said("554 5.7.1 Message rejected as spam"))
                        .unwrap()
                }
                End::Deferred => {
                    writeln!(out, "{stamp} {id} == {to} defer (-46) {host}: {}", said("451 4.3.0 try again")).unwrap()
                }
            }
            if !matches!(end, End::Deferred) {
                writeln!(out, "{stamp} {id} Completed").unwrap();
            }
        }
        out
    }
}

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let dir = std::env::temp_dir().join(format!("sendwarden-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let passwd: String =
            (2_000..2_400).map(|uid| format!("w{uid}:x:{uid}:{uid}::/home/w{uid}:/bin/sh\n")).collect();
        fs::write(dir.join("passwd"), passwd).unwrap();
        fs::write(dir.join("c.yaml"), RULES).unwrap();
        Place(dir)
    }

    /// Which rules have said what of whom.
    fn replay(&self, log: &str, mta: &str) -> Vec<String> {
        fs::write(self.0.join("log"), log).unwrap();
        let mut replay = Command::new(env!("CARGO_BIN_EXE_sendwarden"));
        replay.args(["replay", "--format", "json", "--mta", mta, "--passwd"]).arg(self.0.join("passwd"));
        let output = replay.arg("--config").arg(self.0.join("c.yaml")).arg(self.0.join("log")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["lines"]["unknown"], 0);
        let said = |verdict: &Value| {
            let word = |key: &str| verdict[key].as_str().unwrap().to_owned();
            format!("{} {} {}", word("account"), word("rule"), word("outcome"))
        };
        answer["verdicts"].as_array().unwrap().iter().map(said).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A usual hour: 40 accounts write to everybody.
fn usual(log: &mut Log, hit: &'static str, end: End, from: i64, to: i64) {
    for at in (0..4 * 3_600).step_by(20) {
        let account = (at / 20 % 40) as u32;
        for (n, domain) in ["big.test", "far.test", "near.test", "small.test"].into_iter().enumerate() {
            let fails = domain == hit && (from..to).contains(&at);
            log.add(at + n as i64, account, domain, if fails { end } else { End::Sent });
        }
    }
}

#[test]
fn a_receivers_bad_day_blocks_no_innocent_and_hides_no_guilty_one() {
    let place = Place::new("incidents");
    let bad_day = |hit: &'static str| {
        let mut log = Log::default();
        usual(&mut log, hit, End::Spam, 7_200, 10_800);
        // A newsletter, begun when the trouble has.
        (0..200).for_each(|n| {
            log.add(7_400 + n * 5, 50, "big.test", if hit == "big.test" { End::Spam } else { End::Sent })
        });
        // One is refused elsewhere, and one floods the receiver that has its bad day.
        (0..30).for_each(|n| log.add(8_000 + n * 9, 51, "far.test", End::Spam));
        (0..320).for_each(|n| log.add(8_000 + n * 5, 52, "big.test", End::Spam));
        // What one was refused there before anybody knew is taken back: the rest is within the limit.
        (0..15).for_each(|n| log.add(7_200 + n, 53, "big.test", End::Spam));
        (0..10).for_each(|n| log.add(8_000 + n * 9, 53, "near.test", End::Spam));
        log
    };
    for (mta, text) in [("postfix", Log::postfix as fn(&mut Log) -> String), ("exim", Log::exim)] {
        let mut said = place.replay(&text(&mut bad_day("big.test")), mta);
        said.retain(|one| !one.ends_with(" observed"));
        said.sort();
        assert_eq!(said, ["w2051 spam blocked", "w2052 much blocked"], "{mta}");
        // On a day like any other the flood is what it is.
        let said = place.replay(&text(&mut bad_day("")), mta);
        let mut blocked: Vec<&String> = said.iter().filter(|one| one.ends_with(" blocked")).collect();
        blocked.sort();
        assert_eq!(blocked, ["w2051 spam blocked", "w2052 spam blocked", "w2053 spam blocked"], "{mta}");
        assert!(said.iter().all(|one| !one.starts_with("w2050")), "{mta}: {said:?}");
    }
}

#[test]
fn what_waits_for_a_receiver_that_is_down_is_told_and_blocks_nobody() {
    let place = Place::new("incidents-queued");
    for (mta, text) in [("postfix", Log::postfix as fn(&mut Log) -> String), ("exim", Log::exim)] {
        for (hit, outcome) in [("big.test", "w2050 queued host_incident"), ("", "w2050 queued blocked")] {
            let mut log = Log::default();
            usual(&mut log, hit, End::Deferred, 7_200, 9_000);
            (0..25).for_each(|n| log.add(8_000 + n * 5, 50, "big.test", End::Deferred));
            let said = place.replay(&text(&mut log), mta);
            assert!(said.contains(&outcome.to_owned()), "{mta}: {said:?}");
            assert!(
                said.iter().all(|one| one.starts_with("w2050") || one.ends_with("host_incident")),
                "{mta}: {said:?}"
            );
        }
    }
}

#[test]
fn our_own_address_on_a_blocklist_blocks_nobody_on_a_real_postfix_and_is_told_once() {
    let rules = "gate:\n  mode: enforce\nown_addresses: [192.0.2.25]\nenforcement: {dry_run: false}\nrules:\n  \
         - {name: spam, signal: spam_verdicts, window: 1h, limit: 3, action: block}\n";
    let site = Site::new(rules, Role::Root);
    let address = site.postfix.address(1);
    let receiver = Receiver::start(&address, Answer::Status(204));
    let hooks = format!("hooks:\n  - {{url: \"http://{address}/x\", events: [host_incident]}}\n");
    fs::write(&site.config, fs::read_to_string(&site.config).unwrap() + &hooks).unwrap();
    let agent = site.agent();
    site.postfix.forge("554 5.7.1 Client host [192.0.2.25] blocked using zen.example: spam source");
    let send = |user: &str, n: usize| {
        for at in 0..n {
            site.postfix.sendmail(
                user,
                &format!("{user}@hosting.test"),
                &[&format!("{user}{at}@forge.test")],
                "Subject: x\n\nx\n",
            );
        }
    };
    send("web1", 6);
    send("web2", 6);
    let own = ["kind=\"own_address\""];
    agent.wait_sum("sendwarden_host_incidents_total", &own, 1.0);
    agent.wait_sum("sendwarden_host_incidents_standing", &own, 1.0);
    wait_until("all to be refused", || agent.sum("sendwarden_recipients_total", &["outcome=\"bounced\""]) == 12.0);
    let told = wait_for("the incident to be told", || Some(receiver.requests()).filter(|told| !told.is_empty()));
    assert_eq!(told.len(), 1);
    let notice: Value = serde_json::from_slice(&told[0].body).unwrap();
    assert_eq!((&notice["event"], &notice["account"]), (&"host_incident".into(), &"".into()), "{notice}");
    assert!(notice["reason"].as_str().unwrap().contains("192.0.2.25"), "{notice}");
    assert!(site.tell(&["status"]).contains("host incident: receivers refuse this host's address 192.0.2.25"));
    let mut check = Command::new(env!("CARGO_BIN_EXE_sendwarden"));
    let said = check.arg("check").arg("--config").arg(&site.config).output().unwrap().stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("receivers refuse this host's address 192.0.2.25"), "{said}");
    for user in ["web1", "web2"] {
        let view: Value = serde_json::from_str(&site.tell(&["status", user, "--format", "json"])).unwrap();
        assert_eq!(view["state"], "ok", "{view}");
    }
    let printed = agent.printed();
    assert_eq!(printed.matches("host incident: receivers refuse").count(), 1, "{printed}");

    // The same refusals without our address are the account's own.
    site.postfix.forge("554 5.7.1 Message rejected as spam");
    send("web3", 6);
    wait_until("the one whose mail is spam to be blocked", || {
        let view: Value = serde_json::from_str(&site.tell(&["status", "shop", "--format", "json"])).unwrap();
        view["state"] == "spam"
    });
}

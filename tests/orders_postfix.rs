//! What an order says on a real Postfix: whom it can be for, what it is refused for, and what its answer tells of what is
//! not in force.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::fs;
use std::io::Write;

use support::agent::{Agent, configure, sendwarden};
use support::place::command;
use support::postfix::{Options, Postfix};
use support::{http, wait_until};

const ENTRY: &str = "{ unix:sendwarden/gate.sock, connect_timeout=3s, command_timeout=5s, content_timeout=10s, \
                     default_action=";

struct Site {
    postfix: Postfix,
    config: std::path::PathBuf,
    address: String,
}

impl Site {
    fn new(milters: &str, gate: &str) -> Site {
        let postfix = Postfix::start(&Options { extra: milters.to_owned(), ..Options::default() });
        let (dir, address) = (postfix.own_dir("agent"), postfix.address(0));
        let accounts = "accounts:\n  - id: shop\n    unix_users: [web3]\n    logins: [sales@shop.test]\n";
        let config = configure(&dir, &address, &[postfix.log_path()], accounts);
        let (etc, spool) = (postfix.config_dir(), postfix.queue_dir());
        let more = format!(
            "queue:\n  directories: [{}]\n  config_directories: [{}]\noperator_token_file: {}\n{gate}",
            spool.display(),
            etc.display(),
            dir.join("token").display()
        );
        fs::write(dir.join("token"), "0123456789abcdef\n").unwrap();
        fs::write(&config, fs::read_to_string(&config).unwrap() + &more).unwrap();
        Site { postfix, config, address }
    }

    fn gated() -> Site {
        let both = format!("smtpd_milters = {ENTRY}accept }}\nnon_smtpd_milters = {ENTRY}tempfail }}\n");
        Site::new(&both, "gate:\n  mode: enforce\n")
    }

    fn agent(&self) -> Agent {
        Agent::start(&self.config, &self.address)
    }

    fn tell(&self, arguments: &[&str]) -> String {
        sendwarden(&[arguments, &["--config", self.config.to_str().unwrap()]].concat())
    }

    /// Exit status and standard error.
    fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let mut binary = command(env!("CARGO_BIN_EXE_sendwarden"));
        let output = binary.args(arguments).args(["--config", self.config.to_str().unwrap()]).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn check(&self) -> String {
        let mut binary = command(env!("CARGO_BIN_EXE_sendwarden"));
        let output = binary.arg("check").arg("--config").arg(&self.config).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn script(&self, user: &str, name: &str) {
        let text = format!("From: {user}@hosting.test\nX-Test-Id: {name}\n\nbody\n");
        self.postfix.sendmail(user, &format!("{user}@hosting.test"), &[&format!("{name}@accept.test")], &text);
    }

    fn on_hold(&self) -> usize {
        self.postfix.queue().iter().filter(|message| message.queue == "hold").count()
    }

    fn post(&self, path: &str, body: &str) -> (u16, String) {
        http::post(&self.address, path, "0123456789abcdef", body).unwrap()
    }
}

#[test]
fn an_account_that_has_never_sent_can_be_blocked_and_its_first_message_is_held() {
    let site = Site::gated();
    let agent = site.agent();
    let said = site.tell(&["block", "web1", "--reason", "suspended"]);
    assert_eq!(said.trim(), "web1: block (scope script), state ko (held: blocked); no messages to put on hold");
    let said = site.tell(&["block", "shop", "--scope", "all"]);
    assert_eq!(said.trim(), "shop: block (scope all), state ko (held: blocked); no messages to put on hold");
    for user in ["web1", "web2", "web3"] {
        site.script(user, "first");
    }
    wait_until("the first messages of both to be on hold", || site.on_hold() == 2);
    wait_until("the one of nobody who is blocked", || site.postfix.accept.messages().len() == 1);
    for (name, words) in [
        ("web9", "there is no account web9: nobody of this name has sent, the accounts file does not list it"),
        ("root", "no account's (system_uid)"),
        ("web3", "is account shop's: name that one"),
    ] {
        let (status, said) = site.fails(&["block", name]);
        assert!(status == 1 && said.contains(words), "{name}: {status} {said}");
    }
    // Nobody is made by an order that is not a block.
    let (status, said) = site.fails(&["unblock", "web4"]);
    assert!(status == 1 && said.contains("there is no account web4"), "{said}");
    site.tell(&["purge", "web1", "--yes"]);
    site.tell(&["purge", "shop", "--yes"]);
    wait_until("an empty queue", || site.postfix.queue().is_empty());
    agent.stop();
    // Nobody answers there any more.
    assert!(!site.postfix.queue_dir().join("sendwarden/gate.sock").exists());
}

#[test]
fn a_renamed_account_keeps_its_block_and_its_held_mail_and_is_found_by_both_names() {
    let site = Site::gated();
    let agent = site.agent();
    site.tell(&["block", "web1", "--reason", "suspended"]);
    site.script("web1", "first");
    wait_until("it to be on hold", || site.on_hold() == 1);
    let said = site.tell(&["account", "rename", "web1", "bakery"]);
    assert!(said.starts_with("web1 is now called bakery; commands take web1 as well"), "{said}");
    // What comes after it is held too.
    site.script("web1", "second");
    wait_until("both to be on hold", || site.on_hold() == 2);
    for name in ["bakery", "web1"] {
        let status = site.tell(&["status", name]);
        assert!(status.starts_with("bakery: ko (held: blocked)"), "{status}");
        assert!(
            status.contains("block (scope script) by root: ") && status.contains(", reason: suspended"),
            "{status}"
        );
    }
    // A second one of this name would be told apart by nobody.
    site.tell(&["block", "web2"]);
    let (status, said) = site.fails(&["account", "rename", "web2", "web1"]);
    assert!(status == 1 && said.contains("the name is taken"), "{said}");
    let said = site.tell(&["unblock", "web1"]);
    assert!(said.starts_with("bakery: unblock, state ok; 2 messages to release"), "{said}");
    wait_until("both to arrive", || site.postfix.accept.messages().len() == 2);
    wait_until("nothing to be under way", || site.tell(&["status", "bakery"]).contains("done (2 released)"));
    let said = site.tell(&["block", "web1"]);
    assert!(said.starts_with("bakery: block (scope script)"), "{said}");
    agent.stop();
}

/// A priority is a thread's: only the gate's goes before others.
#[test]
fn the_gates_thread_goes_before_others() {
    let site = Site::gated();
    let agent = site.agent();
    let nice_of = |name: &str| {
        let threads = fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap().flatten();
        let found = threads.filter_map(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).ok()?;
            let (head, fields) = stat.rsplit_once(") ")?;
            // Field 19 of proc(5); the first behind the name is the third.
            let nice = fields.split_ascii_whitespace().nth(16)?.parse::<i32>().ok()?;
            head.ends_with(&format!("({name}")).then_some(nice)
        });
        found.collect::<Vec<i32>>()
    };
    assert_eq!((nice_of("gate"), nice_of("sendwarden")), (vec![-10], vec![0]));
    agent.stop();
}

#[test]
fn what_makes_no_sense_is_refused_in_words_that_help() {
    let site = Site::gated();
    let agent = site.agent();
    let (status, said) = site.fails(&["block", "shop", "--scope", "login:sales@shop.test.evil"]);
    assert!(status == 1 && said.contains("its logins: sales@shop.test"), "{status} {said}");
    let (status, said) = site.fails(&["block", "web1", "--scope", "login:web1@x.test"]);
    assert!(status == 1 && said.contains("nothing would be held; it has none that is known"), "{status} {said}");
    assert!(
        site.tell(&["block", "shop", "--scope", "login:Sales@shop.test"]).contains("(scope login:Sales@shop.test)")
    );
    for wrong in [["--scope", "bogus"], ["--scope", "login:"], ["--for", "0s"], ["--for", "30s"], ["--for", "24"]] {
        let (status, said) = site.fails(&["block", "shop", wrong[0], wrong[1]]);
        assert!(status == 2 && said.contains("the "), "{wrong:?}: {status} {said}");
    }
    for (body, words) in [
        (r#"{"action":"block"}"#, r#"The action is \"BLOCK\", \"UNBLOCK\" or \"PURGE\"; this order has \"block\"."#),
        (r#"{"reason":"x"}"#, "this order has none."),
        (r#"{"action":"BLOCK","until":"x"}"#, "The order has no field `until`; it may have action, reason, scope"),
        (r#"{"action":"UNBLOCK","drip":"50/h"}"#, "The field drip is a number of messages an hour"),
        (r#"{"action":"UNBLOCK","drip":-5}"#, "The field drip is a number of messages an hour"),
        (r#"{"action":"BLOCK","reason":7}"#, "The field reason is a text, not 7."),
        (r#"["BLOCK"]"#, "The order must be a JSON object"),
        ("{", "The order is not JSON."),
    ] {
        let (status, said) = site.post("/api/v1/accounts/shop/request", body);
        let said = said.replace("\\\\", "\\");
        assert!((400..500).contains(&status) && said.contains(words), "{body}: {status} {said}");
        assert!(!said.contains("expected") && !said.contains("deserialize"), "{said}");
    }
    let (status, said) = site.post("/api/v1/accounts/shop/select", r#"{"age":"2h"}"#);
    assert!(status == 422 && said.contains("The selection has no field `age`"), "{status} {said}");
    agent.stop();
}

#[test]
fn what_of_a_block_is_not_in_force_is_told_wherever_somebody_relies_on_it() {
    // Off: nobody asked for a gate.
    let site = Site::new("", "");
    let agent = site.agent();
    let said = site.tell(&["block", "web1"]);
    let off = "gate.mode is off: new mail of a blocked account still goes out";
    assert!(
        said.contains(&format!("\nNOT IN FORCE: {off}")) && said.contains("sendwarden setup postfix --apply"),
        "{said}"
    );
    for asked in [&["status"][..], &["status", "web1"]] {
        assert!(site.tell(asked).contains(&format!("\nnot in force: {off}")), "{}", site.tell(asked));
    }
    // A panel finds it without reading sentences.
    let view: serde_json::Value = serde_json::from_str(&site.tell(&["block", "web2", "--format", "json"])).unwrap();
    assert!(view["not_in_force"][0].as_str().is_some_and(|gap| gap.starts_with(off)), "{view}");
    wait_until("/-/ready to say it", || agent.get("/-/ready").1.contains(off));
    assert_eq!(agent.get("/-/ready").0, 200);
    assert!(site.check().contains(&format!("ok    gate: not in force: {off}")), "{}", site.check());
    site.script("web1", "out");
    wait_until("what is not held", || site.postfix.accept.messages().len() == 1);
    agent.stop();

    // On, and Postfix does not ask.
    let site = Site::new("enable_long_queue_ids = no\nmaximal_queue_lifetime = 1d\n", "gate:\n  mode: enforce\n");
    let agent = site.agent();
    let said = site.tell(&["block", "web1"]);
    for words in
        ["NOT IN FORCE: smtpd_milters in", "NOT IN FORCE: non_smtpd_milters in", "setup postfix --apply --config"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    let said = site.check();
    for words in [
        "warn  gate: not in force: smtpd_milters in",
        "warn  gate: enable_long_queue_ids = no",
        "warn  gate: maximal_queue_lifetime = 1d",
        "set it to 96h or more",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    agent.stop();

    // One service has a list of its own, without the gate.
    let site = Site::gated();
    let agent = site.agent();
    assert!(site.check().contains("ok    gate: every way in that is known asks it"), "{}", site.check());
    assert!(!site.tell(&["block", "web1"]).contains("NOT IN FORCE"));
    let service = format!("127.0.0.1:{}/inet", site.postfix.submission_port());
    site.postfix.run("postconf", &["-P", &format!("{service}/smtpd_milters=")]);
    let named = format!("warn  gate: not in force: {service} in ");
    assert!(site.check().contains(&named), "{}", site.check());
    wait_until("status to say it", || site.tell(&["status"]).contains(&format!("not in force: {service} in ")));
    agent.stop();
}

#[test]
fn settings_under_which_the_gate_is_not_asked_about_everything_are_told() {
    let site = Site::gated();
    let agent = site.agent();
    let (many, xclient) = ("processes that receive mail, and the gate talks to 2000", "smtpd_authorized_xclient_hosts");
    let said = site.check();
    assert!(!said.contains(many) && !said.contains(xclient), "{said}");
    // Two services that take main.cf's limit, and one with its own.
    site.postfix.run("postconf", &["default_process_limit=900"]);
    let submission = format!("127.0.0.1:{}/inet", site.postfix.submission_port());
    site.postfix.run("postconf", &["-F", &format!("{submission}/process_limit=250")]);
    let said = site.check();
    assert!(said.contains(&format!("warn  gate: Postfix may start 2050 {many}")), "{said}");
    site.postfix.run("postconf", &["-F", &format!("{submission}/process_limit=200")]);
    let said = site.check();
    assert!(!said.contains(many), "{said}");
    site.postfix.run("postconf", &["-F", &format!("{submission}/process_limit=0")]);
    let said = site.check();
    assert!(said.contains(&format!("Postfix may start any number of {many}")), "{said}");
    // A client elsewhere that is trusted is the administrator's business.
    site.postfix.run("postconf", &["smtpd_authorized_xclient_hosts=192.0.2.7"]);
    assert!(!site.check().contains(xclient));
    site.postfix.run("postconf", &["smtpd_authorized_xclient_hosts=192.0.2.7, $mynetworks"]);
    let said = site.check();
    let named = "/main.cf) may trust this host (127.0.0.0/8)";
    assert!(said.contains(&format!("warn  gate: {xclient} = ")) && said.contains(named), "{said}");
    site.postfix.run("postconf", &["smtpd_authorized_xclient_hosts="]);
    site.postfix.run("postconf", &["-P", &format!("{submission}/smtpd_authorized_xclient_hosts=127.0.0.1")]);
    let said = site.check();
    assert!(said.contains(&format!("({submission} in ")) && said.contains("may trust this host (127.0.0.1)"), "{said}");
    agent.stop();
}

#[test]
fn an_accounts_file_that_leaves_out_a_held_account_is_not_taken_over() {
    let site = Site::gated();
    let agent = site.agent();
    site.tell(&["block", "shop"]);
    let file = site.config.with_file_name("accounts.yaml");
    let other = "accounts:\n  - id: market\n    unix_users: [web3]\n";
    fs::write(&file, other).unwrap();
    wait_until("the refusal", || {
        agent.printed().contains("shop is held and the accounts file does not list it any more")
    });
    // Whoever asks for it hears why, and whoever looks at the figures that it was not taken.
    let loaded = "sendwarden_config_last_reload_successful";
    assert_eq!(agent.sum(loaded, &[]), 0.0);
    let (status, said) = site.post("/-/reload", "");
    let why =
        "The configuration was not taken; the former one stands. shop is held and the accounts file does not list it";
    assert!(status == 409 && said.contains(why) && said.contains("unblock or purge it first"), "{status} {said}");
    assert_eq!(agent.sum(loaded, &[]), 0.0);
    site.script("web3", "kept");
    wait_until("the message on hold", || site.on_hold() == 1);
    site.tell(&["unblock", "shop"]);
    wait_until("it to arrive", || site.postfix.accept.messages().len() == 1);
    fs::write(&file, format!("{other}# and nobody is held\n")).unwrap();
    wait_until("the new file", || agent.printed().contains("are in force"));
    assert_eq!((agent.sum(loaded, &[]), site.post("/-/reload", "").0), (1.0, 200));
    site.tell(&["block", "market"]);
    site.script("web3", "again");
    wait_until("the message on hold", || site.on_hold() == 1);
    agent.stop();
}

/// At a start there is no file before it to compare with: what it said of who is held is in the store.
#[test]
fn a_held_account_that_is_not_listed_when_the_agent_starts_stays_held_by_all_that_led_to_it() {
    let site = Site::gated();
    let agent = site.agent();
    let loaded = "sendwarden_config_last_reload_successful";
    site.tell(&["block", "shop"]);
    site.script("web3", "first");
    wait_until("the message on hold", || site.on_hold() == 1);
    assert!(!site.check().contains("accounts: "), "{}", site.check());
    agent.kill();

    // Its user is another account's by now.
    let file = site.config.with_file_name("accounts.yaml");
    fs::write(&file, "accounts:\n  - id: market\n    unix_users: [web3, web4]\n").unwrap();
    let why = "shop is held and the accounts file does not list it any more: its mail would go out";
    assert!(site.check().contains(&format!("warn  accounts: {why}")), "{}", site.check());
    for _ in 0..2 {
        let agent = site.agent();
        site.script("web3", "held");
        site.script("web4", "free");
        wait_until("what is not shop's", || !site.postfix.accept.with_id("free").is_empty());
        assert!(agent.printed().contains(why), "{}", agent.printed());
        assert_eq!(agent.sum(loaded, &[]), 0.0);
        let told = format!("not in force: the accounts file to the letter: {why}");
        assert!(agent.get("/-/ready").1.contains(&told), "{}", agent.get("/-/ready").1);
        assert!(site.tell(&["status"]).contains(&told), "{}", site.tell(&["status"]));
        assert_eq!(site.post("/-/reload", "").0, 409);
        agent.kill();
    }
    let agent = site.agent();
    let its = || site.tell(&["status", "shop", "--format", "json"]);
    wait_until("all of it to be shop's", || its().contains("\"held_messages\": 3,"));
    assert!(site.postfix.accept.with_id("held").is_empty() && site.on_hold() == 3);

    // An order ends it, and nothing else.
    site.tell(&["unblock", "shop"]);
    wait_until("it to arrive", || site.postfix.accept.with_id("held").len() == 2);
    assert_eq!((site.post("/-/reload", "").0, agent.sum(loaded, &[])), (200, 1.0));
    assert!(!agent.get("/-/ready").1.contains("accounts file") && !site.check().contains("accounts: "));
    site.tell(&["block", "market"]);
    site.script("web3", "again");
    wait_until("the message on hold", || site.on_hold() == 1);
    agent.stop();
}

/// Whoever can write into the mail log can name accounts there, as many as there is room for.
#[test]
fn an_account_that_there_is_can_be_blocked_when_the_log_has_filled_the_room() {
    let both = format!("smtpd_milters = {ENTRY}accept }}\nnon_smtpd_milters = {ENTRY}tempfail }}\n");
    let site = Site::new(&both, "gate:\n  mode: enforce\nattribution:\n  max_known_accounts: 3\n");
    let agent = site.agent();
    let mut log = fs::File::options().append(true).open(site.postfix.log_path()).unwrap();
    for n in 0..50 {
        let (at, id) = (jiff::Timestamp::now().strftime("%FT%T+00:00"), format!("F0F0F{n:05X}"));
        for said in [
            format!("smtpd[7]: {id}: client=x[192.0.2.7], sasl_method=PLAIN, sasl_username=forged{n}@x.test"),
            format!("cleanup[7]: {id}: message-id=<{n}@x.test>"),
            format!("qmgr[7]: {id}: from=<a@x.test>, size=300, nrcpt=1 (queue active)"),
        ] {
            writeln!(log, "{at} mx postfix/{said}").unwrap();
        }
    }
    agent.wait_sum("sendwarden_messages_accepted_total", &["origin=\"smtp_auth\""], 50.0);
    assert_eq!(agent.sum("sendwarden_accounts_known", &[]), 3.0);
    // One of the accounts file, and a user of this host; neither has sent.
    for name in ["shop", "web1"] {
        let said = site.tell(&["block", name]);
        assert!(said.contains("state ko (held: blocked)"), "{said}");
    }
    ["web1", "web2", "web3"].iter().for_each(|user| site.script(user, user));
    wait_until("mail of both to be on hold", || site.on_hold() == 2);
    wait_until("the one of nobody who is blocked", || site.postfix.accept.messages().len() == 1);
    for name in ["shop", "web1", "web2"] {
        wait_until("it to be its own", || {
            site.tell(&["status", name, "--format", "json"]).contains("\"messages\": 1,")
        });
    }
    agent.stop();
}

/// cleanup(8) bounces it before it is in the queue, and logs no end of it.
#[test]
fn a_message_with_too_many_hops_does_not_wait_to_be_held() {
    let site = Site::gated();
    let agent = site.agent();
    let text = format!("{}Subject: round and round\n\nbody\n", "Received: from here\n".repeat(60));
    site.postfix.sendmail("web3", "web3@hosting.test", &["nobody@accept.test"], &text);
    let bounced = ["account=\"shop\"", "outcome=\"bounced\""];
    agent.wait_sum("sendwarden_account_recipients_total", &bounced, 1.0);
    let said = site.tell(&["block", "shop"]);
    assert_eq!(said.trim(), "shop: block (scope script), state ko (held: blocked); no messages to put on hold");
    agent.stop();
}

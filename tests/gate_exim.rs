//! The gate on a real Exim, of both forms of message ids: not one message of a blocked account gets out by any way in that
//! proves who it is, nobody else is held, unblock delivers everything once and unchanged, purge leaves nothing; the flags
//! stand while the agent is dead, and what others froze stays theirs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use support::agent::{Agent, configure, sendwarden};
use support::exim::{Call, Exim, Options, Script, Version, selector};
use support::helper::{Helper, Role};
use support::place::{command, succeed};
use support::server::MailServer;
use support::smtp::{self, Mail};
use support::{wait_for, wait_until};

const LATER: &str = "450 4.2.1 come again";
const TAKEN: &str = "250 2.0.0 Ok";

struct Site {
    /// Ends before the server whose queue it works in.
    _helper: Option<Helper>,
    role: Role,
    exim: Exim,
    config: PathBuf,
    address: String,
}

impl Site {
    fn new(version: Version, mode: &str, role: Role) -> Site {
        let exim = Exim::start(&Options { gate: true, ..Options::new(version, selector::CPANEL) });
        let (dir, address) = (exim.own_dir("agent"), exim.address(0));
        let accounts = "accounts:\n  - id: shop\n    unix_users: [web3]\n    logins: [sales@shop.test]\n    \
                        domains: [shop.test]\n";
        let config = configure(&dir, &address, &[exim.log_path()], accounts);
        let text = fs::read_to_string(&config).unwrap().replace("\nstate_dir", "\n    mta: exim\nstate_dir");
        let (program, flags) = (exim.program(), exim.flags_dir());
        let more = format!(
            "queue:\n  directories: [{}]\n  exim_program: {}\ngate:\n  mode: {mode}\n  logins: hold\n  exim_flags: {}\n",
            dir.display(),
            program.display(),
            flags.display()
        );
        fs::write(&config, text + &more).unwrap();
        role.prepare(&config, &exim.log_path());
        role.prepare_flags(&flags, &exim.spool_dir());
        Site { _helper: role.helper(&config), role, exim, config, address }
    }

    fn agent(&self) -> Agent {
        self.role.agent(&self.config, &self.address)
    }

    fn tell(&self, arguments: &[&str]) -> String {
        sendwarden(&[arguments, &["--config", self.config.to_str().unwrap()]].concat())
    }

    fn status(&self, account: &str) -> Value {
        serde_json::from_str(&self.tell(&["status", account, "--format", "json"])).unwrap()
    }

    fn wait_held(&self, account: &str, messages: u64) {
        wait_for(&format!("{messages} messages of {account} to be known as held"), || {
            (self.status(account)["held_messages"] == messages).then_some(())
        });
    }

    fn submit(&self, user: &str, name: &str, to: &str, call: Call) {
        let (cwd, message, to) = (Path::new("/"), text(name), format!("{name}@{to}"));
        let sender = format!("{user}@hosting.test");
        self.exim.sendmail(&Script { user, cwd, call, sender: &sender, recipients: &[&to], message: &message });
    }

    /// By one of the ways of a script.
    fn script(&self, user: &str, name: &str, way: usize) {
        match way % 4 {
            0 => self.submit(user, name, "accept.test", Call::Arguments),
            1 => self.submit(user, name, "accept.test", Call::Headers),
            2 => self.submit(user, name, "accept.test", Call::Conversation),
            _ => self.php(user, name),
        }
    }

    /// PHP's mail().
    fn php(&self, user: &str, name: &str) {
        let program = self.exim.program().with_file_name("sendmail");
        let (head, body) = text(name).split_once("\n\n").map(|(h, b)| (h.to_owned(), b.to_owned())).unwrap();
        let head: Vec<&str> = head.lines().filter(|line| !line.starts_with("Subject")).collect();
        let mut php = command("setpriv");
        php.args(["--reuid", user, "--regid", user, "--clear-groups", "php", "-d"]);
        php.arg(format!("sendmail_path={} -t -i", program.display()));
        php.args(["-r", "exit(mail($argv[1], $argv[2], $argv[3], $argv[4]) ? 0 : 1);", "--"]);
        php.args([&format!("{name}@accept.test"), name, body.trim_end(), &head.join("\r\n")]).current_dir("/");
        succeed(&mut php, None);
    }

    fn login(&self, login: &str, name: &str) {
        let (to, data) = (format!("{name}@accept.test"), text(name));
        let mail = Mail { sender: login, recipients: &[&to], data: &data, auth: Some((login, "secret")) };
        smtp::send(self.exim.port(), &mail).unwrap();
    }

    /// Names of the messages that have arrived, each as often as it did.
    fn arrived(&self, prefix: &str) -> Vec<String> {
        let messages = self.exim.accept.messages();
        let names = messages.iter().filter_map(|message| message.unique()).filter(|name| name.starts_with(prefix));
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        names
    }

    /// Recipients of frozen messages, without the domain.
    fn frozen(&self, prefix: &str) -> Vec<String> {
        let held = self.exim.queue().into_iter().filter(|one| one.queue == "hold");
        let names = held.flat_map(|one| one.recipients).filter(|to| to.starts_with(prefix));
        let mut names: Vec<String> = names.map(|to| to.split('@').next().unwrap_or_default().to_owned()).collect();
        names.sort();
        names
    }

    fn queue_of(&self, id: &str) -> Option<String> {
        self.exim.queue().into_iter().find(|one| one.id == id).map(|one| one.queue)
    }

    fn flags(&self, kind: &str) -> Vec<String> {
        let entries = fs::read_dir(self.exim.flags_dir().join(kind)).unwrap().map(|entry| entry.unwrap());
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Attempts to deliver to the receiver that always defers.
    fn attempts(&self) -> usize {
        self.exim.defer.answers().len()
    }
}

fn text(name: &str) -> String {
    // Eight bits, a line that begins with a dot, and one that is empty.
    format!("From: a@hosting.test\nSubject: {name}\nX-Test-Id: {name}\n\nGr\u{fc}\u{df}e\n.dot\n\nend of {name}\n")
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    let mut names: Vec<String> = (0..count).map(|n| format!("{prefix}{n}")).collect();
    names.sort();
    names
}

fn nothing_gets_out(version: Version, role: Role) {
    const EACH: usize = 200;
    const LOGINS: usize = 30;
    let site = Site::new(version, "enforce", role);
    let agent = site.agent();
    site.script("web1", "known1", 0);
    site.login("box1@hosting.test", "known2");
    site.login("sales@shop.test", "known3");
    wait_until("the first messages", || site.arrived("known").len() == 3);
    agent.wait_sum("sendwarden_accounts_known", &[], 3.0);

    // What waits in the queue already: the account's, an administrator's of either, somebody else's.
    site.exim.forge(LATER);
    site.submit("web1", "backlog", "forge.test", Call::Arguments);
    let admins = ["web1", "web2"].map(|user| {
        site.submit(user, &format!("admin-{user}"), "defer.test", Call::Arguments);
        let id = site.exim.queue_id(&format!("admin-{user}@defer.test"));
        site.exim.run(&["-Mf", &id]);
        id
    });
    site.submit("web2", "others", "defer.test", Call::Arguments);
    let others = site.exim.queue_id("others@defer.test");
    let backlog = site.exim.queue_id("backlog@forge.test");
    agent.wait_sum("sendwarden_account_queued_recipients", &["account=\"web1\""], 2.0);
    agent.wait_sum("sendwarden_account_held_recipients", &["account=\"web1\""], 1.0);
    let tried = site.attempts();

    assert!(site.tell(&["block", "web1", "--reason", "hacked"]).contains("1 message to put on hold"));
    // The answer comes when the flag is there.
    assert_eq!(site.flags("user"), ["web1"]);
    site.tell(&["block", "box1@hosting.test", "--scope", "all"]);
    site.tell(&["block", "shop", "--scope", "login:Info@shop.test"]);
    assert_eq!(
        (site.flags("auth"), site.flags("domain")),
        (vec!["box1@hosting.test".into(), "info@shop.test".into()], vec![])
    );
    let (own, exims) = (fs::metadata(site.exim.flags_dir()).unwrap(), fs::metadata(site.exim.spool_dir()).unwrap());
    assert_eq!((own.gid(), own.mode() & 0o7777), (exims.gid(), 0o2750));

    std::thread::scope(|scope| {
        let site = &site;
        scope.spawn(move || (0..EACH).for_each(|n| site.script("web1", &format!("guilty-a{n}"), n)));
        scope.spawn(move || (0..EACH).for_each(|n| site.script("web2", &format!("innocent-a{n}"), n)));
        scope.spawn(move || {
            for n in 0..LOGINS {
                site.login("Box1@hosting.test", &format!("guilty-b{n}"));
                site.login("box2@hosting.test", &format!("innocent-b{n}"));
                site.login("info@shop.test", &format!("guilty-c{n}"));
                site.login("sales@shop.test", &format!("innocent-c{n}"));
                site.script("web3", &format!("innocent-d{n}"), n);
            }
        });
    });
    wait_until("everybody else's mail", || site.arrived("innocent-").len() == EACH + 3 * LOGINS);
    site.exim.settle();
    assert_eq!(site.frozen("guilty-").len(), EACH + 2 * LOGINS);
    assert_eq!((site.arrived("guilty-"), site.frozen("innocent-")), (vec![], vec![]));
    wait_until("what was queued before to be on hold", || site.queue_of(&backlog).as_deref() == Some("hold"));
    site.wait_held("web1", EACH as u64 + 1);
    site.wait_held("box1@hosting.test", LOGINS as u64);
    site.wait_held("shop", LOGINS as u64);

    site.exim.forge(TAKEN);
    site.tell(&["unblock", "web1"]);
    wait_until("what was held for web1", || {
        site.arrived("guilty-a").len() == EACH && site.exim.forge.with_id("backlog").len() == 1
    });
    site.exim.settle();
    assert_eq!(site.arrived("guilty-a"), names("guilty-a", EACH), "each once");
    for n in 0..4 {
        let message = &site.exim.accept.with_id(&format!("guilty-a{n}"))[0];
        let body = message.data.replace("\r\n", "\n");
        assert!(body.ends_with(&format!("\n\nGr\u{fc}\u{df}e\n.dot\n\nend of guilty-a{n}\n")), "{body}");
    }
    assert_eq!(site.flags("user"), Vec::<String>::new());
    assert_eq!(site.frozen("guilty-").len(), 2 * LOGINS, "only web1's is free");
    site.script("web1", "free", 0);
    wait_until("new mail of a free account", || site.arrived("free").len() == 1);

    site.tell(&["purge", "box1@hosting.test", "--yes"]);
    site.tell(&["purge", "shop", "--yes"]);
    let mut left = vec![admins[0].clone(), admins[1].clone(), others.clone()];
    left.sort();
    wait_for("a queue of nobody's mail but others'", || {
        let mut ids: Vec<String> = site.exim.queue().into_iter().map(|one| one.id).collect();
        ids.sort();
        (ids == left).then_some(())
    });
    assert_eq!((site.arrived("guilty-b").len(), site.arrived("guilty-c").len()), (0, 0));
    assert!(admins.iter().all(|id| site.queue_of(id).as_deref() == Some("hold")), "an administrator's stay frozen");
    assert_eq!(site.queue_of(&others).as_deref(), Some("deferred"));
    assert_eq!(site.attempts(), tried, "no attempt more for what is others'");
    let figures = |name| agent.sum(name, &["account=\"web1\""]);
    agent.wait_sum("sendwarden_account_queued_recipients", &["account=\"web1\""], 1.0);
    assert_eq!(figures("sendwarden_account_held_recipients"), 1.0);
    agent.stop();
}

#[test]
fn nothing_of_a_blocked_account_gets_out_of_4_96_and_nobody_elses_is_held() {
    nothing_gets_out(Version::V4_96, Role::Root);
}

#[test]
fn nothing_of_a_blocked_account_gets_out_of_4_98_and_nobody_elses_is_held() {
    nothing_gets_out(Version::V4_98, Role::Root);
}

#[test]
fn nothing_of_a_blocked_account_gets_out_and_nobody_elses_is_held_by_an_ordinary_user() {
    nothing_gets_out(Version::V4_98, Role::Ordinary);
}

fn flags_stand(version: Version, role: Role) {
    let site = Site::new(version, "enforce", role);
    let agent = site.agent();
    site.script("web1", "known1", 0);
    site.script("web2", "known2", 0);
    wait_until("the first messages", || site.arrived("known").len() == 2);
    agent.wait_sum("sendwarden_accounts_known", &[], 2.0);

    let blocked = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (site, blocked) = (&site, &blocked);
        let burst = scope.spawn(move || {
            let mut after = 0;
            for n in 0.. {
                let late = blocked.load(Ordering::SeqCst);
                site.script("web1", &format!("{}{n}-", if late { "late" } else { "early" }), n);
                after += usize::from(late);
                if after == 40 {
                    return;
                }
            }
        });
        wait_until("the burst to be under way", || site.arrived("early").len() > 20);
        site.tell(&["block", "web1"]);
        blocked.store(true, Ordering::SeqCst);
        burst.join().unwrap();
    });
    site.exim.settle();
    assert_eq!((site.arrived("late"), site.frozen("late").len()), (vec![], 40));

    agent.kill();
    (0..20).for_each(|n| site.script("web1", &format!("late-away{n}-"), n));
    site.script("web2", "innocent-away", 0);
    wait_until("the innocent one's mail", || site.arrived("innocent").len() == 1);
    site.exim.settle();
    assert_eq!((site.arrived("late"), site.frozen("late").len()), (vec![], 60));
    // Flags of nobody's making: one that is missing, and one too many.
    fs::remove_file(site.exim.flags_dir().join("user/web1")).unwrap();
    fs::write(site.exim.flags_dir().join("user/web2"), "").unwrap();
    site.script("web2", "innocent-flagged", 0);
    site.exim.settle();
    assert_eq!(site.frozen("innocent"), ["innocent-flagged"]);

    let agent = site.agent();
    assert_eq!(site.flags("user"), ["web1"]);
    wait_until("who is not blocked to be free", || site.arrived("innocent").len() == 2);
    (0..4).for_each(|n| site.script("web1", &format!("late-last{n}-"), n));
    site.exim.settle();
    assert_eq!((site.arrived("late"), site.frozen("late").len()), (vec![], 64));
    // Killed once more: what it knows is in the store.
    agent.kill();
    let agent = site.agent();
    site.tell(&["unblock", "web1"]);
    wait_until("all of it to arrive", || site.arrived("late").len() == 64);
    wait_until("an empty queue", || site.exim.queue().is_empty());
    let mut once = site.arrived("");
    once.dedup();
    assert_eq!(once, site.arrived(""), "nothing arrives twice");
    agent.stop();
}

#[test]
fn nothing_accepted_after_the_acknowledgement_leaves_4_96_also_while_the_agent_is_dead() {
    flags_stand(Version::V4_96, Role::Root);
}

#[test]
fn nothing_accepted_after_the_acknowledgement_leaves_4_98_also_while_the_agent_is_dead() {
    flags_stand(Version::V4_98, Role::Root);
}

#[test]
fn nothing_accepted_after_the_acknowledgement_leaves_an_ordinary_user_or_while_that_is_dead() {
    flags_stand(Version::V4_98, Role::Ordinary);
}

fn forced(version: Version, role: Role) {
    let site = Site::new(version, "enforce", role);
    let agent = site.agent();
    site.script("web1", "known", 0);
    wait_until("the first message", || site.arrived("known").len() == 1);
    agent.wait_sum("sendwarden_accounts_known", &[], 1.0);
    site.tell(&["block", "web1"]);
    (0..5).for_each(|n| site.script("web1", &format!("held{n}"), n));
    site.wait_held("web1", 5);
    // A timer, or somebody, thaws and delivers them: a second later, as log time goes.
    let began = jiff::Timestamp::now().as_second();
    wait_until("the next second", || jiff::Timestamp::now().as_second() > began + 1);
    let ids: Vec<String> = site.exim.queue().into_iter().map(|one| one.id).collect();
    site.exim.run(&[&["-M"], ids.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat());
    site.exim.wait_log(&["sendwarden-hold.invalid"]);
    wait_until("them to be frozen again", || site.frozen("held").len() == 5);
    site.exim.settle();
    assert_eq!(site.arrived("held"), Vec::<String>::new());
    agent.wait_sum("sendwarden_account_held_recipients", &["account=\"web1\""], 5.0);
    assert_eq!(agent.sum("sendwarden_account_deferrals_total", &["account=\"web1\""]), 0.0);
    site.wait_held("web1", 5);
    site.tell(&["unblock", "web1"]);
    wait_until("all of it to arrive", || site.arrived("held") == names("held", 5));
    agent.stop();
}

#[test]
fn what_is_thawed_by_others_is_kept_back_by_4_96_and_frozen_again() {
    forced(Version::V4_96, Role::Root);
}

#[test]
fn what_is_thawed_by_others_is_kept_back_by_4_98_and_frozen_again() {
    forced(Version::V4_98, Role::Root);
}

#[test]
fn what_is_thawed_by_others_is_kept_back_and_frozen_again_by_an_ordinary_user() {
    forced(Version::V4_98, Role::Ordinary);
}

#[test]
fn watching_holds_nobody_and_takes_back_what_was_held() {
    let site = Site::new(Version::V4_98, "enforce", Role::Root);
    let agent = site.agent();
    site.script("web1", "known", 0);
    wait_until("the first message", || site.arrived("known").len() == 1);
    agent.wait_sum("sendwarden_accounts_known", &[], 1.0);
    site.tell(&["block", "web1"]);
    assert_eq!(site.flags("user"), ["web1"]);
    // A flag that cannot be removed, because it is no file, is seen; and when it is gone, that too.
    assert_eq!(agent.sum("sendwarden_gate_flags_wrong", &[]), 0.0);
    let in_the_way = site.exim.flags_dir().join("user/in-the-way");
    fs::create_dir(&in_the_way).unwrap();
    let idle = || wait_until("no order under way", || site.status("web1")["orders"][0]["outcome"] != "accepted");
    idle();
    site.tell(&["block", "web1", "--scope", "all"]);
    agent.wait_sum("sendwarden_gate_flags_wrong", &[], 1.0);
    let (ready, why) = agent.get("/-/ready");
    assert!(ready == 503 && why.contains("cannot remove the flag"), "{ready}: {why}");
    fs::remove_dir(&in_the_way).unwrap();
    idle();
    site.tell(&["block", "web1", "--scope", "script"]);
    agent.wait_sum("sendwarden_gate_flags_wrong", &[], 0.0);
    assert_eq!(agent.get("/-/ready").0, 200);
    agent.stop();
    let text = fs::read_to_string(&site.config).unwrap().replace("mode: enforce", "mode: watch");
    fs::write(&site.config, text).unwrap();
    let agent = site.agent();
    assert_eq!(site.flags("user"), Vec::<String>::new());
    site.script("web1", "watched", 0);
    wait_until("its mail", || site.arrived("watched").len() == 1);
    agent.stop();
    // Without the directory all mail passes.
    fs::remove_dir_all(site.exim.flags_dir()).unwrap();
    site.script("web1", "missing", 0);
    site.login("box1@hosting.test", "missing-login");
    wait_until("all mail", || site.arrived("missing").len() == 2);
}

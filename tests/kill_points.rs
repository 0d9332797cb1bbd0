//! Killed at every boundary that the code names, in every order, and started again: each message is in the end delivered
//! once, held, or purged, as it was ordered. The table of the rows is made from `host/killpoint`; a point without a row
//! does not compile, and one that is never reached fails.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::Instant;

use sendwarden::host::killpoint::Point;
use serde_json::Value;
use support::agent::{Agent, configure, sendwarden};
use support::exim::{self, Call, Exim, Script, Version, selector};
use support::helper::{Helper, Role};
use support::postfix::{self, Postfix};
use support::server::MailServer;
use support::sink::Sink;
use support::smtp::{self, Mail};
use support::{wait_for, wait_until};

const LATER: &str = "450 4.2.1 come again";
const TAKEN: &str = "250 2.0.0 Ok";
/// As docs/operating.md has it.
const MILTER: &str = "smtpd_milters = { unix:sendwarden/gate.sock, default_action=accept, connect_timeout=3s, \
                      command_timeout=5s, content_timeout=10s }\n\
                      non_smtpd_milters = { unix:sendwarden/gate.sock, default_action=tempfail, connect_timeout=3s, \
                      command_timeout=5s, content_timeout=10s }\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Block,
    Unblock,
    Purge,
    Drip,
}

impl Order {
    const ALL: [Order; 4] = [Order::Block, Order::Unblock, Order::Purge, Order::Drip];

    const fn words(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Order::Block => ("block", &["--scope", "all"]),
            Order::Unblock => ("unblock", &[]),
            Order::Purge => ("purge", &["--yes"]),
            Order::Drip => ("unblock", &["--drip", "36000/h"]),
        }
    }

    const fn releases(self) -> bool {
        matches!(self, Order::Unblock | Order::Drip)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    PostfixRoot,
    PostfixHelper,
    EximRoot,
    EximHelper,
}

impl Column {
    const ALL: [Column; 4] = [Column::PostfixRoot, Column::PostfixHelper, Column::EximRoot, Column::EximHelper];

    const fn is_exim(self) -> bool {
        matches!(self, Column::EximRoot | Column::EximHelper)
    }

    const fn is_ordinary(self) -> bool {
        matches!(self, Column::PostfixHelper | Column::EximHelper)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Agent,
    Helper,
}

/// Who dies at a point, in a column and with an order; nobody where it is not on the way.
fn victim(point: Point, column: Column, order: Order) -> Option<Victim> {
    let ordinary = column.is_ordinary();
    let hands = if ordinary { Victim::Helper } else { Victim::Agent };
    let (who, on_the_way) = match point {
        Point::OrderTaken
        | Point::OrderKept
        | Point::GateTold
        | Point::WorkBegun
        | Point::WorkDone
        | Point::WorkReported
        | Point::WorkSettled
        | Point::SettledKept => (Victim::Agent, true),
        Point::DueChosen => (Victim::Agent, order == Order::Drip),
        Point::HelperAsked | Point::HelperAnswered => (Victim::Agent, ordinary),
        Point::HelperHeard | Point::HelperDone => (Victim::Helper, ordinary),
        Point::BeforeRun | Point::AfterRun => (hands, true),
        Point::BeforeDue | Point::AfterDue | Point::BeforeRing | Point::AfterRing => {
            (hands, order.releases() && !column.is_exim())
        }
        Point::BeforeStart | Point::AfterStart => (hands, order.releases() && column.is_exim()),
    };
    on_the_way.then_some(who)
}

enum Server {
    Postfix(Postfix),
    Exim(Exim),
}

struct Site {
    /// Ends before the server whose queue it works in.
    helper: Option<Helper>,
    role: Role,
    server: Server,
    config: PathBuf,
    address: String,
    agent: Option<Agent>,
    rows: Vec<String>,
    /// Whose orders are given now; those before.
    account: String,
    accounts: BTreeSet<String>,
    /// What must have arrived, and how often.
    sent: BTreeMap<String, usize>,
}

impl Site {
    fn new(column: Column) -> Site {
        let role = if column.is_ordinary() { Role::Ordinary } else { Role::Root };
        let (server, config, address) = match column {
            Column::EximRoot | Column::EximHelper => {
                let options = exim::Options { gate: true, ..exim::Options::new(Version::V4_98, selector::CPANEL) };
                let exim = Exim::start(&options);
                let (dir, address) = (exim.own_dir("agent"), exim.address(0));
                let config = configure(&dir, &address, &[exim.log_path()], "accounts: []\n");
                let text = fs::read_to_string(&config).unwrap().replace("\nstate_dir", "\n    mta: exim\nstate_dir");
                let (here, program, flags) = (dir.display(), exim.program(), exim.flags_dir());
                let more = format!(
                    "queue:\n  directories: [{here}]\n  exim_program: {}\ngate:\n  mode: enforce\n  logins: hold\n  exim_flags: {}\n",
                    program.display(),
                    flags.display()
                );
                fs::write(&config, text + &more).unwrap();
                role.prepare(&config, &exim.log_path());
                role.prepare_flags(&flags, &exim.spool_dir());
                (Server::Exim(exim), config, address)
            }
            Column::PostfixRoot | Column::PostfixHelper => {
                let options = postfix::Options { extra: MILTER.to_owned(), ..postfix::Options::default() };
                let postfix = Postfix::start(&options);
                let (dir, address) = (postfix.own_dir("agent"), postfix.address(0));
                let config = configure(&dir, &address, &[postfix.log_path()], "accounts: []\n");
                let more = format!(
                    "queue:\n  directories: [{}]\n  config_directories: [{}]\ngate:\n  mode: enforce\n",
                    postfix.queue_dir().display(),
                    postfix.config_dir().display()
                );
                fs::write(&config, fs::read_to_string(&config).unwrap() + &more).unwrap();
                role.prepare(&config, &postfix.log_path());
                (Server::Postfix(postfix), config, address)
            }
        };
        let (rows, sent, account, accounts) = (Vec::new(), BTreeMap::new(), String::new(), BTreeSet::new());
        fs::write(config.with_file_name("kill-point"), "").unwrap();
        let helper = role.helper(&config);
        let agent = Some(role.agent(&config, &address));
        Site { helper, role, server, config, address, agent, rows, account, accounts, sent }
    }

    fn mail(&self) -> &dyn MailServer {
        match &self.server {
            Server::Postfix(postfix) => postfix,
            Server::Exim(exim) => exim,
        }
    }

    fn answer(&self, reply: &str) {
        match &self.server {
            Server::Postfix(postfix) => postfix.forge(reply),
            Server::Exim(exim) => exim.forge(reply),
        }
    }

    fn receiver(&self) -> &Sink {
        match &self.server {
            Server::Postfix(postfix) => &postfix.forge,
            Server::Exim(exim) => &exim.forge,
        }
    }

    /// By a script of this user, or with this login.
    fn submit(&self, user: &str, name: &str) {
        let (sender, to) = (format!("{user}@hosting.test"), format!("{name}@forge.test"));
        let message = format!("X-Test-Id: {name}\n\nbody\n");
        match &self.server {
            Server::Exim(exim) if user.contains('@') => {
                let mail = Mail { sender: user, recipients: &[&to], data: &message, auth: Some((user, "secret")) };
                smtp::send(exim.port(), &mail).unwrap();
            }
            Server::Postfix(postfix) => postfix.sendmail(user, &sender, &[&to], &message),
            Server::Exim(exim) => {
                let (cwd, call, recipients) = (Path::new("/"), Call::Arguments, &[to.as_str()][..]);
                exim.sendmail(&Script { user, cwd, call, sender: &sender, recipients, message: &message });
            }
        }
    }

    /// The queue that each waiting message is in, by its name.
    fn queued(&self) -> BTreeMap<String, String> {
        let name = |to: &String| to.split('@').next().unwrap_or_default().to_owned();
        let queued = self.mail().queue().into_iter();
        queued
            .flat_map(|one| one.recipients.iter().map(|to| (name(to), one.queue.clone())).collect::<Vec<_>>())
            .collect()
    }

    /// An administrator holds or deletes a message.
    fn administer(&self, name: &str, postfixs: &str, exims: &str) {
        let to = format!("{name}@forge.test");
        match &self.server {
            Server::Postfix(postfix) => postfix.run("postsuper", &[postfixs, &postfix.queue_id(&to)]),
            Server::Exim(exim) => exim.run(&[exims, &exim.queue_id(&to)]),
        };
    }

    /// Has the server try everything that waits and is not on hold.
    fn flush(&self) {
        match &self.server {
            Server::Postfix(postfix) => drop(postfix.run("postqueue", &["-f"])),
            Server::Exim(exim) => exim.retry_all(),
        }
    }

    /// What sendmail(1) took while the gate was away is looked for each minute (pickup(8)); we do not wait for that.
    fn pick_up(&self) {
        if let Server::Postfix(postfix) = &self.server
            && let Ok(mut pickup) = UnixStream::connect(postfix.queue_dir().join("public/pickup"))
        {
            drop(pickup.write_all(b"W"));
        }
    }

    fn agent(&self) -> &Agent {
        self.agent.as_ref().expect("it runs between the orders")
    }

    fn status(&self, account: &str) -> Value {
        let config = self.config.to_str().unwrap();
        serde_json::from_str(&sendwarden(&["status", account, "--format", "json", "--config", config])).unwrap()
    }

    fn figure(&self, name: &str, value: f64) {
        self.agent().wait_sum(name, &[&format!("account=\"{}\"", self.account)], value);
    }

    fn order(&self, order: Order) -> Output {
        let (verb, more) = order.words();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sendwarden"));
        command.args([verb, &self.account]).args(more).arg("--config").arg(&self.config);
        command.output().expect("the built binary starts")
    }

    fn wait_settled(&self, what: &str, state: &str) {
        wait_for(&format!("{what}: state {state}"), || {
            let status = self.status(&self.account);
            let idle = status["orders"][0]["outcome"] != "accepted" && status["drip"].is_null();
            (idle && status["state"] == state).then_some(())
        });
    }

    /// Gives the order and has the victim die at the point; it is started again, and who gave the order and was told
    /// that it failed gives it again. True if so.
    fn give(&mut self, order: Order, dies: Option<(Point, Victim)>) -> bool {
        let Some((point, victim)) = dies else {
            let output = self.order(order);
            assert!(output.status.success(), "{order:?}: {output:?}");
            return false;
        };
        let file = self.config.with_file_name("kill-point");
        fs::write(&file, point.name()).unwrap();
        let output = self.order(order);
        let ended: ExitStatus = match victim {
            Victim::Agent => self.agent.take().unwrap().ended(&format!("the agent to reach {point:?} in {order:?}")),
            Victim::Helper => self.helper.take().unwrap().ended(&format!("the helper to reach {point:?} in {order:?}")),
        };
        assert_eq!(ended.signal(), Some(9), "{point:?}: {ended}");
        fs::write(&file, "").unwrap();
        match victim {
            Victim::Agent => self.agent = Some(self.role.agent(&self.config, &self.address)),
            Victim::Helper => self.helper = self.role.helper(&self.config),
        }
        let again = !output.status.success();
        if again {
            // The answer may be that there is nothing to do, or that the first one is still under way.
            wait_until("the order to be taken again", || {
                !String::from_utf8_lossy(&self.order(order).stderr).contains("try again in a moment")
            });
        }
        again
    }

    fn row(&mut self, column: Column, order: Order, dies: Option<(Point, Victim)>, again: bool, end: &str) {
        if let Some((point, victim)) = dies {
            let again = if again { "given again" } else { "" };
            let (point, order) = (point.name(), format!("{order:?}").to_lowercase());
            self.rows.push(format!("{column:?} | {point} | {order} | {victim:?} | {again} | {end}"));
        }
    }

    /// Four messages of the account's, two before it is blocked and two after; then they leave, or are purged.
    fn round(&mut self, column: Column, tag: &str, point: Point, first: Order, then: Order) {
        let name = |who: &str| format!("{tag}{who}");
        let own: Vec<String> = ["a1", "a2", "a3", "a4"].map(name).to_vec();
        let others: Vec<String> = ["b1", "b2"].map(name).to_vec();
        let admins = name("admins");
        // Postfix's gate is there again before sendmail(1) gives up; a client with a login would get past it meanwhile.
        self.account = if column.is_exim() { format!("{tag}@hosting.test") } else { "web1".to_owned() };
        self.accounts.insert(self.account.clone());
        let account = self.account.clone();
        self.answer(LATER);
        [&own[0], &own[1], &admins].into_iter().for_each(|name| self.submit(&account, name));
        self.submit("web2", &others[0]);
        wait_until("what waits before the block", || {
            let queued = self.queued();
            own[..2].iter().chain(&others[..1]).all(|name| queued.get(name).is_some_and(|queue| queue == "deferred"))
        });
        self.administer(&admins, "-h", "-Mf");
        self.figure("sendwarden_account_queued_recipients", 3.0);
        self.figure("sendwarden_account_held_recipients", 1.0);

        let dies = |order: Order| victim(point, column, order).map(|victim| (point, victim));
        let killed = dies(Order::Block).filter(|_| first == Order::Block);
        let again = self.give(Order::Block, killed);
        own[2..].iter().for_each(|name| self.submit(&account, name));
        self.submit("web2", &others[1]);
        let what = format!("{point:?} {first:?} {then:?}");
        let mut picked = Instant::now();
        wait_until(&format!("{what}: all of the account's mail to be on hold"), || {
            if picked.elapsed().as_secs() >= 2 {
                picked = Instant::now();
                self.pick_up();
            }
            let queued = self.queued();
            own.iter().all(|name| queued.get(name).is_some_and(|queue| queue == "hold"))
                && queued.contains_key(&others[1])
        });
        self.wait_settled(&what, "ko");
        // The log says so too: who unblocks before that waits for the next comparison (a minute).
        self.figure("sendwarden_account_held_recipients", 5.0);
        // What an earlier order was killed in is looked for a second time: until then another order would wait for it.
        wait_until(&format!("{what}: these to be believed held"), || self.status(&account)["held_messages"] == 4);
        self.look_at_others(&what, &admins, &others);
        assert!(own.iter().all(|name| self.receiver().with_id(name).is_empty()), "{what}: something got out");
        self.row(column, Order::Block, killed, again, "4 held");

        if then.releases() {
            self.answer(TAKEN);
        }
        let killed = dies(then);
        let again = self.give(then, killed);
        let copies = usize::from(then.releases());
        wait_until(&format!("{what}: an end of the account's mail"), || {
            let queued = self.queued();
            own.iter().all(|name| !queued.contains_key(name) && self.receiver().with_id(name).len() >= copies)
        });
        self.wait_settled(&what, "ok");
        self.row(column, then, killed, again, if then.releases() { "4 delivered once" } else { "4 purged" });
        self.look_at_others(&what, &admins, &others);
        self.administer(&admins, "-d", "-Mrm");
        self.answer(TAKEN);
        self.flush();
        wait_until(&format!("{what}: the other account's mail"), || {
            others.iter().all(|name| self.receiver().with_id(name).len() == 1)
        });
        self.sent.extend(own.into_iter().map(|name| (name, copies)));
        self.sent.extend(others.into_iter().map(|name| (name, 1)));
        self.once(&what);
    }

    fn look_at_others(&self, what: &str, admins: &str, others: &[String]) {
        let queued = self.queued();
        assert_eq!(queued.get(admins).map(String::as_str), Some("hold"), "{what}: an administrator's hold stands");
        assert!(others.iter().all(|name| queued.get(name).is_none_or(|queue| queue != "hold")), "{what}: {queued:?}");
    }

    /// Everything of this round and of those before has arrived as often as it should.
    fn once(&self, what: &str) {
        let mut arrived: BTreeMap<String, usize> = self.sent.keys().map(|name| (name.clone(), 0)).collect();
        for message in self.receiver().messages() {
            *arrived.entry(message.unique().unwrap_or("none").to_owned()).or_default() += 1;
        }
        assert_eq!(arrived, self.sent, "{what}");
    }
}

fn every_point(column: Column) {
    let mut site = Site::new(column);
    let mut wanted = 0;
    for (n, point) in Point::ALL.iter().enumerate() {
        let rounds = [(Order::Block, Order::Unblock), (Order::Unblock, Order::Purge), (Order::Unblock, Order::Drip)];
        for (m, (first, then)) in rounds.into_iter().enumerate() {
            let dying = [Order::Block, then].map(|order| victim(*point, column, order).is_some());
            let counted = usize::from(dying[0] && first == Order::Block) + usize::from(dying[1]);
            wanted += counted;
            if counted > 0 {
                let began = Instant::now();
                site.round(column, &format!("r{n}x{m}"), *point, first, then);
                println!("{column:?} {} {then:?}: {:.1} s", point.name(), began.elapsed().as_secs_f64());
            }
        }
    }
    // What was done while nobody could hear of it is looked for a second time before it is taken for gone.
    for account in &site.accounts {
        wait_until("nothing to be believed held any more", || site.status(account)["held_messages"] == 0);
    }
    assert_eq!(site.rows.len(), wanted, "each has its row");
    println!("server | point | order | who dies | the order | end of the account's messages\n{}", site.rows.join("\n"));
    println!("{column:?}: {wanted} rows");
    site.agent.take().unwrap().stop();
}

#[test]
fn killed_at_every_point_each_message_has_its_end_on_postfix() {
    every_point(Column::PostfixRoot);
}

#[test]
fn killed_at_every_point_each_message_has_its_end_on_postfix_with_the_helper() {
    every_point(Column::PostfixHelper);
}

#[test]
fn killed_at_every_point_each_message_has_its_end_on_exim() {
    every_point(Column::EximRoot);
}

#[test]
fn killed_at_every_point_each_message_has_its_end_on_exim_with_the_helper() {
    every_point(Column::EximHelper);
}

#[test]
fn every_point_is_somewhere_and_has_a_row() {
    let mut source = String::new();
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            match entry.path() {
                path if path.is_dir() => directories.push(path),
                path if path.ends_with("killpoint.rs") => {}
                path => source.push_str(&fs::read_to_string(path).unwrap_or_default()),
            }
        }
    }
    for point in Point::ALL {
        let rows = Column::ALL.iter().flat_map(|column| Order::ALL.map(|order| victim(*point, *column, order)));
        assert!(rows.flatten().count() > 0, "{point:?} has no row");
        let step = point.name().starts_with("before-") || point.name().starts_with("after-");
        assert!(step || source.contains(&format!("Point::{point:?})")), "nothing passes {point:?}");
    }
    assert!(source.contains("Point::before(step)") && source.contains("Point::after(step)"));
}

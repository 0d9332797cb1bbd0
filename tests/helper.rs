//! The helper beside a real Postfix: who is heard and who is not, what is refused as a whole, what each verb does in the
//! queue; an agent of an ordinary user that is restarted under load, and one whose helper dies.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sendwarden::host::helper::client::{Client, Trouble};
use sendwarden::mail::{QueueId, Server, Verb};
use support::agent::{Agent, configure, sendwarden};
use support::helper::{Helper, Role, USER, group, socket};
use support::place::command;
use support::postfix::{Options, Postfix};
use support::smtp::{self, Mail};
use support::wait_until;

/// As docs/operating.md has it.
const MILTER: &str = "smtpd_milters = { unix:sendwarden/gate.sock, default_action=accept, connect_timeout=3s, \
                      command_timeout=5s, content_timeout=10s }\n\
                      non_smtpd_milters = { unix:sendwarden/gate.sock, default_action=tempfail, connect_timeout=3s, \
                      command_timeout=5s, content_timeout=10s }\n";
const PASSWORD: &str = "secret";
const LATER: &str = "450 4.2.1 come again";

struct Site {
    postfix: Postfix,
    config: PathBuf,
    address: String,
}

impl Site {
    fn new(extra: &str, more: &str) -> Site {
        let postfix = Postfix::start(&Options { extra: extra.to_owned(), ..Options::default() });
        let (dir, address) = (postfix.own_dir("agent"), postfix.address(0));
        let config = configure(&dir, &address, &[postfix.log_path()], "accounts: []\n");
        let (etc, spool) = (postfix.config_dir(), postfix.queue_dir());
        let queue =
            format!("queue:\n  directories: [{}]\n  config_directories: [{}]\n", spool.display(), etc.display());
        fs::write(&config, fs::read_to_string(&config).unwrap() + &queue + more).unwrap();
        Role::Ordinary.prepare(&config, &postfix.log_path());
        Site { postfix, config, address }
    }

    fn agent(&self) -> Agent {
        Role::Ordinary.agent(&self.config, &self.address)
    }

    fn tell(&self, arguments: &[&str]) -> String {
        sendwarden(&[arguments, &["--config", self.config.to_str().unwrap()]].concat())
    }

    fn client(&self) -> Client {
        Client::new(socket(&self.config))
    }

    /// The name in the log, which names the instance.
    fn name(&self) -> String {
        self.client().hello().unwrap().instances[0].name.clone()
    }

    fn script(&self, user: &str, name: &str) {
        let text = format!("X-Test-Id: {name}\n\nbody\n");
        self.postfix.sendmail(user, &format!("{user}@hosting.test"), &[&format!("{name}@accept.test")], &text);
    }

    /// A message that waits in the queue until the receiver takes it.
    fn waits(&self, user: &str, name: &str) -> String {
        let to = format!("{name}@forge.test");
        self.postfix.sendmail(user, "a@hosting.test", &[&to], &format!("X-Test-Id: {name}\n\nbody\n"));
        self.postfix.queue_id(&to)
    }

    fn queue_of(&self, id: &str) -> Option<String> {
        self.postfix.queue().into_iter().find(|one| one.id == id).map(|one| one.queue)
    }

    fn is_in(&self, id: &str, queue: &str) -> bool {
        self.postfix.queue_dir().join(queue).join(id).exists()
    }

    fn arrived(&self, prefix: &str) -> usize {
        let messages = self.postfix.accept.messages();
        messages.iter().filter(|one| one.unique().is_some_and(|name| name.starts_with(prefix))).count()
    }

    fn on_hold(&self, prefix: &str) -> usize {
        let held = self.postfix.queue().into_iter().filter(|one| one.queue == "hold");
        held.flat_map(|one| one.recipients).filter(|to| to.starts_with(prefix)).count()
    }
}

/// What the helper answers to a process of these rights (setpriv(1)) that sends it this.
fn ask_as(rights: &[&str], socket: &Path, request: &str) -> String {
    let script = format!(
        "$s = stream_socket_client('unix://{}'); fwrite($s, '{request}' . \"\\n\"); echo stream_get_line($s, 65536, \"\\n\");",
        socket.display()
    );
    let mut php = command("setpriv");
    php.args(rights).args(["php", "-r", &script]).current_dir("/");
    let Output { stdout, stderr, .. } = php.output().unwrap();
    String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr)
}

/// What is answered to these bytes of root's.
fn raw(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    drop(stream.read_to_string(&mut text));
    text
}

#[test]
fn only_root_and_the_agents_user_are_heard() {
    let site = Site::new("", "");
    let helper = Helper::start(&site.config);
    let socket = socket(&site.config);
    site.postfix.forge(LATER);
    let id = site.waits("web1", "stays");
    let name = site.name();
    let hold = format!("{{\"hold\":{{\"instance\":\"{name}\",\"ids\":[\"{id}\"]}}}}");
    let postdrop = group("postdrop").to_string();
    let own = support::place::succeed(command("id").args(["-g", USER]), None).trim().to_owned();
    for rights in [
        &["--reuid", "web1", "--regid", "web1", "--clear-groups"][..],
        &["--reuid", "web1", "--regid", &postdrop, "--clear-groups"],
        &["--reuid", "web1", "--regid", "web1", "--groups", &postdrop],
        &["--reuid", "postfix", "--regid", "postfix", "--clear-groups"],
        &["--reuid", "4242", "--regid", &own, "--clear-groups"],
    ] {
        let said = ask_as(rights, &socket, &hold);
        assert!(said.contains("only root and the agent's user may ask"), "{rights:?}: {said}");
    }
    assert!(site.queue_of(&id).is_some_and(|queue| queue != "hold"));
    let hello = site.client().hello().unwrap();
    assert_eq!((hello.refused_peers, hello.refused_requests), (5, 0));
    assert!(helper.printed().contains("a connection was refused: uid 2001, process "), "{}", helper.printed());
    // A crowd of them keeps nobody waiting who may ask.
    std::thread::scope(|scope| {
        let crowd = scope.spawn(|| {
            let connect =
                format!("for ($i = 0; $i < 3000; $i++) fclose(stream_socket_client('unix://{}'));", socket.display());
            let mut php = command("setpriv");
            php.args(["--reuid", "web1", "--regid", "web1", "--clear-groups", "php", "-r", &connect]).current_dir("/");
            support::place::succeed(&mut php, None);
        });
        while !crowd.is_finished() {
            let began = Instant::now();
            site.client().hello().unwrap();
            assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        }
        crowd.join().unwrap();
    });
    wait_until("all of them to be refused", || site.client().hello().unwrap().refused_peers == 3_005);
    assert!(helper.printed().lines().count() < 500, "not each of a flood is told");
    let agent = &["--reuid", USER, "--regid", USER, "--clear-groups"][..];
    let said = ask_as(agent, &socket, &hold);
    assert_eq!(said, format!("{{\"done\":{{\"ids\":[\"{id}\"],\"trouble\":null}}}}"));
    assert!(site.is_in(&id, "hold"));
}

#[test]
fn one_wrong_id_and_the_queue_stays_as_it_is() {
    let site = Site::new("", "");
    let _helper = Helper::start(&site.config);
    site.postfix.forge(LATER);
    let id = site.waits("web1", "stays");
    let held = site.waits("web2", "held");
    site.postfix.run("postsuper", &["-h", &held]);
    let name = site.name();
    let long = "A".repeat(10_000);
    for verb in ["hold", "release", "delete"] {
        for bad in ["ALL", "-", "../x", long.as_str(), "*", "", "a b c d e", "$(reboot)"] {
            for ids in [vec![bad], vec![id.as_str(), bad], vec![bad, held.as_str()]] {
                let ids = serde_json::to_string(&ids).unwrap();
                let request = format!("{{\"{verb}\":{{\"instance\":\"{name}\",\"ids\":{ids}}}}}\n");
                let said = raw(&socket(&site.config), request.as_bytes());
                assert!(said.starts_with("{\"refused\":"), "{request}: {said}");
            }
        }
    }
    assert!(site.is_in(&held, "hold") && site.queue_of(&id).is_some_and(|queue| queue != "hold"));
    let spool = site.postfix.queue_dir();
    let request = format!("{{\"hold\":{{\"instance\":\"{}\",\"ids\":[\"{id}\"]}}}}\n", spool.display());
    let said = raw(&socket(&site.config), request.as_bytes());
    assert!(said.contains("the helper serves ") && said.contains(&name), "{said}");
    assert!(site.queue_of(&id).is_some_and(|queue| queue != "hold"));
}

#[test]
fn each_verb_does_in_the_queue_what_it_says() {
    let site = Site::new("", "");
    let _helper = Helper::start(&site.config);
    site.postfix.forge(LATER);
    let [one, two, three] = ["one", "two", "three"].map(|name| site.waits("web1", name));
    let (client, name) = (site.client(), site.name());
    let ids = |names: &[&String]| -> Vec<QueueId> {
        names.iter().map(|name| QueueId::new(name.as_bytes()).unwrap()).collect()
    };
    let sorted = |(mut done, trouble): (Vec<QueueId>, Option<String>)| {
        done.sort_unstable();
        (done, trouble)
    };
    let both = sorted((ids(&[&one, &two]), None));
    assert_eq!(sorted(client.work(Verb::Hold, Server::Postfix, &name, &ids(&[&one, &two])).unwrap()), both);
    assert!(site.is_in(&one, "hold") && site.is_in(&two, "hold") && !site.is_in(&three, "hold"));
    let counted = |queue: &str| {
        let counts = client.count(Server::Postfix, &name).unwrap();
        counts.iter().find(|one| one.queue == queue).map(|one| (one.files, one.oldest.is_some())).unwrap()
    };
    assert_eq!(counted("hold"), (2, true));
    let list = format!("{{\"list\":{{\"instance\":\"{name}\",\"queue\":\"hold\"}}}}\n");
    let listed: serde_json::Value = serde_json::from_str(&raw(&socket(&site.config), list.as_bytes())).unwrap();
    let mut there = [one.clone(), two.clone()];
    there.sort_unstable();
    assert_eq!(listed["ids"]["ids"], serde_json::json!(there), "{listed}");
    let sizes = client.sizes(Server::Postfix, &name, &ids(&[&one, &two, &three])).unwrap();
    let mut sized: Vec<String> = sizes.iter().map(|(id, _)| id.to_string()).collect();
    sized.sort_unstable();
    assert!(sized == there && sizes.iter().all(|(_, size)| (100..10_000).contains(size)), "{sizes:?}");
    assert!(matches!(client.sizes(Server::Postfix, &name, &[]), Err(Trouble::Refused(_))));
    // Deletes only what is on hold, and says which.
    assert_eq!(client.work(Verb::Delete, Server::Postfix, &name, &ids(&[&two, &three])).unwrap(), (ids(&[&two]), None));
    assert!(site.queue_of(&two).is_none() && site.queue_of(&three).is_some());
    // Released is delivered at once, not at the next run of the queue.
    site.postfix.forge("250 2.0.0 Ok");
    assert_eq!(client.work(Verb::Release, Server::Postfix, &name, &ids(&[&one])).unwrap(), (ids(&[&one]), None));
    wait_until("the released one", || {
        site.postfix.forge.messages().iter().any(|message| message.unique() == Some("one"))
    });
    wait_until("the other one", || site.queue_of(&three).is_none());
    assert!(
        raw(&socket(&site.config), format!("{{\"kick\":{{\"instance\":\"{name}\"}}}}\n").as_bytes()).contains("kicked")
    );
    // Who is asked about when it does not come in is nobody's.
    let why = client.identify(&name, ids(&[&one])[0]).unwrap_err();
    assert_eq!(why.name(), "no_queue_file");
    assert!(matches!(
        client.work(Verb::Hold, Server::Postfix, "postfix-other", &ids(&[&one])),
        Err(Trouble::Refused(_))
    ));
}

#[test]
fn what_others_can_change_is_not_started_from() {
    let site = Site::new("", "");
    let run = |user: Option<&str>| {
        let mut command = match user {
            Some(user) => {
                let mut command = command("setpriv");
                command.args(["--reuid", user, "--regid", user, "--clear-groups"]);
                command.arg(env!("CARGO_BIN_EXE_sendwarden"));
                command
            }
            None => Command::new(env!("CARGO_BIN_EXE_sendwarden")),
        };
        let output = command.args(["helper", "--config"]).arg(&site.config).current_dir("/").output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, said) = run(Some("web1"));
    assert!(status == Some(1) && said.contains("the helper must be root"), "{said}");
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    // Its configuration, and Postfix's: what could be written there would be started as root.
    mode(&site.config, 0o666);
    let (status, said) = run(None);
    assert!(status == Some(2) && said.contains("is not believed: others than root can change"), "{said}");
    mode(&site.config, 0o644);
    mode(&site.postfix.config_dir(), 0o777);
    let (status, said) = run(None);
    assert!(status == Some(1) && said.contains("etc is not believed"), "{said}");
    mode(&site.postfix.config_dir(), 0o755);
    let output = Command::new(env!("CARGO_BIN_EXE_sendwarden"))
        .args(["helper", "--user", "nobody-here", "--config"])
        .arg(&site.config)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(1) && said.contains("there is no user nobody-here; make one: useradd"),
        "{said}"
    );
    let elsewhere = site.config.with_file_name("elsewhere.sock");
    let mut other = Command::new(env!("CARGO_BIN_EXE_sendwarden"))
        .args(["helper", "--config"])
        .arg(&site.config)
        .arg("--socket")
        .arg(&elsewhere)
        .spawn()
        .unwrap();
    wait_until("a helper with another socket", || Client::new(&elsewhere).hello().is_ok());
    other.kill().unwrap();
    other.wait().unwrap();
}

/// Sends over SMTP, with a login and by script as long as it is told to, and counts what was taken.
struct Load<'s> {
    site: &'s Site,
    stop: &'s AtomicBool,
}

impl Load<'_> {
    fn until(&self, mut send: impl FnMut(usize)) -> usize {
        let mut sent = 0;
        while !self.stop.load(Ordering::SeqCst) {
            send(sent);
            sent += 1;
        }
        sent
    }

    /// Every reply must be one of success: 4xx and 5xx end the test.
    fn smtp(&self, port: u16, prefix: &str, auth: Option<(&str, &str)>) -> usize {
        self.until(|n| {
            let name = format!("{prefix}{n}-");
            let (to, data) = (format!("{name}@accept.test"), format!("X-Test-Id: {name}\n\nbody\n"));
            smtp::send(port, &Mail { sender: "box2@hosting.test", recipients: &[&to], data: &data, auth }).unwrap();
        })
    }

    /// sendmail(1) must not keep its caller waiting.
    fn script(&self, user: &str, prefix: &str) -> usize {
        self.until(|n| {
            let began = Instant::now();
            self.site.script(user, &format!("{prefix}{n}-"));
            assert!(began.elapsed() < Duration::from_secs(5), "sendmail(1) took {:?}", began.elapsed());
        })
    }

    /// SMTP by a process of this user, for an account that is blocked: taken and put on hold.
    fn client(&self, user: &str, prefix: &str) -> usize {
        let port = self.site.postfix.smtp_port().to_string();
        self.until(|n| {
            let (name, mut client) = (format!("{prefix}{n}-"), command("setpriv"));
            client.args(["--reuid", user, "--regid", user, "--clear-groups", "bash", "-c", CLIENT, "bash"]);
            client.args([&port, &format!("{name}@accept.test"), &name]).current_dir("/");
            support::place::succeed(&mut client, None);
        })
    }
}

const CLIENT: &str = r#"
exec 3<>/dev/tcp/127.0.0.1/$1
read -r reply <&3
for line in "HELO client.test" "MAIL FROM:<x@y.test>" "RCPT TO:<$2>" DATA "X-Test-Id: $3"$'\r\n\r\nbody\r\n.' QUIT; do
  printf '%s\r\n' "$line" >&3
  read -r reply <&3
  case $reply in [23]*) ;; *) echo "$line: $reply" >&2; exit 1 ;; esac
done
"#;

/// What a script handed over while the agent went waits in maildrop for a minute, unless pickup is woken; it is not when
/// it has more to do than it can queue.
fn wake_pickup(site: &Site) {
    let mut kick = command("postkick");
    kick.arg("-c").arg(site.postfix.config_dir()).args(["public", "pickup", "W"]);
    drop(kick.output().unwrap());
}

#[test]
fn a_restart_of_the_agent_is_not_felt_by_anybody() {
    const RESTARTS: usize = 6;
    let site = Site::new(MILTER, "gate:\n  mode: enforce\n");
    site.postfix.add_login("box2@hosting.test", PASSWORD);
    let helper = Helper::start(&site.config);
    let agent = site.agent();
    site.script("web1", "known");
    wait_until("the first message", || site.arrived("known") == 1);
    agent.wait_sum("sendwarden_accounts_known", &[], 1.0);
    site.tell(&["block", "web1", "--scope", "all"]);
    let stop = AtomicBool::new(false);
    let load = &Load { site: &site, stop: &stop };
    let (sent, agent) = std::thread::scope(|scope| {
        let (smtp, submission) = (site.postfix.smtp_port(), site.postfix.submission_port());
        let threads = [
            scope.spawn(move || load.smtp(smtp, "local", None)),
            scope.spawn(move || load.smtp(submission, "login", Some(("box2@hosting.test", PASSWORD)))),
            scope.spawn(|| load.script("web2", "innocent")),
            scope.spawn(|| load.script("web1", "guilty-a")),
            scope.spawn(|| load.client("web1", "guilty-b")),
        ];
        let mut agent = agent;
        for _ in 0..RESTARTS {
            let (before, held) = (site.arrived("innocent"), site.on_hold("guilty"));
            wait_until("mail to flow", || site.arrived("innocent") > before + 5 && site.on_hold("guilty") > held + 5);
            agent.stop();
            agent = site.agent();
        }
        stop.store(true, Ordering::SeqCst);
        (threads.map(|thread| thread.join().unwrap()), agent)
    });
    println!(
        "{RESTARTS} restarts; by SMTP, with a login, by script, of the blocked account by script and SMTP: {sent:?}"
    );
    wait_until("everybody else's mail", || {
        wake_pickup(&site);
        [site.arrived("local"), site.arrived("login"), site.arrived("innocent")] == [sent[0], sent[1], sent[2]]
    });
    wait_until("all of the blocked account's to be on hold", || site.on_hold("guilty") == sent[3] + sent[4]);
    assert_eq!(site.arrived("guilty"), 0);
    assert_eq!(site.postfix.log().matches("milter-reject").count(), 0, "nothing was put off");
    let page = agent.metrics();
    page.lines().filter(|line| line.contains("gate_decision_seconds")).for_each(|line| println!("{line}"));
    agent.stop();
    // Without an agent for half a minute it closes: the server then does at once what its settings say.
    let gate = site.postfix.queue_dir().join("sendwarden/gate.sock");
    assert!(gate.exists(), "the next agent could come yet");
    wait_until("the gate to be closed", || !gate.exists());
    assert!(helper.printed().contains("no agent has come for the gate of "));
}

/// Messages that were not taken because nobody could prove whose they are, as Postfix logs it.
fn put_off(site: &Site) -> usize {
    site.postfix.log().matches(": milter-reject: END-OF-MESSAGE from localhost[127.0.0.1]: 4.7.1 Who hands").count()
}

#[test]
fn a_helper_that_is_killed_and_started_again_lets_nothing_of_a_blocked_account_out() {
    const KILLS: usize = 5;
    let site = Site::new(MILTER, "gate:\n  mode: enforce\n");
    let (mut helper, agent) = (Helper::start(&site.config), site.agent());
    for user in ["web1", "web2"] {
        site.script(user, &format!("known-{user}"));
    }
    wait_until("the first messages", || site.arrived("known") == 2);
    agent.wait_sum("sendwarden_accounts_known", &[], 2.0);
    site.tell(&["block", "web1"]);
    let stop = AtomicBool::new(false);
    let load = &Load { site: &site, stop: &stop };
    let (sent, helper) = std::thread::scope(|scope| {
        let threads = [scope.spawn(|| load.script("web1", "guilty")), scope.spawn(|| load.script("web2", "innocent"))];
        for _ in 0..KILLS {
            let (arrived, held) = (site.arrived("innocent"), site.on_hold("guilty"));
            wait_until("mail to flow", || {
                wake_pickup(&site);
                site.arrived("innocent") > arrived + 5 && site.on_hold("guilty") > held + 5
            });
            helper.kill();
            let killed = Instant::now();
            wait_until("the time that systemd takes", || killed.elapsed() >= Duration::from_millis(1_200));
            helper = Helper::start(&site.config);
            wait_until("the agent to be ready", || agent.get("/-/ready").0 == 200);
        }
        stop.store(true, Ordering::SeqCst);
        (threads.map(|thread| thread.join().unwrap()), helper)
    });
    let stopped = Instant::now();
    println!("{KILLS} kills; of the blocked account and of the other one: {sent:?}, put off {}", put_off(&site));
    wait_until("everybody else's mail", || site.arrived("innocent") == sent[1]);
    wait_until("all of the blocked account's to be on hold", || site.on_hold("guilty") == sent[0]);
    println!("all of it was taken {:.1} s after the last one", stopped.elapsed().as_secs_f64());
    assert_eq!(site.arrived("guilty"), 0);
    assert!(put_off(&site) >= KILLS, "{}", put_off(&site));
    agent.wait_sum("sendwarden_account_messages_accepted_total", &["account=\"web2\""], sent[1] as f64 + 1.0);
    agent.wait_sum("sendwarden_account_messages_accepted_total", &["account=\"web1\""], sent[0] as f64 + 1.0);
    agent.stop();
    drop(helper);
}

#[test]
fn agent_and_helper_killed_under_load_are_not_felt_by_those_who_are_not_blocked() {
    let site = Site::new(MILTER, "gate:\n  mode: enforce\n");
    site.postfix.add_login("box2@hosting.test", PASSWORD);
    let (helper, agent) = (Helper::start(&site.config), site.agent());
    let stop = AtomicBool::new(false);
    let load = &Load { site: &site, stop: &stop };
    let (sent, helper, agent) = std::thread::scope(|scope| {
        let (smtp, submission) = (site.postfix.smtp_port(), site.postfix.submission_port());
        let threads = [
            scope.spawn(move || load.smtp(smtp, "local", None)),
            scope.spawn(move || load.smtp(submission, "login", Some(("box2@hosting.test", PASSWORD)))),
            scope.spawn(|| load.script("web2", "innocent")),
        ];
        let flows = || {
            let before = site.arrived("local") + site.arrived("login");
            wait_until("mail to flow", || site.arrived("local") + site.arrived("login") > before + 10);
        };
        let (mut helper, mut agent) = (helper, agent);
        for _ in 0..3 {
            flows();
            agent.kill();
            agent = site.agent();
            flows();
            helper.kill();
            flows();
            helper = Helper::start(&site.config);
        }
        stop.store(true, Ordering::SeqCst);
        (threads.map(|thread| thread.join().unwrap()), helper, agent)
    });
    println!("3 kills of either; by SMTP, with a login, by script: {sent:?}");
    wait_until("all of it", || {
        wake_pickup(&site);
        [site.arrived("local"), site.arrived("login"), site.arrived("innocent")] == sent
    });
    // The new helper's socket is the gate's now: who is blocked is held.
    wait_until("the agent to be ready", || agent.get("/-/ready").0 == 200);
    agent.wait_sum("sendwarden_accounts_known", &[], 2.0);
    site.tell(&["block", "web2"]);
    // The agent looks for a helper that is new twice a second; until then nobody can be proven.
    wait_until("its mail to be on hold", || {
        site.script("web2", "guilty");
        site.on_hold("guilty") > 0
    });
    agent.stop();
    drop(helper);
}

#[test]
fn an_agent_without_its_helper_says_so_loses_nothing_and_mends() {
    let site = Site::new(MILTER, "gate:\n  mode: enforce\n");
    site.postfix.forge(LATER);
    let agent = Agent::start_unready(&["--groups", "adm"], &site.config, &site.address);
    let ready = |agent: &Agent| agent.get("/-/ready");
    wait_until("the agent to say that its gate is not open", || ready(&agent).1.contains("the gate is not open"));
    let helper = Helper::start(&site.config);
    wait_until("the agent to be ready", || ready(&agent).0 == 200);
    site.script("web1", "known");
    wait_until("the first message", || site.arrived("known") == 1);
    let waiting = site.waits("web1", "waiting");
    agent.wait_sum("sendwarden_account_queued_recipients", &["account=\"web1\""], 1.0);

    helper.kill();
    wait_until("the agent to notice", || ready(&agent).1.contains("cannot be proven, so that it passes"));
    let lost = Instant::now();
    // Nobody is blocked: nobody waits. Who cannot be proven passes, and is counted.
    site.script("web1", "unproven");
    wait_until("mail whose sender nobody can prove", || site.arrived("unproven") == 1);
    agent.wait_sum("sendwarden_gate_unknown_identities_total", &["reason=\"no_helper\""], 1.0);
    assert_eq!(put_off(&site), 0);
    let said = site.tell(&["block", "web1"]);
    assert!(
        said.contains("state ko") && said.contains("right now nothing in the queue can be held or released"),
        "{said}"
    );
    assert!(said.contains("start it as root: systemctl start sendwarden-helper"), "{said}");
    assert!(site.tell(&["status"]).contains("no message can be held or released: the helper does not answer"));
    let mut check = command("setpriv");
    check.args(["--reuid", USER, "--regid", USER, "--groups", "adm", env!("CARGO_BIN_EXE_sendwarden"), "check"]);
    let check = check.arg("--config").arg(&site.config).current_dir("/").output().unwrap();
    let text = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(text.contains("the helper does not answer on") && check.status.code() == Some(1), "{text}");
    // Who cannot be proven is waited for now, and after a minute not any more.
    site.script("web2", "later");
    wait_until("it to be put off", || put_off(&site) > 0);
    agent.wait_sum("sendwarden_gate_decisions_total", &["decision=\"tempfailed\"", "origin=\"script\""], 1.0);
    assert!(lost.elapsed() > Duration::from_secs(50) || site.arrived("later") == 0);
    wait_until("mail whose sender nobody can prove", || {
        wake_pickup(&site);
        site.arrived("later") == 1
    });
    let waited = lost.elapsed().as_secs();
    println!("without a helper it went after {waited} s");
    assert!((55..90).contains(&waited), "{waited}");
    assert!(site.queue_of(&waiting).is_some_and(|queue| queue != "hold"));

    let helper = Helper::start(&site.config);
    wait_until("the agent to be ready", || ready(&agent).0 == 200);
    site.script("web1", "proven");
    wait_until("new mail to be on hold", || site.on_hold("proven") == 1);
    wait_until("what waited to be on hold too", || site.is_in(&waiting, "hold"));
    assert!(!site.tell(&["status"]).contains("no message can be held"));
    // In the middle of an order: what was not done is done when it is back.
    site.postfix.forge("250 2.0.0 Ok");
    let stopped = rustix::process::Pid::from_raw(i32::try_from(helper.pid()).unwrap()).unwrap();
    rustix::process::kill_process(stopped, rustix::process::Signal::STOP).unwrap();
    std::thread::scope(|scope| {
        let told = scope.spawn(|| site.tell(&["unblock", "web1"]));
        assert!(told.join().unwrap().contains("nothing in the queue can be held or released"));
    });
    helper.kill();
    assert_eq!(site.on_hold(""), 2);
    let helper = Helper::start(&site.config);
    wait_until("all to be delivered", || {
        site.arrived("proven") == 1 && site.postfix.forge.messages().len() == 1 && site.postfix.queue().is_empty()
    });
    agent.stop();
    drop(helper);
}

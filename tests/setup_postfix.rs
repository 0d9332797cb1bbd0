//! `setup postfix` on real instances: after --apply mail by every way in is asked about exactly once, behind what was
//! there; after an administrator's own edit --undo leaves the files as they would be without us.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::agent::{Agent, configure, sendwarden};
use support::place::{command, succeed};
use support::postfix::{Options, Postfix};
use support::smtp::{self, Mail};
use support::wait_until;

const PASSWORD: &str = "secret";
const CLIENT: &str = r#"
exec 3<>/dev/tcp/127.0.0.1/$1
read -r reply <&3
for line in "HELO client.test" "MAIL FROM:<$2>" "RCPT TO:<$3>" DATA "X-Test-Id: $4"$'\r\n\r\nbody\r\n.' QUIT; do
  printf '%s\r\n' "$line" >&3
  read -r reply <&3
  case $reply in [23]*) ;; *) echo "$line: $reply" >&2; exit 1 ;; esac
done
"#;

fn text(name: &str) -> String {
    format!("From: a@hosting.test\nSubject: {name}\nX-Test-Id: {name}\n\nbody\n")
}

fn script(postfix: &Postfix, user: &str, name: &str) {
    postfix.sendmail(user, &format!("{user}@hosting.test"), &[&format!("{name}@accept.test")], &text(name));
}

fn login(postfix: &Postfix, login: &str, name: &str) {
    let (to, data) = (format!("{name}@accept.test"), text(name));
    let mail = Mail { sender: login, recipients: &[&to], data: &data, auth: Some((login, PASSWORD)) };
    smtp::send(postfix.submission_port(), &mail).unwrap();
}

/// SMTP from loopback, by a process of this user.
fn local(port: u16, user: &str, name: &str) {
    let (port, to) = (port.to_string(), format!("{name}@accept.test"));
    let mut client = command("setpriv");
    client.args(["--reuid", user, "--regid", user, "--clear-groups", "bash", "-c", CLIENT, "bash"]);
    client.args([&port, "x@y.test", &to, name]).current_dir("/");
    succeed(&mut client, None);
}

fn arrived(postfix: &Postfix, prefix: &str) -> usize {
    let messages = postfix.accept.messages();
    messages.iter().filter_map(|message| message.unique()).filter(|name| name.starts_with(prefix)).count()
}

fn on_hold(postfix: &Postfix, prefix: &str) -> usize {
    let held = postfix.queue().into_iter().filter(|one| one.queue == "hold");
    held.flat_map(|one| one.recipients).filter(|to| to.starts_with(prefix)).count()
}

/// `setup postfix` on these instances: whether it was well, and what it said.
fn setup(instances: &[&Postfix], arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sendwarden"));
    command.args(["setup", "postfix"]).args(arguments);
    for postfix in instances {
        command.arg("--config-directory").arg(postfix.config_dir());
    }
    let output = command.output().unwrap();
    (output.status.code(), [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat())
}

fn agent_of(instances: &[&Postfix]) -> (PathBuf, String) {
    let first = instances[0];
    let (dir, address) = (first.own_dir("agent"), first.address(0));
    let logs: Vec<PathBuf> = instances.iter().map(|postfix| postfix.log_path()).collect();
    let config = configure(&dir, &address, &logs, "accounts: []\n");
    let list = |path: &dyn Fn(&Postfix) -> PathBuf| {
        instances.iter().map(|postfix| path(postfix).display().to_string()).collect::<Vec<_>>().join(", ")
    };
    let queue = format!(
        "queue:\n  directories: [{}]\n  config_directories: [{}]\ngate:\n  mode: enforce\n  logins: hold\n",
        list(&Postfix::queue_dir),
        list(&Postfix::config_dir)
    );
    fs::write(&config, fs::read_to_string(&config).unwrap() + &queue).unwrap();
    (config, address)
}

/// A file with what a change of it must keep.
fn state(path: &Path) -> (Vec<u8>, u32, u32, u32) {
    let meta = fs::metadata(path).unwrap();
    (fs::read(path).unwrap(), meta.permissions().mode(), meta.uid(), meta.gid())
}

fn append(path: &Path, text: &str) {
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

struct Situation {
    name: &'static str,
    main: &'static str,
    /// What submission says besides.
    submission: &'static str,
    /// What the service says that takes mail back.
    back: &'static str,
    arguments: &'static [&'static str],
}

const SITUATIONS: [Situation; 3] = [
    Situation {
        name: "one list takes the other over, submission has its own, mail comes back without milters",
        main: "milter_default_action = accept\nsmtpd_milters = inet:127.0.0.1:9\nnon_smtpd_milters = $smtpd_milters\n",
        submission: "  -o smtpd_milters=inet:127.0.0.1:9\n",
        back: "  -o content_filter=\n  -o receive_override_options=no_header_body_checks,no_milters\n",
        arguments: &[],
    },
    Situation {
        name: "lists over several lines, mail comes back to the same list",
        main: "milter_default_action = accept\nsmtpd_milters =\n    inet:127.0.0.1:9,\n# signs\n    inet:127.0.0.1:10\n\
               non_smtpd_milters = inet:127.0.0.1:9",
        submission: "  -o { smtpd_milters = inet:127.0.0.1:9,\n       inet:127.0.0.1:10 }\n",
        back: "  -o content_filter=\n",
        arguments: &["--submission", "tempfail"],
    },
    Situation {
        name: "no milters, mail comes back to an empty list",
        main: "",
        submission: "",
        back: "  -o content_filter=\n  -o smtpd_milters=\n",
        arguments: &["--submission", "tempfail"],
    },
];

/// Puts the situation into the files of an instance that is as the rig made it.
fn arrange(postfix: &Postfix, situation: &Situation, rig: &(String, String)) {
    let etc = postfix.config_dir();
    let mut master = rig.1.clone();
    let back = format!("127.0.0.1:{} inet", postfix.reinject_port());
    master.truncate(master.find(&back).unwrap());
    master.push_str(situation.submission);
    master.push_str(&format!("{back} n - n - - smtpd\n{}", situation.back));
    fs::write(etc.join("main.cf"), format!("{}{}", rig.0, situation.main)).unwrap();
    fs::write(etc.join("master.cf"), master).unwrap();
    // Users read main.cf, nobody but root needs the other one.
    fs::set_permissions(etc.join("master.cf"), fs::Permissions::from_mode(0o640)).unwrap();
    chown(etc.join("master.cf"), Some(0), Some(12)).unwrap();
    postfix.run("postfix", &["reload"]);
}

#[test]
fn every_way_in_is_asked_once_and_an_undo_takes_only_ours() {
    let postfix = Postfix::start(&Options { content_filter: true, ..Options::default() });
    let etc = postfix.config_dir();
    let read = |name: &str| fs::read_to_string(etc.join(name)).unwrap();
    let rig = (read("main.cf"), read("master.cf"));
    for login in ["box1@hosting.test", "box2@hosting.test"] {
        postfix.add_login(login, PASSWORD);
    }
    // Nobody is there yet who could answer: nothing is changed.
    let (code, said) = setup(&[&postfix], &["--apply"]);
    assert!(code == Some(1) && said.contains("no agent answers"), "{said}");
    assert_eq!(read("main.cf"), rig.0);

    let (config, address) = agent_of(&[&postfix]);
    let agent = Agent::start(&config, &address);
    let tell = |arguments: &[&str]| sendwarden(&[arguments, &["--config", config.to_str().unwrap()]].concat());
    script(&postfix, "web1", "known1");
    login(&postfix, "box1@hosting.test", "known2");
    wait_until("the first messages", || arrived(&postfix, "known") == 2);
    agent.wait_sum("sendwarden_accounts_known", &[], 2.0);
    tell(&["block", "web1", "--scope", "all"]);
    tell(&["block", "box1@hosting.test", "--scope", "all"]);

    for (number, situation) in SITUATIONS.iter().enumerate() {
        println!("{}", situation.name);
        arrange(&postfix, situation, &rig);
        let (main, master) = (etc.join("main.cf"), etc.join("master.cf"));
        let before = (state(&main), state(&master));
        let apply = [&["--apply"], situation.arguments].concat();
        let (code, said) = setup(&[&postfix], &apply);
        assert_eq!(code, Some(0), "{said}");
        let after = (state(&main), state(&master));
        assert!(said.contains("The gate is set up; Postfix was reloaded") && after != before, "{said}");
        for (after, before) in [(&after.0, &before.0), (&after.1, &before.1)] {
            assert_eq!((after.1, after.2, after.3), (before.1, before.2, before.3), "mode and owner");
        }
        assert_eq!(fs::read(etc.join("main.cf.before-sendwarden")).unwrap(), before.0.0, "the copy");
        let (code, said) = setup(&[&postfix], &apply);
        assert!(code == Some(0) && said.contains("nothing was changed"), "{said}");
        assert_eq!((state(&main), state(&master)), after);

        let decided = agent.sum("sendwarden_gate_decisions_total", &[]);
        let (guilty, innocent) = (format!("guilty{number}-"), format!("innocent{number}-"));
        for (user, login_name, prefix) in
            [("web1", "box1@hosting.test", &guilty), ("web2", "box2@hosting.test", &innocent)]
        {
            script(&postfix, user, &format!("{prefix}script"));
            login(&postfix, login_name, &format!("{prefix}login"));
            local(postfix.smtp_port(), user, &format!("{prefix}local"));
        }
        wait_until("the innocent ones' mail", || arrived(&postfix, &innocent) == 3);
        wait_until("the blocked ones' mail on hold", || on_hold(&postfix, &guilty) == 3);
        assert_eq!(arrived(&postfix, &guilty), 0);
        // Each once, though the innocent ones' went through the filter and back.
        agent.wait_sum("sendwarden_gate_decisions_total", &[], decided + 6.0);
        // What the filter hands back is not asked about again, and the settings are ones that Postfix knows.
        local(postfix.reinject_port(), "web2", &format!("{innocent}back"));
        wait_until("what was handed back", || arrived(&postfix, &innocent) == 4);
        assert_eq!(agent.sum("sendwarden_gate_decisions_total", &[]), decided + 6.0);
        let log = postfix.log();
        let complaint = log.lines().find(|line| line.contains("bad") && line.contains("milter"));
        assert_eq!(complaint, None);

        // The administrator goes on: another milter by postconf(1), in a service, and another setting.
        let edits = |etc: &Path| {
            append(&etc.join("main.cf"), "\nalways_add_missing_headers = yes\n");
            let path = etc.join("master.cf");
            let text = fs::read_to_string(&path).unwrap().replace("cleanup unix", "# mine\ncleanup  unix");
            fs::write(path, text.replace("inet:127.0.0.1:9", "inet:127.0.0.1:8,inet:127.0.0.1:9")).unwrap();
        };
        edits(&etc);
        let (code, said) = setup(&[&postfix], &["--undo"]);
        assert!(code == Some(0) && said.contains("The gate was taken out; Postfix was reloaded"), "{said}");
        let undone = (state(&main), state(&master));
        arrange(&postfix, situation, &rig);
        edits(&etc);
        assert_eq!(undone, (state(&main), state(&master)));
        let (code, said) = setup(&[&postfix], &["--undo"]);
        assert!(code == Some(0) && said.contains("nothing to take out"), "{said}");
        script(&postfix, "web1", &format!("free{number}"));
        // What comes while the server reloads is looked for a minute later, or tried again later still.
        wait_until("mail without a gate", || {
            let mut kick = command("postkick");
            drop(kick.arg("-c").arg(postfix.config_dir()).args(["public", "pickup", "W"]).output());
            postfix.run("postqueue", &["-f"]);
            arrived(&postfix, &format!("free{number}")) == 1
        });
    }
    // What Postfix itself cannot use is not written.
    let main = etc.join("main.cf");
    append(&main, "mail_owner = nobody-of-that-name\n");
    let before = state(&main);
    let (code, said) = setup(&[&postfix], &["--apply"]);
    assert!(code == Some(1) && said.contains("nothing was changed"), "{said}");
    assert_eq!(state(&main), before);
    fs::write(&main, &rig.0).unwrap();
    agent.stop();
}

#[test]
fn each_instance_gets_its_gate() {
    let first = Postfix::start(&Options::default());
    let second = Postfix::start(&Options { syslog_name: "postfix-out".to_owned(), ..Options::default() });
    let (config, address) = agent_of(&[&first, &second]);
    let agent = Agent::start(&config, &address);
    let tell = |arguments: &[&str]| sendwarden(&[arguments, &["--config", config.to_str().unwrap()]].concat());
    let files = |postfix: &Postfix| ["main.cf", "master.cf"].map(|name| state(&postfix.config_dir().join(name)));
    let before = [files(&first), files(&second)];
    // One that is not understood keeps both as they are.
    let main = second.config_dir().join("main.cf");
    append(&main, "receive_override_options = no_milters\n");
    let (code, said) = setup(&[&first, &second], &["--apply"]);
    assert!(code == Some(1) && said.contains("says no_milters for all services"), "{said}");
    assert_eq!(files(&first), before[0]);
    fs::write(&main, &before[1][0].0).unwrap();

    let (code, said) = setup(&[&first, &second], &["--apply"]);
    assert_eq!(code, Some(0), "{said}");
    for (name, postfix) in [("a", &first), ("b", &second)] {
        script(postfix, "web1", &format!("known-{name}"));
        wait_until("the first message", || arrived(postfix, "known") == 1);
    }
    agent.wait_sum("sendwarden_accounts_known", &[], 1.0);
    tell(&["block", "web1"]);
    for postfix in [&first, &second] {
        script(postfix, "web1", "guilty");
        script(postfix, "web2", "innocent");
        wait_until("the innocent one's mail", || arrived(postfix, "innocent") == 1);
        wait_until("the blocked one's mail on hold", || on_hold(postfix, "guilty") == 1);
    }
    let (code, said) = setup(&[&first, &second], &["--undo"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!([files(&first), files(&second)], before);
    let left = fs::read_dir(first.config_dir()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(left.filter(|name| name.contains("sendwarden")).count(), 0, "copies that say the same are gone");
    agent.stop();
}

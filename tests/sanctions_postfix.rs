//! Block, unblock and purge on a real Postfix: exactly the account's mail, an administrator's holds untouched, and an
//! order that the agent did not live to carry out is carried out by the next one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use support::held::Site;
use support::helper::Role;
use support::{wait_for, wait_until};

const LATER: &str = "450 4.2.1 come again";
const TAKEN: &str = "250 2.0.0 Ok";

#[test]
fn only_the_accounts_mail_is_held_and_only_what_the_agent_holds_is_released_and_purged() {
    hold_release_purge(Role::Root);
}

#[test]
fn only_the_accounts_mail_is_held_and_only_what_the_agent_holds_is_released_and_purged_by_an_ordinary_user() {
    hold_release_purge(Role::Ordinary);
}

fn hold_release_purge(role: Role) {
    let site = Site::new("", role);
    site.postfix.forge(LATER);
    let own: Vec<String> = ["a1", "a2", "a3"].map(|name| site.waits("web1", name)).to_vec();
    let others: Vec<String> = ["b1", "b2"].map(|name| site.waits("web2", name)).to_vec();
    let admins = site.waits("web1", "admins");
    site.postfix.run("postsuper", &["-h", &admins]);
    let agent = site.agent();
    site.wait_queued(&agent, "web1", 4.0);
    agent.wait_sum("sendwarden_account_held_recipients", &["account=\"web1\""], 1.0);

    let said = site.tell(&["block", "web1", "--reason", "hacked form"]);
    assert!(
        said.starts_with("web1: block (scope script), state ko (held: blocked); 3 messages to put on hold"),
        "{said}"
    );
    let own: Vec<&String> = own.iter().collect();
    wait_until("the account's mail to be on hold", || site.is_in(&own, "hold"));
    assert!(others.iter().all(|id| site.queue_of(id).as_deref() != Some("hold")), "{:?}", site.postfix.queue());
    let status = site.wait_idle("web1");
    assert_eq!((&status["state"], &status["held_messages"]), (&"ko".into(), &3.into()), "{status}");
    assert_eq!(status["sanction"]["reason"], "hacked form", "{status}");
    assert_eq!(status["orders"][0]["details"], "3 put on hold", "{status}");
    assert_eq!(site.status("web2")["state"], "ok");
    let text = site.tell(&["status", "web1"]);
    assert!(text.contains("held (script) since ") && text.contains("by root: hacked form"), "{text}");
    assert!(
        site.tell(&["account", "list"])
            .lines()
            .any(|line| line.starts_with("web1 ") && line.ends_with("  ko (held: blocked)"))
    );
    assert!(site.tell(&["block", "web1"]).contains("nothing to do, it is blocked already, and a second block"));

    site.postfix.forge(TAKEN);
    wait_until("the other account's mail to be delivered", || site.delivered("b1") + site.delivered("b2") == 2);
    assert!(site.is_in(&own, "hold"));
    assert!(site.tell(&["unblock", "web1"]).contains("state ok; 3 messages to release"));
    wait_until("what was held to be delivered", || own.iter().all(|id| site.queue_of(id).is_none()));
    assert_eq!(["a1", "a2", "a3", "b1", "b2"].map(|name| site.delivered(name)), [1; 5], "each once");
    assert_eq!(site.queue_of(&admins).as_deref(), Some("hold"), "an administrator's hold stands");
    assert_eq!(site.wait_idle("web1")["orders"][0]["details"], "3 released");

    site.postfix.forge(LATER);
    let own: Vec<String> = ["c1", "c2"].map(|name| site.waits("web1", name)).to_vec();
    let other = site.waits("web2", "d1");
    site.wait_queued(&agent, "web1", 3.0);
    site.tell(&["block", "web1", "--for", "1h"]);
    let ids: Vec<&String> = own.iter().collect();
    wait_until("the account's mail to be on hold", || site.is_in(&ids, "hold"));
    site.wait_idle("web1");
    let said = site.tell(&["purge", "web1", "--yes"]);
    assert_eq!(said.trim(), "web1: purge, state purging (what is held is being deleted); 2 messages to delete");
    wait_until("what was held to be gone", || own.iter().all(|id| site.queue_of(id).is_none()));
    let status = site.wait_idle("web1");
    assert_eq!((&status["state"], &status["held_messages"]), (&"ok".into(), &0.into()), "{status}");
    assert_eq!(status["orders"][0]["details"], "2 deleted", "{status}");
    assert!(site.queue_of(&other).is_some(), "the other account's mail is where it was");
    assert_eq!(site.queue_of(&admins).as_deref(), Some("hold"), "an administrator's hold stands");
    site.postfix.forge(TAKEN);
    wait_until("the other account's mail to be delivered", || site.delivered("d1") == 1);
    assert_eq!(["c1", "c2", "admins"].map(|name| site.delivered(name)), [0; 3]);
    agent.stop();
}

/// The tools of Postfix in a directory of their own, with a postsuper(1) that hangs while a file `hang` is there: before it
/// has done anything, or after its work if there is a file `late` too.
fn hanging_tools(dir: &Path) {
    for entry in fs::read_dir("/usr/sbin").unwrap().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("post") || name == "sendmail" {
            symlink(entry.path(), dir.join(&name)).unwrap();
        }
    }
    let (tool, here) = (dir.join("postsuper"), dir.display());
    fs::remove_file(&tool).unwrap();
    let script = format!(
        "#!/bin/sh\nif [ -e {here}/hang ]; then [ ! -e {here}/late ] || /usr/sbin/postsuper \"$@\"; echo $$ > {here}/pid.new; mv {here}/pid.new {here}/pid; \
         exec sleep 600; fi\nexec /usr/sbin/postsuper \"$@\"\n"
    );
    fs::write(&tool, script).unwrap();
    for path in [dir, &tool] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn end_hanging(dir: &Path) {
    let pid = wait_for("the tool to be started", || fs::read_to_string(dir.join("pid")).ok());
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it hangs");
    fs::remove_file(dir.join("pid")).unwrap();
}

#[test]
fn killed_between_the_order_and_its_steps_it_is_carried_out_by_the_next_agent() {
    killed_between(Role::Root);
}

#[test]
fn killed_between_the_order_and_its_steps_it_is_carried_out_by_the_next_agent_by_an_ordinary_user() {
    killed_between(Role::Ordinary);
}

fn killed_between(role: Role) {
    let tools = tempfile::tempdir().unwrap();
    hanging_tools(tools.path());
    let site = Site::new(&format!("command_directory = {}\n", tools.path().display()), role);
    site.postfix.forge(LATER);
    let own: Vec<String> = ["e1", "e2"].map(|name| site.waits("web1", name)).to_vec();
    let own: Vec<&String> = own.iter().collect();
    let other = site.waits("web2", "f1");
    let mut agent = site.agent();
    site.wait_queued(&agent, "web1", 2.0);

    let hang = tools.path().join("hang");
    for (action, state, after) in
        [(&["block", "web1"][..], "ko", Some("hold")), (&["purge", "web1", "--yes"], "ok", None)]
    {
        fs::write(&hang, "").unwrap();
        site.tell(action);
        wait_until("the tool to be started", || tools.path().join("pid").exists());
        agent.kill();
        end_hanging(tools.path());
        assert!(own.iter().all(|id| site.queue_of(id).is_some()), "nothing was done");
        fs::remove_file(&hang).unwrap();
        agent = site.agent();
        wait_until("the next agent to do it", || own.iter().all(|id| site.queue_of(id).as_deref() == after));
        let status = site.wait_idle("web1");
        assert_eq!(status["state"], state, "{status}");
    }
    agent.stop();
    assert!(site.queue_of(&other).is_some_and(|queue| queue != "hold"));
}

#[test]
fn a_helper_killed_at_its_work_is_followed_by_one_that_does_it() {
    let tools = tempfile::tempdir().unwrap();
    hanging_tools(tools.path());
    let mut site = Site::new(&format!("command_directory = {}\n", tools.path().display()), Role::Ordinary);
    site.postfix.forge(LATER);
    let own: Vec<String> = ["h1", "h2"].map(|name| site.waits("web1", name)).to_vec();
    let own: Vec<&String> = own.iter().collect();
    let other = site.waits("web2", "i1");
    let agent = site.agent();
    site.wait_queued(&agent, "web1", 2.0);
    let hang = tools.path().join("hang");
    for (action, outcome, after) in
        [(&["block", "web1"][..], "incomplete", Some("hold")), (&["purge", "web1", "--yes"], "failed", Some("hold"))]
    {
        fs::write(&hang, "").unwrap();
        site.tell(action);
        wait_until("the tool to be started", || tools.path().join("pid").exists());
        site.helper.take().unwrap().kill();
        end_hanging(tools.path());
        fs::remove_file(&hang).unwrap();
        wait_until("the agent to say what is wrong", || {
            site.tell(&["status"]).contains("no message can be held or released: the helper does not answer")
        });
        let status = site.wait_idle("web1");
        let newest = &status["orders"][0];
        assert_eq!((&newest["outcome"], &status["state"]), (&outcome.into(), &"ko".into()), "{status}");
        assert!(newest["details"].as_str().unwrap().contains("systemctl start sendwarden-helper"), "{status}");
        assert!(own.iter().all(|id| site.queue_of(id).is_some()), "nothing was done");
        site.helper = site.role.helper(&site.config);
        wait_until("the next helper to hold it", || own.iter().all(|id| site.queue_of(id).as_deref() == after));
        wait_until("the agent to know", || site.status("web1")["held_messages"] == 2);
    }
    site.tell(&["purge", "web1", "--yes"]);
    wait_until("it to be deleted", || own.iter().all(|id| site.queue_of(id).is_none()));
    agent.stop();
    assert!(site.queue_of(&other).is_some_and(|queue| queue != "hold"));
    assert_eq!(["h1", "h2"].map(|name| site.delivered(name)), [0; 2]);
}

#[test]
fn what_a_helper_has_held_before_it_could_say_so_is_ours() {
    let tools = tempfile::tempdir().unwrap();
    hanging_tools(tools.path());
    let mut site = Site::new(&format!("command_directory = {}\n", tools.path().display()), Role::Ordinary);
    site.postfix.forge(LATER);
    let own: Vec<String> = ["j1", "j2"].map(|name| site.waits("web1", name)).to_vec();
    let own: Vec<&String> = own.iter().collect();
    let agent = site.agent();
    site.wait_queued(&agent, "web1", 2.0);
    // Once it comes back at once, once it does not.
    for away in [false, true] {
        for file in ["hang", "late"] {
            fs::write(tools.path().join(file), "").unwrap();
        }
        site.tell(&["block", "web1"]);
        wait_until("the tool to have done its work", || tools.path().join("pid").exists());
        assert!(site.is_in(&own, "hold"));
        site.helper.take().unwrap().kill();
        end_hanging(tools.path());
        fs::remove_file(tools.path().join("hang")).unwrap();
        if away {
            let status = site.wait_idle("web1");
            assert_eq!(status["orders"][0]["outcome"], "incomplete", "{status}");
        }
        site.helper = site.role.helper(&site.config);
        let status = site.wait_idle("web1");
        assert_eq!((&status["state"], &status["held_messages"]), (&"ko".into(), &2.into()), "{status}");
        site.tell(&["unblock", "web1"]);
        wait_until("it to be released", || own.iter().all(|id| site.queue_of(id).is_some_and(|queue| queue != "hold")));
        site.wait_idle("web1");
        site.wait_queued(&agent, "web1", 2.0);
    }
    site.postfix.forge(TAKEN);
    wait_until("it to be delivered", || site.delivered("j1") + site.delivered("j2") == 2);
    agent.stop();
}

#[test]
fn orders_over_http_need_the_token_and_over_the_socket_root() {
    who_may_order(Role::Root);
}

#[test]
fn orders_over_http_need_the_token_and_over_the_socket_root_by_an_ordinary_user() {
    who_may_order(Role::Ordinary);
}

fn who_may_order(role: Role) {
    let site = Site::new("", role);
    site.postfix.forge(LATER);
    let id = site.waits("web1", "g1");
    let agent = site.agent();
    site.wait_queued(&agent, "web1", 1.0);
    let post = |token: &str, body: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-w", "\n%{http_code}", "-H", "Content-Type: application/json", "-d", body]);
        if !token.is_empty() {
            curl.args(["-H", &format!("Authorization: Bearer {token}")]);
        }
        let Output { stdout, .. } =
            curl.arg(format!("http://{}/api/v1/accounts/web1/request", site.address)).output().unwrap();
        String::from_utf8_lossy(&stdout).into_owned()
    };
    let block = r#"{"action":"BLOCK","reason":"r","scope":"all","for":"2h"}"#;
    assert!(post("", block).ends_with("\n401") && post("0123456789abcdeX", block).ends_with("\n401"));
    assert_eq!(site.status("web1")["state"], "ok");
    let answer = post("0123456789abcdef", block);
    assert!(answer.ends_with("\n200") && answer.contains("\"state\":\"ko\""), "{answer}");
    wait_until("its mail to be on hold", || site.queue_of(&id).as_deref() == Some("hold"));
    let status = site.wait_idle("web1");
    assert_eq!((&status["sanction"]["by"], &status["sanction"]["scope"]), (&"operator token".into(), &"all".into()));
    assert!(status["sanction"]["until"].is_string());
    assert!(post("0123456789abcdef", r#"{"action":"PURGE","for":"2h"}"#).ends_with("\n400"));
    assert!(post("0123456789abcdef", r#"{"action":"FREEZE"}"#).ends_with("\n422"));

    let mut other = Command::new("setpriv");
    other.args(["--reuid", "web1", "--regid", "web1", "--clear-groups", env!("CARGO_BIN_EXE_sendwarden")]);
    other.args(["unblock", "web1", "--state-dir"]).arg(site.config.with_file_name("state"));
    fs::set_permissions(site.config.with_file_name("state"), fs::Permissions::from_mode(0o755)).unwrap();
    let refused = other.current_dir("/").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("Only root and the agent's own user may give orders for accounts"), "{said}");
    assert_eq!(site.status("web1")["state"], "ko");
    // What is blocked is not forgotten.
    let mut forget = Command::new(env!("CARGO_BIN_EXE_sendwarden"));
    forget.args(["account", "forget", "web1", "--yes", "--config"]).arg(&site.config);
    let refused = forget.output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("unblock or purge it first"), "{refused:?}");
    agent.stop();
}

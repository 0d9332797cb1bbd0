//! `sendwarden test-hold` on a real Exim: every way in is tried, the one without the rule is named, and nothing is left
//! behind. And `sendwarden check`: it names flags that are wrong, and rules that do not look for them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use sendwarden::mta::exim::setup::acl_call;
use serde_json::Value;
use support::exim::{Call, Version};
use support::gated_exim::Site;
use support::helper::Role;
use support::place::command;
use support::server::MailServer;
use support::wait_until;

/// Exit status and what it printed.
fn told(site: &Site, arguments: &[&str]) -> (i32, String) {
    let mut binary = command(env!("CARGO_BIN_EXE_sendwarden"));
    let output = binary.args(arguments).arg("--config").arg(&site.config).output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    println!("{text}");
    (output.status.code().unwrap(), text)
}

fn without_the_call(text: String) -> String {
    // What gets through cannot be delivered: it is frozen, because there is nobody to tell.
    let text = text.replace("domains = ! unrouteable.test", "domains = ! unrouteable.test : ! sendwarden.invalid");
    text.replace(&format!("acl_data:\n{}", acl_call()), "acl_data:\n")
}

fn ways(version: Version, role: Role) {
    let site = Site::new(version, role, "  mode: enforce\n", "");
    let agent = site.agent();
    let (status, text) = told(&site, &["test-hold", "web1"]);
    let smtp = format!("held     exim SMTP 127.0.0.1:{}", site.exim.port());
    for words in
        ["held     exim sendmail(1)\n", "held     exim sendmail(1) -bs", &smtp, "Mail by every way that was tried"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(status == 0 && site.exim.queue().is_empty(), "{:?}", site.exim.queue());
    wait_until("the account to be as it was", || site.status("web1")["state"] == "ok");
    assert_eq!(site.exim.accept.messages().len(), 0);

    // What comes in over SMTP meets no rule: one of it is kept back by the routers, and that is not what was promised.
    site.exim.edit(without_the_call);
    let (status, text) = told(&site, &["test-hold", "--user", "web1"]);
    let smtp = format!("PASSED   exim SMTP 127.0.0.1:{}", site.exim.port());
    for words in ["held     exim sendmail(1)\n", "PASSED   exim sendmail(1) -bs", &smtp] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(status, 1, "{text}");
    site.exim.settle();
    assert!(site.exim.queue().is_empty(), "{:?}", site.exim.queue());

    // Held already: it stays so, with what is held.
    wait_until("the account to be as it was", || site.status("web1")["state"] == "ok");
    site.tell(&["block", "web1", "--reason", "before"]);
    site.script("web1", "kept", Call::Arguments);
    assert_eq!(site.frozen("kept"), ["kept"]);
    let (_, text) = told(&site, &["test-hold", "web1", "--format", "json"]);
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["account"], &json["proven"]), (&"web1".into(), &false.into()), "{json}");
    site.exim.settle();
    let queue = site.exim.queue();
    assert!(queue.len() == 1 && queue[0].recipients == ["kept@accept.test"] && queue[0].queue == "hold", "{queue:?}");
    let state = site.status("web1");
    assert_eq!((&state["state"], &state["sanction"]["reason"]), (&"ko".into(), &"before".into()), "{state}");
    agent.stop();
    let (status, text) = told(&site, &["test-hold", "web2"]);
    assert!(status == 1 && text.contains("nothing was tried"), "{text}");
}

#[test]
fn every_way_into_4_96_is_held_and_a_way_without_the_rule_is_named() {
    ways(Version::V4_96, Role::Root);
}

#[test]
fn every_way_into_4_98_is_held_and_a_way_without_the_rule_is_named_by_an_ordinary_user() {
    ways(Version::V4_98, Role::Ordinary);
}

#[test]
fn check_names_flags_that_are_wrong_and_rules_that_do_not_look_for_them() {
    let site = Site::new(Version::V4_98, Role::Root, "  mode: enforce\n", "");
    let (_, text) = told(&site, &["check"]);
    assert!(text.contains("warn  flags: ") && text.contains("is not there, where Exim looks"), "{text}");
    let agent = site.agent();
    site.tell(&["block", "web1"]);
    site.tell(&["block", "shop", "--scope", "all"]);
    let flags = site.exim.flags_dir();
    let good = format!("ok    flags: those in {} are those of who is held", flags.display());
    let (_, text) = told(&site, &["check"]);
    assert!(text.contains(&good) && text.contains("ok    gate: every way in"), "{text}");
    agent.kill();
    let (_, text) = told(&site, &["check"]);
    assert!(text.contains(&good), "{text}");
    fs::remove_file(flags.join("user/web1")).unwrap();
    fs::write(flags.join("user/web2"), "").unwrap();
    fs::remove_file(flags.join("domain/shop.test")).unwrap();
    let (_, text) = told(&site, &["check"]);
    for words in [
        "domain/shop.test is missing: its mail goes out",
        "user/web1 is missing: its mail goes out",
        "user/web2 is of nobody who is blocked: its mail waits",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    fs::set_permissions(flags.join("user"), fs::Permissions::from_mode(0o700)).unwrap();
    let (_, text) = told(&site, &["check"]);
    assert!(text.contains(&format!("Exim may not look into {}", flags.join("user").display())), "{text}");
    site.exim.edit(|text| text.replace("/gate.sock", "/other.sock"));
    let (_, text) = told(&site, &["check"]);
    assert!(text.contains("Exim's rules are those of an earlier version (they lack `"), "{text}");
    site.exim.edit(|text| text.replace("acl = held_by_sendwarden", "condition = false"));
    let (_, text) = told(&site, &["check"]);
    assert!(
        text.contains("does not look for the flags of who is held (it lacks `acl = held_by_sendwarden`)"),
        "{text}"
    );
}

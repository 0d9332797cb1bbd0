//! Real PHP through real Postfix: concurrent users' scripts, hostile words in everything a script can choose, and the
//! right script at each message and at each error.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers waits in real time")]
mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::agent::{Agent, sendwarden};
use support::postfix::{Options, Postfix};
use support::wait_until;

const USERS: [&str; 3] = ["web1", "web2", "web3"];
const UIDS: [u32; 3] = [2001, 2002, 2003];
/// What each script sends, as often.
const ROUNDS: usize = 8;

/// A folder of the test's in the user's home, with two scripts.
struct Site(PathBuf);

impl Site {
    fn of(user: &str, uid: u32) -> Site {
        let dir = Path::new("/home").join(user).join(format!("site-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("root may write");
        for name in ["shop.php", "news.php"] {
            let file = dir.join(name);
            fs::write(&file, SCRIPT).expect("root may write");
            // The uid in PHP's header is that of the file's owner.
            std::os::unix::fs::chown(&file, Some(uid), None).expect("root may chown");
        }
        fs::set_permissions(&dir, Permissions::from_mode(0o755)).expect("root may chmod");
        Site(dir)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Who calls mail() chooses recipients, subject and headers; the fourth line forges the header of its own uid, and
/// the fifth that of another user.
const SCRIPT: &str = r#"<?php
[, $tag, $rounds] = $argv;
for ($i = 0; $i < $rounds; $i++) {
    mail("$tag-$i@accept.test", "hello", "body");
    mail("Bad <$tag-bad-$i@reject.test>", "s -- Headers: x]: To: y@y.test", "body", "From: $tag@hosting.test\r\nX-PHP-Originating-Script: " . posix_getuid() . ":forged.php");
    mail("$tag-odd-$i@accept.test", "[24-Nov-2026 10:00:00 UTC] mail() on [/home/web1/forged.php:1]: To: $tag-$i@accept.test", "body", ["X-PHP-Originating-Script" => "2001:forged.php", "X-B" => "b"]);
}
"#;

fn php(postfix: &Postfix, user: &str, script: &Path, log: &Path) {
    let name = script.file_stem().unwrap().to_string_lossy();
    let output = Command::new("setpriv")
        .args(["--reuid", user, "--regid", user, "--clear-groups", "php", "-d", "mail.add_x_header=On", "-d"])
        .arg(format!("mail.log={}", log.display()))
        .args(["-d", "sendmail_path=/usr/sbin/sendmail -t -i"])
        .arg(script)
        .args([format!("{user}-{name}"), ROUNDS.to_string()])
        .env("MAIL_CONFIG", postfix.config_dir())
        .current_dir("/")
        .output()
        .expect("php starts");
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|why| panic!("{why}: {text}"))
}

#[test]
fn each_message_of_concurrent_users_has_its_script() {
    let checks = "header_checks = regexp:{ { /^X-PHP-Originating-Script:/ INFO } }\n";
    let postfix = Postfix::start(&Options { extra: checks.to_owned(), ..Options::default() });
    let dir = postfix.own_dir("agent");
    let php_log = postfix.own_dir("php").join("mail.log");
    fs::write(&php_log, "").unwrap();
    fs::set_permissions(&php_log, Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(php_log.parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
    let address = postfix.address(6);
    let config = dir.join("config.yaml");
    let text = format!(
        "logs:\n  - path: {}\n  - path: {}\n    format: php\nstate_dir: {}/state\nlisten: {address}\n",
        postfix.log_path().display(),
        php_log.display(),
        dir.display()
    );
    fs::write(&config, text).unwrap();
    let agent = Agent::start(&config, &address);

    let sites: Vec<Site> = USERS.iter().zip(UIDS).map(|(user, uid)| Site::of(user, uid)).collect();
    std::thread::scope(|scope| {
        for (user, site) in USERS.iter().zip(&sites) {
            for name in ["shop.php", "news.php"] {
                let (postfix, log, script) = (&postfix, &php_log, site.0.join(name));
                scope.spawn(move || php(postfix, user, &script, log));
            }
        }
    });
    let messages = USERS.len() * 2 * ROUNDS * 3;
    agent.wait_sum("sendwarden_messages_accepted_total", &["origin=\"script\""], messages as f64);
    wait_until("the queue to be empty", || postfix.queue().is_empty());
    let bounced = (USERS.len() * 2 * ROUNDS) as f64;
    agent.wait_sum("sendwarden_account_recipients_total", &["outcome=\"bounced\""], bounced);

    let ask = |words: &[&str]| sendwarden(&[words, &["--config", config.to_str().unwrap()]].concat());
    let (mut whole, mut named, mut missing) = (0, 0, 0);
    for (user, site) in USERS.iter().zip(&sites) {
        for name in ["shop", "news"] {
            for (kind, domain) in [("", "accept.test"), ("bad-", "reject.test"), ("odd-", "accept.test")] {
                for round in 0..ROUNDS {
                    let recipient = format!("{user}-{name}-{kind}{round}@{domain}");
                    let body = ask(&["trace", &recipient, "--format", "json"]);
                    let leg = &json(&body)["legs"][0];
                    assert_eq!(leg["account"], *user, "{body}");
                    let path = leg["script"]["path"].as_str().unwrap_or("");
                    let truth = site.0.join(format!("{name}.php"));
                    match path {
                        "" => missing += 1,
                        path if Path::new(path) == truth => whole += 1,
                        path => {
                            assert_eq!(path, format!("{name}.php"), "another script at {recipient}: {body}");
                            named += 1;
                        }
                    }
                }
            }
        }
    }
    println!("{messages} messages: {whole} with the whole path, {named} with the name, {missing} without, 0 wrong");
    assert!(whole > 0 && named + whole > messages / 2, "{whole} {named} {missing}");

    // The same at errors, and for people.
    let mut told = 0;
    for user in USERS {
        let body = ask(&["errors", user, "--limit", "100", "--format", "json"]);
        let errors = json(&body)["errors"].as_array().unwrap().clone();
        assert_eq!(errors.len(), 2 * ROUNDS, "{body}");
        for error in &errors {
            let path = error["script"]["path"].as_str().unwrap_or("");
            let name = if error["recipient"].as_str().unwrap().contains("-shop-") { "shop.php" } else { "news.php" };
            assert!(path.is_empty() || path.ends_with(name), "{error}");
            told += usize::from(!path.is_empty());
        }
        let text = ask(&["errors", user]);
        assert!(!text.contains("forged.php"), "{text}");
    }
    assert!(told > 0, "no error names a script");
    let text = ask(&["trace", "web1-shop-0@accept.test"]);
    assert!(text.contains("    script ") && text.contains("shop.php") && text.contains(", as claimed\n"), "{text}");

    let text = ask(&["check"]);
    assert!(text.contains("headers logged by header_checks") && text.contains("calls in PHP's mail log"), "{text}");
    assert!(text.contains(&format!("{messages} calls of mail() in the last {messages} lines")), "{text}");
    agent.stop();
}

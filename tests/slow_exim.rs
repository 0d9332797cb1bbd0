//! A quota that slows down, on a real Exim: as on Postfix, by scripts and by a login, which is not refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use support::exim::{Call, Version};
use support::gated_exim::Site;
use support::helper::Role;
use support::{pace, wait_for, wait_until};

const QUOTA: usize = 10;
/// With the first message, by which the account is known, three times the quota.
const BURST: usize = 3 * QUOTA - 1;
const RULES: &str = "enforcement: {dry_run: false}\nrules:\n  - {name: quota, signal: messages, window: 1m, limit: 10, action: slow, scope: all}\n";

#[test]
fn a_burst_leaves_completely_oldest_first_and_never_faster_than_the_quota() {
    let site = Site::new(Version::V4_98, Role::Root, "  mode: enforce\n", RULES);
    let agent = site.agent();
    site.script("web1", "first0", Call::Arguments);
    agent.wait_sum("sendwarden_account_messages_accepted_total", &["account=\"web1\""], 1.0);
    wait_until("the rules to be told to the server", || site.flags("rules").contains(&"volume".to_owned()));
    for n in 0..BURST {
        site.script("web1", &format!("a{n}"), if n % 2 == 0 { Call::Arguments } else { Call::Headers });
    }
    for n in 0..QUOTA + 3 {
        site.login("sales@shop.test", &format!("b{n}")).expect("nobody is refused who is slowed down");
    }
    let slowed = wait_for("web1 to be slowed down", || Some(site.status("web1")).filter(|s| s["delay"].is_object()));
    assert_eq!((&slowed["state"], &slowed["delay"]["rule"]), (&"ok".into(), &"quota".into()), "{slowed}");
    // No flag stands for it: the server would keep back what is let go.
    assert!(site.flags("user").is_empty() && site.flags("auth").is_empty());
    wait_until("the second turn", || site.arrivals("a").len() > QUOTA);
    agent.kill();
    let agent = site.agent();
    wait_until("the second turn to be over", || site.arrivals("a").len() >= 2 * QUOTA - 1);
    wait_until("all to arrive", || site.arrivals("a").len() == BURST && site.arrivals("b").len() == QUOTA + 3);
    pace::check(&site.arrivals("a"), QUOTA, 60, BURST, true);
    pace::check(&site.arrivals("b"), QUOTA, 60, QUOTA + 3, true);
    agent.wait_sum("sendwarden_delayed_accounts", &[], 0.0);
    agent.stop();
}

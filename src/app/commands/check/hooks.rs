//! Whether notices would reach their hooks, as far as that can be seen without sending one. The address and the secret have
//! been read with the configuration; neither is shown.

use super::Finding;
use crate::app::setup::Setup;
use crate::notify::{Event, Hook, send};

pub fn judge(setup: &Setup, findings: &mut Vec<Finding>) {
    findings.extend(setup.hooks.iter().map(judge_one));
    if setup.hooks.iter().any(|hook| hook.target.tls) {
        findings.extend(authorities(send::roots()));
    }
}

fn judge_one(hook: &Hook) -> Finding {
    let target = &hook.target;
    let signed = if hook.secret.is_some() { "signed" } else { "not signed (no secret_file)" };
    let events: Vec<&str> = hook.events.iter().map(|event| event.name()).collect();
    let events = if hook.events.len() >= Event::ALL.len() { "all events".to_owned() } else { events.join(", ") };
    let text = format!("{target}: {events}; {signed}");
    if target.is_open() {
        let text = format!("{text}; names of accounts and reasons of blocks go over the network as they are");
        return Finding::warn("hook", text, "give the receiver's https:// address, or one in a private network");
    }
    Finding::ok("hook", text)
}

fn authorities(roots: send::Roots) -> Option<Finding> {
    if !roots.certs.is_empty() {
        return None;
    }
    let why = roots.trouble.map(|why| format!(": {why}")).unwrap_or_default();
    let text = format!("no certificate authority is known here, so that no https:// receiver is believed{why}");
    Some(Finding::warn("hook", text, "install ca-certificates"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::commands::check::Level;
    use crate::notify::{Secret, Target};
    use std::time::Duration;

    #[test]
    fn it_says_where_notices_go_and_never_the_token_in_the_address() {
        let hook = |url: &str, secret: Option<Secret>, events: &[Event]| Hook {
            target: Target::parse(url).unwrap(),
            secret,
            events: events.to_vec(),
            timeout: Duration::from_secs(5),
        };
        let safe = judge_one(&hook("https://a.test/token", Secret::new("0123456789abcdef"), &Event::ALL));
        assert_eq!((safe.level, safe.text.as_str()), (Level::Ok, "https://a.test: all events; signed"));
        let open = judge_one(&hook("http://a.test:81/token", None, &[Event::Blocked, Event::Purged]));
        assert_eq!(open.level, Level::Warn);
        assert!(
            open.text.starts_with("http://a.test:81: blocked, purged; not signed (no secret_file); "),
            "{}",
            open.text
        );
        assert_eq!(judge_one(&hook("http://10.0.0.1/token", None, &Event::ALL)).level, Level::Ok);
    }

    #[test]
    fn a_host_without_authorities_is_told() {
        assert_eq!(authorities(send::Roots::default()).map(|found| found.level), Some(Level::Warn));
    }
}

//! What an Exim must say: our rules, and timers that neither thaw nor throw away what is held (specification, chapter 14).

use super::{Chain, Gap, hours, seconds};
use crate::host::servers;
use crate::mta::exim::setup::SOCKET;
use std::path::Path;

/// What is asked for, by name: a timer that is not 0, and shorter than the longest hold, and what it does.
const TIMERS: [(&str, bool, &str); 3] = [
    ("timeout_frozen_after", true, "Exim removes frozen mail after that, held mail too"),
    ("auto_thaw", true, "Exim tries frozen mail again after that, held mail too: the agent has to freeze it again"),
    ("ignore_bounce_errors_after", false, "held bounces are thrown away after that"),
];

const NEXT: &str = "run as root: sendwarden setup exim --apply";

pub(super) fn look(program: &str, flags: &Path, held_max: i64, chain: &mut Chain) {
    let names = TIMERS.map(|(name, ..)| name);
    match servers::exim_values(program, &names) {
        Ok(values) => chain.hints.extend(timers(&values, held_max)),
        Err(why) => chain.hints.push(Gap::new(format!("cannot ask Exim: {why}"), "run `exim -bP` by hand")),
    }
    match servers::exim_configuration(program) {
        Ok(text) => {
            chain.open.extend(rules(&text, flags));
            chain.hints.extend(silent(&text));
            chain.hints.extend(uncounted(&text));
        }
        Err(why) => chain
            .hints
            .push(Gap::new(format!("cannot look whether Exim's rules look for the flags: {why}"), "run this as root")),
    }
}

fn rules(text: &str, flags: &Path) -> Option<Gap> {
    let dir = flags.display().to_string();
    let missing = |words: &[&str]| words.iter().find(|words| !text.contains(**words)).map(|words| (*words).to_owned());
    if let Some(missing) = missing(&["acl = held_by_sendwarden", "hold_by_sendwarden:", &dir]) {
        let text = format!(
            "Exim's configuration does not look for the flags of who is held (it lacks `{missing}`): new mail goes out"
        );
        return Some(Gap::new(text, NEXT));
    }
    let missing = missing(&[&format!("{dir}/{SOCKET}"), "def:acl_m_sendwarden_no"])?;
    let text = format!(
        "Exim's rules are those of an earlier version (they lack `{missing}`): mail that a process of this host hands in by \
         SMTP without a login goes out, and hold.max_held, hold.min_free and gate.logins do not count there"
    );
    Some(Gap::new(text, NEXT))
}

/// Rules of an earlier version that throw mail away do not say whom it was for.
fn silent(text: &str) -> Option<Gap> {
    let discards = "sendwarden: DISCARDED $acl_m_sendwarden";
    let says = text.contains(&format!("{discards} for $recipients_count: "));
    let gap =
        "Exim's rules are those of an earlier version: whom discarded mail was for is not told (sendwarden errors)";
    (text.contains(discards) && !says).then(|| Gap::new(gap, NEXT))
}

/// Rules of an earlier version do not ask about mail of those who are not held.
fn uncounted(text: &str) -> Option<Gap> {
    let gap = "Exim's rules are those of an earlier version: limits of rules are crossed before they are seen (docs/rules.md)";
    (text.contains("held_by_sendwarden") && !text.contains("/rules/volume")).then(|| Gap::new(gap, NEXT))
}

fn timers(values: &[(String, String)], held_max: i64) -> Vec<Gap> {
    let mut hints = Vec::new();
    for (name, off_at_zero, what) in TIMERS {
        let Some((_, value)) = values.iter().find(|(known, _)| known == name) else { continue };
        let Some(secs) = seconds(value, 's') else { continue };
        if secs < held_max && !(off_at_zero && secs == 0) {
            let next = format!("set {name} to more than {}", hours(held_max));
            hints.push(Gap::new(format!("{name} = {value}: {what}"), next));
        }
    }
    hints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_that_undo_a_hold_are_named() {
        let told = |values: [&str; 3]| {
            let values: Vec<(String, String)> =
                TIMERS.iter().zip(values).map(|((name, ..), value)| ((*name).to_owned(), value.to_owned())).collect();
            timers(&values, 72 * 3_600).into_iter().map(|gap| gap.text).collect::<Vec<_>>()
        };
        assert_eq!(told(["7d", "0s", "10w"]), Vec::<String>::new());
        assert_eq!(told(["0s", "4d", "3d"]), Vec::<String>::new());
        let all = told(["2d", "1h", "0s"]);
        assert_eq!(all.len(), 3, "{all:?}");
        assert!(all[0].contains("removes") && all[1].contains("again") && all[2].contains("bounces"), "{all:?}");
    }

    #[test]
    fn rules_that_nobody_calls_or_for_other_flags_are_no_rules() {
        let text = include_str!("../../../packaging/exim/gate.conf");
        let with = format!("{text}\n warn acl = held_by_sendwarden\n");
        assert_eq!(rules(&with, Path::new("/var/lib/sendwarden-gate")), None);
        assert!(rules(&with, Path::new("/elsewhere")).unwrap().said().contains("`/elsewhere`"));
        let old = with.replace("def:acl_m_sendwarden_no", "");
        assert!(rules(&old, Path::new("/var/lib/sendwarden-gate")).unwrap().text.contains("an earlier version"));
        assert_eq!((silent(&with), silent("acl_smtp_data = x")), (None, None));
        assert_eq!((uncounted(&with), uncounted("acl_smtp_data = x")), (None, None));
        assert!(uncounted(&with.replace("/rules/volume", "")).is_some());
        let old = with.replace(" for $recipients_count: ", "");
        assert!(silent(&old).unwrap().said().contains("whom discarded mail was for is not told"));
        assert!(rules("acl_smtp_data = x", Path::new("/var/lib/sendwarden-gate")).is_some());
    }
}

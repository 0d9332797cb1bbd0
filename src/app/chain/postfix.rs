//! What an instance of Postfix must say: our entry in each list of milters, queue ids that name a message for good, and
//! lifetimes that outlast a hold.

use super::{Chain, Gap, hours, seconds, shown};
use crate::host::gate;
use crate::host::servers::{self, Tools};
use crate::mta::postfix::setup::{self, Away, characters};
use std::path::Path;

/// The words by which our entry is known, whatever else it says.
const ENTRY: &str = "sendwarden/gate.sock";

pub(super) fn look(directory: &Path, least: i64, chain: &mut Chain) {
    let tools = Tools::default();
    let ask = |expand, names: &[&str]| servers::postfix_values(&tools, directory, expand, names);
    let names = ["maximal_queue_lifetime", "bounce_queue_lifetime", "enable_long_queue_ids"];
    match ask(true, &names) {
        Ok(values) => chain.hints.extend(settings(directory, &names, &values, least)),
        Err(why) => chain.hints.push(Gap::new(format!("cannot ask Postfix: {why}"), "run postconf(1) by hand")),
    }
    match ask(true, &["smtpd_milters", "non_smtpd_milters"]) {
        Ok(lists) => chain.open.extend(main_lists(directory, &lists)),
        Err(why) => chain.open.push(Gap::new(format!("cannot ask Postfix for its milters: {why}"), apply(directory))),
    }
    let own = servers::postfix_services(&tools, directory, "smtpd_milters").unwrap_or_default();
    master(directory, &own, chain);
    match servers::postfix_place(&tools, directory) {
        // Where it may not be looked for (the helper's directory is for the mail server only) it is not missing.
        Ok(place) if matches!(gate::socket(Path::new(&place.queue)).try_exists(), Ok(false)) => {
            chain.open.push(Gap::new(
                format!("no gate is open at {}", gate::socket(Path::new(&place.queue)).display()),
                "start the agent",
            ))
        }
        _ => {}
    }
}

fn apply(directory: &Path) -> String {
    format!("run as root: sendwarden setup postfix --apply --config-directory {}", directory.display())
}

/// The lists of main.cf.
fn main_lists(directory: &Path, lists: &[String]) -> Vec<Gap> {
    let what = [("smtpd_milters", "comes in over SMTP"), ("non_smtpd_milters", "scripts hand over by sendmail(1)")];
    let lacking = what.iter().enumerate().filter(|(n, _)| !lists.get(*n).is_some_and(|list| list.contains(ENTRY)));
    let gap = |(_, (name, mail)): (usize, &(&str, &str))| {
        let text =
            format!("{name} in {}/main.cf lacks the gate: mail that {mail} is not asked about", shown(directory));
        Gap::new(text, apply(directory))
    };
    lacking.map(gap).collect()
}

/// Services with a list of their own, and those that leave milters out.
fn master(directory: &Path, own: &[(String, String)], chain: &mut Chain) {
    let read = |name: &str| std::fs::read(directory.join(name)).map(|bytes| characters(&bytes));
    let (Ok(main), Ok(master)) = (read("main.cf"), read("master.cf")) else {
        let text = format!("cannot read main.cf and master.cf in {}", directory.display());
        return chain.hints.push(Gap::new(text, "run this as a user who may"));
    };
    let plan = match setup::plan(&main, &master, Away::Accept) {
        Ok(plan) => plan,
        Err(refusals) => {
            for one in refusals {
                let text = format!("{}:{}: {}", directory.join(one.file.name()).display(), one.line, one.what);
                let gap = Gap::new(text, one.by_hand);
                if gap.text.contains("no_milters") { chain.open.push(gap) } else { chain.hints.push(gap) }
            }
            return;
        }
    };
    for (service, list) in own.iter().filter(|(_, list)| !list.contains(ENTRY)) {
        // `submission/inet` here, `submission inet (master.cf:17)` there.
        let its = format!("{} (", service.replace('/', " "));
        if plan.ways.iter().any(|way| way.name.starts_with(&its) && !way.open) {
            let list = if list.is_empty() { "empty" } else { list };
            let text = format!(
                "{service} in {}/master.cf has its own smtpd_milters ({list}) without the gate",
                shown(directory)
            );
            chain.open.push(Gap::new(text, apply(directory)));
        }
    }
    chain.hints.extend(plan.notes.into_iter().map(|note| Gap::new(note, "see docs/operating.md, The gate")));
}

/// `least`: how long mail may have to live.
fn settings(directory: &Path, names: &[&str], values: &[String], least: i64) -> Vec<Gap> {
    let mut hints = Vec::new();
    let main = format!("{}/main.cf", shown(directory));
    for (name, value) in names.iter().zip(values) {
        if name.ends_with("_lifetime") {
            // Mail that is older than this is returned at its first delivery that does not work (postconf(5)).
            if seconds(value, 'd').is_some_and(|secs| secs < least) {
                hints.push(Gap::new(
                    format!("{name} = {value} in {main}: what was held and is released late is returned at once if it cannot be delivered at once"),
                    format!("set it to {} or more, or hold.held_max to less", hours(least)),
                ));
            }
        } else if value != "yes" {
            hints.push(Gap::new(
                format!("{name} = {value} in {main}: a queue id is used again within moments, so that another message may have the id of one that was held"),
                format!("set {name} = yes, and reload Postfix"),
            ));
        }
    }
    hints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn short_ids_and_short_lives_are_named() {
        let names = ["maximal_queue_lifetime", "bounce_queue_lifetime", "enable_long_queue_ids"];
        let hints = |values: &[&str]| settings(Path::new("/etc/postfix"), &names, &own(values), 96 * 3_600);
        assert_eq!(hints(&["5d", "4d", "yes"]), []);
        let said: Vec<String> = hints(&["3", "1h", "no"]).iter().map(Gap::said).collect();
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].contains("maximal_queue_lifetime = 3") && said[0].contains("96h or more"), "{said:?}");
        assert!(said[2].contains("set enable_long_queue_ids = yes"), "{said:?}");
    }

    #[test]
    fn each_list_without_the_gate_is_named_with_the_mail_that_it_lets_pass() {
        let gaps = |lists: &[&str]| main_lists(Path::new("/etc/postfix"), &own(lists));
        let ours = "inet:127.0.0.1:8891, { unix:sendwarden/gate.sock, default_action=accept }";
        assert_eq!(gaps(&[ours, ours]), []);
        let said: Vec<String> = gaps(&["inet:127.0.0.1:8891", ""]).iter().map(Gap::said).collect();
        assert!(said[0].contains("over SMTP") && said[1].contains("sendmail(1)"), "{said:?}");
        assert!(said[0].ends_with("setup postfix --apply --config-directory /etc/postfix"), "{said:?}");
    }
}

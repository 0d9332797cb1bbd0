//! The mail servers that are installed here: where they log, and what their logs leave out.

use super::Finding;
use crate::host::servers::{Installed, LogsTo};
use crate::mail::Server;
use std::path::Path;

/// One finding for each instance, and one for what its log should say and does not.
pub fn judge(installed: &[Installed], findings: &mut Vec<Finding>) {
    if installed.is_empty() {
        findings
            .push(Finding::ok("server", "neither Postfix nor Exim is installed here; logs may come from elsewhere"));
    }
    for one in installed {
        findings.push(found(one));
        if one.server == Server::Exim && one.trouble.is_none() {
            findings.extend(selectors(&one.selector, &|path| Path::new(path).exists()));
        }
    }
}

fn found(one: &Installed) -> Finding {
    let name = match one.server {
        Server::Postfix => "Postfix",
        Server::Exim => "Exim",
    };
    let place = one.place.display();
    if let Some(why) = &one.trouble {
        let text = format!("{name} is installed and does not say where it logs: {why}");
        return Finding::warn("server", text, "if it is used, name its log under logs in the configuration");
    }
    let logs = one.logs.iter().map(|log| match log {
        LogsTo::File(path) => path.display().to_string(),
        LogsTo::Syslog => "syslog".to_owned(),
        LogsTo::Dated(path) => path.clone(),
    });
    let logs = logs.collect::<Vec<String>>().join(" and ");
    let text = format!("{name} {} ({place}) logs to {}", one.version, if logs.is_empty() { "nowhere" } else { &logs });
    match &one.logs[..] {
        [] => Finding::warn("server", text, "set log_file_path in its configuration"),
        logs if logs.iter().all(|log| matches!(log, LogsTo::Dated(_))) => {
            let next = "a log whose name changes with the date is not followed: leave %D and %M out of log_file_path, and \
                        let logrotate rotate it";
            Finding::warn("server", text, next)
        }
        _ => Finding::ok("server", text),
    }
}

/// What is missed where recipients are not named as a message is accepted.
pub const LISTED: &str = "a message counts as one recipient until lines of its deliveries name more, so that what is queued \
                          or held counts too little, and `trace RECIPIENT` finds no mail that was not tried";

/// What of Exim's log_selector (specification, chapter 53) the figures and the evidence miss.
const WANTED: [(&str, &str); 3] = [
    ("received_recipients", LISTED),
    ("arguments", "the directory of the script behind a message is not known"),
    ("pid", "nor is it on a busy server, where it can be joined by the process only"),
];

fn selectors(set: &str, exists: &dyn Fn(&str) -> bool) -> Option<Finding> {
    let words: Vec<&str> = set.split_whitespace().collect();
    let on = |name: &str| {
        let last = words.iter().rev().find(|word| matches!(word.get(1..), Some(own) if own == name || own == "all"));
        last.is_some_and(|word| word.starts_with('+'))
    };
    let missing: Vec<&(&str, &str)> = WANTED.iter().filter(|(name, _)| !on(name)).collect();
    if missing.is_empty() {
        return None;
    }
    let costs: Vec<String> = missing.iter().map(|(name, cost)| format!("without +{name}, {cost}")).collect();
    let add: Vec<String> = missing.iter().map(|(name, _)| format!("+{name}")).collect();
    let text = format!("Exim's log says less than it could: {}", costs.join("; "));
    Some(Finding::warn("server", text, format!("add {} to log_selector {}", add.join(" "), persistent_place(exists))))
}

/// Where a change survives the panel's or the package's next update.
fn persistent_place(exists: &dyn Fn(&str) -> bool) -> &'static str {
    const PLACES: [(&str, &str); 4] = [
        ("/usr/local/cpanel", "in WHM: Exim Configuration Manager, Advanced Editor, log_selector"),
        ("/usr/local/directadmin", "in /etc/exim.variables.conf.custom, then rebuild exim_conf"),
        ("/usr/local/hestia", "in /etc/exim4/exim4.conf.template, then restart exim4"),
        (
            "/etc/exim4/update-exim4.conf.conf",
            "by MAIN_LOG_SELECTOR = … in /etc/exim4/conf.d/main/000_localmacros (or /etc/exim4/exim4.conf.localmacros), \
             then run update-exim4.conf and restart exim4",
        ),
    ];
    let place = PLACES.iter().find(|(sign, _)| exists(sign)).map(|(_, place)| *place);
    place.unwrap_or("in the main section of its configuration file, then reload it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_log_leaves_out_is_named_with_the_place_to_mend_it() {
        let here = |sign: &'static str| move |path: &str| path == sign;
        for enough in
            ["+all", "+arguments +received_recipients +pid", "-all +received_recipients +arguments +pid -sender"]
        {
            assert_eq!(selectors(enough, &here("")), None, "{enough}");
        }
        let text = |set: &str, sign| selectors(set, &here(sign)).map(|finding| finding.next).unwrap_or_default();
        assert!(
            text("", "").starts_with("add +received_recipients +arguments +pid to log_selector in the main section")
        );
        assert!(
            text("+arguments +pid", "/usr/local/cpanel").starts_with("add +received_recipients to log_selector in WHM")
        );
        assert!(
            text("+all -pid", "/usr/local/hestia")
                .contains("add +pid to log_selector in /etc/exim4/exim4.conf.template")
        );
        assert!(text("+pid", "/etc/exim4/update-exim4.conf.conf").contains("MAIN_LOG_SELECTOR"));
        assert!(text("+pid", "/usr/local/directadmin").contains("exim.variables.conf.custom"));
    }

    #[test]
    fn each_instance_says_where_it_logs() {
        let one = |server, logs: &[LogsTo], trouble: Option<&str>| Installed {
            server,
            version: "1.0".into(),
            place: "/p".into(),
            logs: logs.to_vec(),
            selector: "+all".into(),
            trouble: trouble.map(str::to_owned),
        };
        let told = |one: Installed| {
            let mut findings = Vec::new();
            judge(&[one], &mut findings);
            findings.into_iter().map(|finding| (finding.level.name(), finding.text)).collect::<Vec<_>>()
        };
        let file = LogsTo::File("/var/log/exim4/mainlog".into());
        let both = told(one(Server::Exim, &[file, LogsTo::Syslog], None));
        assert_eq!(both, [("ok", "Exim 1.0 (/p) logs to /var/log/exim4/mainlog and syslog".to_owned())]);
        assert_eq!(told(one(Server::Exim, &[LogsTo::Dated("/x-%D".into())], None))[0].0, "warn");
        assert_eq!(told(one(Server::Exim, &[], None))[0].0, "warn");
        let broken = told(one(Server::Postfix, &[], Some("fatal: no")));
        assert!(broken[0].0 == "warn" && broken[0].1.contains("fatal: no"), "{broken:?}");
        let mut none = Vec::new();
        judge(&[], &mut none);
        assert_eq!(none.len(), 1);
    }
}

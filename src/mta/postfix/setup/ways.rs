//! The ways in: which services take mail from outside Postfix, and which only take it back from a content filter.

use super::entry::{AWAY, Away, PASS, space};
use super::lines::{File, Service};
use super::{Act, Lists, OTHER, Refusal, SMTPD, Site, place};

/// A way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Its service, counted from 0.
    pub(super) number: usize,
    /// The service, and where it stands.
    pub name: String,
    /// How it is asked, for people.
    pub how: String,
    pub(super) act: Act,
    /// Mail that comes in here is not asked about.
    pub open: bool,
}

/// What a service that takes mail back from a filter leaves out: it was done before (postconf(5)).
const DONE_BEFORE: [&str; 4] =
    ["no_unknown_recipient_checks", "no_address_mappings", "no_header_body_checks", "no_milters"];

fn words(value: &str) -> impl Iterator<Item = &str> {
    value.split(|c: char| space(c) || c == ',').filter(|word| !word.is_empty())
}

fn is_loopback(service: &Service) -> bool {
    let name = service.name.as_str();
    let loopback = ["127.", "localhost:", "[127.", "[::1]:", "::1:", "[localhost]:"];
    service.kind == "unix" || loopback.iter().any(|start| name.starts_with(start))
}

/// People with logins come in here.
fn is_submission(service: &Service) -> bool {
    let port = service.name.rsplit(':').next().unwrap_or_default();
    let logins = service.value("smtpd_sasl_auth_enable").is_some_and(|value| value == "yes");
    logins || ["submission", "submissions", "smtps", "465", "587"].contains(&port)
}

/// A content filter hands back here what Postfix gave it: what it had to decide is decided.
fn is_reinjection(service: &Service) -> bool {
    if is_submission(service) || service.kind == "pass" {
        return false;
    }
    let overrides = service.value("receive_override_options").unwrap_or_default();
    let no_filter = service.value("content_filter").is_some_and(str::is_empty);
    let done = words(overrides).any(|word| DONE_BEFORE.contains(&word));
    let no_milters = service.value(SMTPD).is_some_and(str::is_empty);
    (is_loopback(service) && (no_filter || done)) || (no_filter && no_milters)
}

impl Site {
    /// What is to be done about a service; `None` when no mail comes in by it.
    pub(super) fn way(&mut self, service: &Service, all: &[Service], lists: Lists) -> Option<Way> {
        let number = all.iter().position(|one| one.line.line() == service.line.line())?;
        let name = format!("{} {} ({})", service.name, service.kind, place(&service.line));
        let (act, how, open) = match service.program.as_str() {
            "smtpd" => self.smtpd(service, lists),
            "cleanup" => self.cleanup(service, all, lists)?,
            "pickup" => self.pickup(service),
            _ => return None,
        };
        Some(Way { number, name, how, act, open })
    }

    fn smtpd(&mut self, service: &Service, lists: Lists) -> (Act, String, bool) {
        let own = service.value("receive_override_options");
        let overrides = own.unwrap_or_else(|| self.value("receive_override_options"));
        if words(overrides).any(|word| word == "no_milters") {
            if own.is_none() {
                self.no_milters();
            }
            return match is_reinjection(service) {
                true => (Act::None, "takes mail back from a filter: not asked again (no_milters)".to_owned(), true),
                false => (Act::None, "not asked: it says no_milters".to_owned(), true),
            };
        }
        if is_reinjection(service) {
            let how = "takes mail back from a filter: not asked again".to_owned();
            return match service.value(SMTPD) {
                Some(list) if !self.holds_us(list) => (Act::None, how, true),
                _ => (Act::Say(PASS, "yes"), how, true),
            };
        }
        let away = if is_submission(service) { self.submission } else { Away::Accept };
        let says = |away: Away| match away {
            Away::Accept => "asked; without an agent its mail passes",
            Away::Tempfail => "asked; without an agent its clients are told to come back",
        };
        match service.value(SMTPD) {
            Some(list) if self.holds_us(list) => {
                let away = if lists.shared() { Away::Accept } else { Away::Tempfail };
                (Act::None, says(away).to_owned(), false)
            }
            Some(_) => (Act::Own(SMTPD, away), format!("{}; it has a list of its own", says(away)), false),
            None if away == Away::Tempfail => (Act::Say(AWAY, away.word()), says(away).to_owned(), false),
            None => (Act::None, says(away).to_owned(), false),
        }
    }

    /// The list takes one of main.cf's over, where our entry is.
    fn holds_us(&self, list: &str) -> bool {
        self.takes_over(list, OTHER, 0) || self.takes_over(list, SMTPD, 0)
    }

    /// cleanup(8) asks about what scripts hand over, with the list of its own service.
    fn cleanup(&mut self, service: &Service, all: &[Service], lists: Lists) -> Option<(Act, String, bool)> {
        let list = service.value(OTHER)?;
        let pickups = all.iter().filter(|one| one.program == "pickup");
        let used = pickups.map(|one| one.value("cleanup_service_name").unwrap_or_else(|| self.default_cleanup()));
        if !used.into_iter().any(|name| name == service.name) || self.takes_over(list, OTHER, 0) {
            return None;
        }
        if self.takes_over(list, SMTPD, 0) && lists.shared() {
            return None;
        }
        let how = "what scripts hand over is asked about here; without an agent it waits; it has a list of its own";
        Some((Act::Own(OTHER, Away::Tempfail), how.to_owned(), false))
    }

    fn default_cleanup(&self) -> &str {
        let named = self.value("cleanup_service_name");
        if named.is_empty() { "cleanup" } else { named }
    }

    fn pickup(&mut self, service: &Service) -> (Act, String, bool) {
        if let Some(own) = service.given.get("receive_override_options") {
            if words(&own.value).any(|word| word == "no_milters") {
                let (at, _) = service.line.locate(own.start);
                let what = "pickup says no_milters: nothing that scripts hand over would be asked about";
                let by_hand = "take no_milters out of its receive_override_options";
                self.refusals.push(Refusal::new(File::Master, at, what, by_hand));
            }
        } else if words(self.value("receive_override_options")).any(|word| word == "no_milters") {
            self.no_milters();
        }
        (Act::None, "what scripts hand over is asked about; without an agent it waits in maildrop".to_owned(), false)
    }

    /// main.cf switches all milters off.
    fn no_milters(&mut self) {
        let line = self.parameters.get("receive_override_options").map_or(0, |one| one.line.line());
        let what = "receive_override_options says no_milters for all services: nothing would be asked about";
        let by_hand = "take no_milters out here, and give it to the service that takes mail back from the filter: \
                       -o receive_override_options=no_milters";
        let refusal = Refusal::new(File::Main, line, what, by_hand);
        if !self.refusals.contains(&refusal) {
            self.refusals.push(refusal);
        }
    }

    /// What the administrator should know.
    pub(super) fn notes(&self, ways: &[Way], services: &[Service]) -> Vec<String> {
        let mut notes = Vec::new();
        for (way, service) in ways.iter().filter_map(|way| Some((way, services.get(way.number)?))) {
            if way.open && service.kind == "inet" {
                notes.push(match is_reinjection(service) {
                    true => format!(
                        "{}: whoever on this host can connect there hands mail in unasked; let only the filter's user \
                         reach it (a firewall rule by uid)",
                        way.name
                    ),
                    false => format!("{}: mail that comes in there is not asked about", way.name),
                });
            }
            if service.value("smtpd_milter_maps").is_some_and(|value| !value.is_empty()) {
                notes.push(format!("{}: its smtpd_milter_maps may leave the gate out for some clients", way.name));
            }
        }
        if !ways.iter().any(|way| services.get(way.number).is_some_and(|service| service.program == "pickup")) {
            notes.push("master.cf has no pickup service: scripts cannot hand mail over by sendmail(1) here".to_owned());
        }
        if !self.value("smtpd_milter_maps").is_empty() {
            notes.push("smtpd_milter_maps may leave the gate out for some clients".to_owned());
        }
        let macros = self.parameters.get("milter_mail_macros");
        if macros.is_some_and(|macros| !macros.value.contains("auth_authen")) {
            notes.push("milter_mail_macros lacks {auth_authen}: the gate is not told logins; add it".to_owned());
        }
        notes
    }
}

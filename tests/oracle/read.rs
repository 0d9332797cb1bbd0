//! One line, read by regular expressions written from the samples and from Postfix's source. Slow and plain.

use regex::Regex;

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Seconds of the stamp, counted from some day.
    pub at: i64,
    pub host: String,
    pub instance: String,
    pub pid: String,
    /// Written by a daemon whose tag always carries the instance's own name.
    pub owns_queue: bool,
    /// Written by one of the daemons that never have a `syslog_name` of their own.
    pub names_instance: bool,
    pub id: String,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub enum What {
    Pickup {
        uid: u32,
        requeued_from: Option<String>,
    },
    Client {
        loopback: bool,
        login: Option<String>,
    },
    MessageId(String),
    Active {
        sender: String,
        recipients: u64,
    },
    Attempt {
        recipient: String,
        status: String,
        queued_as: Option<String>,
        forwarded_as: Option<String>,
    },
    Probe,
    Expired,
    Removed,
    Deleted,
    Requeued,
    /// Rejected, discarded or cancelled before it was in the queue.
    Refused,
    Hold,
    /// The next message of this smtpd is held.
    HoldNext,
    Release,
    Notified(String),
    Swept(&'static str, u64),
}

pub struct Reader {
    head: Regex,
    id: Regex,
    pickup: Regex,
    client: Regex,
    active: Regex,
    attempt: Regex,
    notified: Regex,
    queued_as: Regex,
    forwarded_as: Regex,
}

impl Reader {
    pub fn new() -> Reader {
        let new = |text: &str| Regex::new(text).expect("a regular expression of the oracle");
        Reader {
            head: new(concat!(
                r"^(?:[A-Z][a-z]{2} ([ \d]\d) (\d\d):(\d\d):(\d\d)|\d{4}-\d\d-(\d\d)T(\d\d):(\d\d):(\d\d)\S*) (\S+) ",
                r"([^\s/\[]+)((?:/[\w.-]+)*)/([\w-]+)\[(\d+)\]: (.*)$"
            )),
            id: new(r"^([0-9A-Za-z]{6,31}): (.*)$"),
            pickup: new(r"^uid=(\d+) from=<.*?>(?: orig_id=(\w+))?$"),
            client: new(r"^client=[^\[]*\[([^\]]*)\](?::\d+)?(?:, (.*))?$"),
            active: new(r"^from=<(.*)>, size=\d+, nrcpt=(\d+) \(queue active\)$"),
            attempt: new(concat!(
                r#"^to=<((?:"(?:[^"\\]|\\.)*")?[^>"]*)>, (?:orig_to=<((?:"(?:[^"\\]|\\.)*")?[^>"]*)>, )?"#,
                r"relay=([^,]+), (?:conn_use=\d+, )?delay=[\d.]+, (?:delays=[\d./]+, )?(?:tls=[^,]*, )?",
                r"(?:dsn=[\d.]+, )?status=([\w-]+) \((.*)$"
            )),
            notified: new(r"^(?:sender|postmaster) (?:non-delivery|delay|delivery status) notification: (\w+)$"),
            queued_as: new(r"queued as (\w+)\)?$"),
            forwarded_as: new(r"^forwarded as (\w+)\)$"),
        }
    }

    pub fn read(&self, line: &str) -> Option<Entry> {
        let head = self.head.captures(line)?;
        let group = |n: usize| head.get(n).map_or("", |m| m.as_str());
        let number = |n: usize| head.get(n).or(head.get(n + 4)).and_then(|m| m.as_str().trim().parse::<i64>().ok());
        let (daemon, text) = (group(12), group(14));
        let mut entry = Entry {
            at: ((number(1)? * 24 + number(2)?) * 60 + number(3)?) * 60 + number(4)?,
            host: group(9).to_owned(),
            instance: group(10).to_owned(),
            pid: group(13).to_owned(),
            owns_queue: daemon != "smtpd",
            names_instance: matches!(daemon, "pickup" | "cleanup" | "qmgr"),
            id: String::new(),
            what: What::HoldNext,
        };
        if daemon == "smtpd" && text.starts_with("NOQUEUE: hold: ") {
            return Some(entry);
        }
        if daemon == "postsuper" {
            for verb in ["Deleted", "Placed on hold", "Released from hold", "Requeued"] {
                if let Some(rest) = text.strip_prefix(verb).and_then(|rest| rest.strip_prefix(": ")) {
                    entry.what = What::Swept(verb, rest.split(' ').next()?.parse().ok()?);
                    return Some(entry);
                }
            }
        }
        let parts = self.id.captures(text)?;
        entry.id = parts[1].to_owned();
        entry.what = self.what(daemon, &parts[2])?;
        Some(entry)
    }

    fn what(&self, daemon: &str, text: &str) -> Option<What> {
        match daemon {
            "pickup" => {
                let c = self.pickup.captures(text)?;
                Some(What::Pickup { uid: c[1].parse().ok()?, requeued_from: c.get(2).map(|m| m.as_str().to_owned()) })
            }
            "smtpd" if text.starts_with("hold: ") => Some(What::Hold),
            "smtpd" => {
                let c = self.client.captures(text)?;
                let rest = c.get(2).map_or("", |m| m.as_str());
                let loopback = c[1].starts_with("127.") || &c[1] == "::1";
                let login = rest.split_once("sasl_username=").map(|(_, login)| {
                    let login = login.split(", sasl_sender=").next().unwrap_or(login);
                    // From elsewhere it is part of the name: only a content filter on this host hands it over.
                    let hop = login.split(", orig_queue_id=").next().filter(|_| loopback);
                    hop.unwrap_or(login).to_owned()
                });
                Some(What::Client { loopback, login })
            }
            "cleanup" => {
                let refused = ["milter-reject: END-OF-MESSAGE ", "milter-discard: ", "reject: ", "discard: "];
                if let Some(id) = text.strip_prefix("message-id=") {
                    Some(What::MessageId(id.to_owned()))
                } else if text.starts_with("hold: ") || text.starts_with("milter-hold: ") {
                    Some(What::Hold)
                } else if refused.iter().any(|r| text.starts_with(r)) || text.starts_with("removed (") {
                    Some(What::Refused)
                } else {
                    None
                }
            }
            "qmgr" if text == "removed" => Some(What::Removed),
            "qmgr" if text.ends_with("expired, returned to sender") => Some(What::Expired),
            "qmgr" => {
                let c = self.active.captures(text)?;
                Some(What::Active { sender: c[1].to_owned(), recipients: c[2].parse().ok()? })
            }
            "postsuper" => match text {
                "removed" => Some(What::Deleted),
                "requeued" => Some(What::Requeued),
                "placed on hold" => Some(What::Hold),
                "released from hold" => Some(What::Release),
                _ => None,
            },
            "bounce" => Some(What::Notified(self.notified.captures(text)?[1].to_owned())),
            _ => self.attempt(daemon, text),
        }
    }

    fn attempt(&self, daemon: &str, text: &str) -> Option<What> {
        let c = self.attempt.captures(text)?;
        let (relay, status, reply) = (&c[3], &c[4], &c[5]);
        if status.contains("deliverable") {
            return Some(What::Probe);
        }
        let found = |re: &Regex| re.captures(reply).map(|c| c[1].to_owned());
        let near = relay.contains("[127.") || relay.contains("[::1]");
        Some(What::Attempt {
            recipient: format!("{} {}", &c[1], c.get(2).map_or("", |m| m.as_str())),
            status: status.to_owned(),
            queued_as: found(&self.queued_as).filter(|_| near),
            forwarded_as: found(&self.forwarded_as).filter(|_| daemon == "local"),
        })
    }
}

//! The keys of the configuration file: their names, kinds and ranges. What they mean is said at [`super::Config`].

use std::time::Duration;

use super::node::Node;
use super::problem::Found;
use super::read::{self, Section, absolute, network, open, text_of, zone};
use super::{AccountLabel, Config, Format, LogLevel, LogSource, Mta};

/// Sections and their keys; `""` is the top of the file, `logs[]` one entry of the list.
const KEYS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "logs",
            "state_dir",
            "listen",
            "operator_token_file",
            "accounts_file",
            "log_level",
            "metrics",
            "attribution",
            "tracking",
            "history",
            "retention",
            "queue",
        ],
    ),
    ("logs[]", &["path", "mta", "format", "zone"]),
    ("metrics", &["max_accounts", "account_label", "public"]),
    (
        "attribution",
        &[
            "min_uid",
            "web_server_users",
            "web_server_uids",
            "local_networks",
            "max_known_accounts",
            "claimed_domains",
            "name_service_timeout",
        ],
    ),
    ("tracking", &["max_open_messages", "max_line_bytes"]),
    ("history", &["hours_days", "days_days"]),
    ("retention", &["errors_days", "index_days", "index_max_bytes"]),
    ("queue", &["directories", "interval"]),
];

/// Every key the file can have, as paths (`metrics.public`, `logs[].path`).
pub fn key_paths() -> Vec<String> {
    let paths = |(section, keys): &(&str, &'static [&'static str])| {
        let section = (*section).to_owned();
        keys.iter().map(move |key| super::problem::join(&section, key))
    };
    KEYS.iter().flat_map(paths).collect()
}

fn keys(section: &str) -> &'static [&'static str] {
    KEYS.iter().find(|(name, _)| *name == section).map_or(&[], |(_, keys)| keys)
}

const YEARS: std::ops::RangeInclusive<u32> = 1..=3660;

/// Reads the whole tree; mistakes go to `found` and leave the default in place.
pub(super) fn read(node: &Node, found: &mut Vec<Found>) -> Config {
    let mut c = Config::default();
    logs(node, &mut c.logs, found);
    let mut top = open(Some(node), "", keys(""), found);
    top.optional("state_dir", &mut c.state_dir, absolute);
    top.text("listen", &mut c.listen, |text| {
        let hint = || "write ADDRESS:PORT such as 127.0.0.1:10925 or [::1]:10925".to_owned();
        text.parse().map_err(|_| (format!("`{text}` is not an address with a port"), hint()))
    });
    top.optional("operator_token_file", &mut c.operator_token_file, absolute);
    top.optional("accounts_file", &mut c.accounts_file, absolute);
    let levels = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    top.choice("log_level", &mut c.log_level, &levels);

    let mut s = top.section("metrics", keys("metrics"));
    s.number("max_accounts", &mut c.metrics.max_accounts, 1..=100_000);
    let labels = [("name", AccountLabel::Name), ("hash", AccountLabel::Hash), ("none", AccountLabel::None)];
    s.choice("account_label", &mut c.metrics.account_label, &labels);
    s.flag("public", &mut c.metrics.public);

    attribution(top.section("attribution", keys("attribution")), &mut c);

    let mut s = top.section("tracking", keys("tracking"));
    s.number("max_open_messages", &mut c.tracking.max_open_messages, 1_000..=50_000_000);
    s.size("max_line_bytes", &mut c.tracking.max_line_bytes, 2_048..=16 << 20);

    let mut s = top.section("history", keys("history"));
    s.number("hours_days", &mut c.history.hours_days, YEARS);
    s.number("days_days", &mut c.history.days_days, YEARS);

    let mut s = top.section("retention", keys("retention"));
    s.number("errors_days", &mut c.retention.errors_days, YEARS);
    s.number("index_days", &mut c.retention.index_days, YEARS);
    s.size("index_max_bytes", &mut c.retention.index_max_bytes, 1 << 20..=1 << 44);

    let mut s = top.section("queue", keys("queue"));
    if !is_auto(s.node("directories")) {
        s.list("directories", &mut c.queue.directories, |item| text_of(item).and_then(absolute));
    }
    s.duration("interval", &mut c.queue.interval, Duration::from_secs(1)..=Duration::from_secs(3600));
    c
}

fn attribution(mut s: Section<'_, '_>, c: &mut Config) {
    let policy = &mut c.attribution.policy;
    s.number("min_uid", &mut policy.min_uid, 0..=u32::MAX);
    s.list("web_server_users", &mut policy.web_server_users, |item| text_of(item).map(str::to_owned));
    s.list("web_server_uids", &mut policy.web_server_uids, read::uid);
    s.list("local_networks", &mut policy.local_networks, |item| text_of(item).and_then(network));
    s.number("max_known_accounts", &mut policy.max_known_accounts, 1..=4_000_000);
    s.flag("claimed_domains", &mut policy.claimed_domains);
    let patience = Duration::from_millis(10)..=Duration::from_secs(60);
    s.duration("name_service_timeout", &mut c.attribution.name_service_timeout, patience);
}

fn is_auto(node: Option<&Node>) -> bool {
    matches!(node, Some(Node::Text(text)) if text == "auto")
}

fn logs(top: &Node, logs: &mut Vec<LogSource>, found: &mut Vec<Found>) {
    let items = match top.get("logs") {
        None => return,
        node if is_auto(node) => return,
        Some(Node::List(items)) if !items.is_empty() => items,
        Some(other) => {
            let message = format!("expected `auto` or a list of logs, found {}", other.kind());
            found.push(Found::new("logs", message).hint("write `- path: /var/log/mail.log`, or remove it"));
            return;
        }
    };
    for (i, item) in items.iter().enumerate() {
        let mut path = None;
        let mut log = LogSource { path: Default::default(), mta: Mta::Auto, format: Format::Mail, zone: None };
        let mut s = open(Some(item), &format!("logs[{i}]"), keys("logs[]"), found);
        s.optional("path", &mut path, absolute);
        s.choice("mta", &mut log.mta, &[("auto", Mta::Auto), ("postfix", Mta::Postfix)]);
        s.choice("format", &mut log.format, &[("mail", Format::Mail), ("php", Format::Php)]);
        s.optional("zone", &mut log.zone, zone);
        if matches!(item, Node::Map(_)) && s.node("path").is_none() {
            s.wrong("path", "a log needs a path", "add `path: /var/log/mail.log`");
        }
        if let Some(path) = path {
            if logs.iter().any(|other| other.path == path) {
                s.wrong("path", "this log is listed twice", "its mail would count twice: keep one entry");
            }
            logs.push(LogSource { path, ..log });
        }
    }
}

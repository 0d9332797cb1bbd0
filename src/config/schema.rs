//! The keys of the configuration file: their names, kinds and ranges. What they mean is said at [`super::Config`].

use std::time::Duration;

use super::node::Node;
use super::problem::Found;
use super::read::{self, Bad, Section, absolute, address, network, open, text_of};
use super::{AccountLabel, Backfill, Config, GateLogins, GateMode, LogLevel, hooks, logs, quotas, rules};
use crate::engine::replies::{self, MAX_PATTERNS, OwnAddresses, Pattern, Replies};
use crate::engine::rules::Enforcement;
use crate::mail::ReplyClass;

/// Sections and their keys; `""` is the top of the file, `logs[]` one entry of the list.
const KEYS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "logs",
            "backfill",
            "state_dir",
            "listen",
            "web",
            "operator_token_file",
            "accounts_file",
            "log_level",
            "metrics",
            "attribution",
            "tracking",
            "history",
            "retention",
            "queue",
            "gate",
            "helper",
            "hold",
            "own_addresses",
            "replies",
            "enforcement",
            "rules",
            "quotas",
            "hooks",
        ],
    ),
    (
        "logs[]",
        &["path", "journal", "identifiers", "units", "directory", "socket", "socket_mode", "mta", "format", "zone"],
    ),
    ("web", &["hosts"]),
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
    ("queue", &["directories", "config_directories", "exim_program", "interval"]),
    ("gate", &["mode", "logins", "exim_flags"]),
    ("helper", &["socket"]),
    ("hold", &["held_max", "max_held", "max_held_bytes", "min_free", "min_free_inodes"]),
    ("replies[]", &["pattern", "class"]),
    (
        "enforcement",
        &["dry_run", "max_blocks_per_hour", "max_age", "respect_unblock", "force_for", "max_relapses", "exempt"],
    ),
    (
        "rules[]",
        &[
            "name",
            "signal",
            "window",
            "limit",
            "min_sample",
            "floor",
            "classes",
            "for",
            "action",
            "state",
            "scope",
            "duration",
            "share",
        ],
    ),
    ("quotas[]", &["for", "max_per_hour", "max_per_day", "over", "scope"]),
    ("hooks[]", &["url", "secret_file", "events", "timeout"]),
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

const MINUTE: Duration = Duration::from_secs(60);
const TEN_YEARS: Duration = Duration::from_secs(3660 * 86_400);
const YEARS: std::ops::RangeInclusive<u32> = 1..=3660;

fn listen(text: &str) -> Result<std::net::SocketAddr, Bad> {
    let hint = || "write ADDRESS:PORT such as 127.0.0.1:10925 or [::1]:10925".to_owned();
    text.parse().map_err(|_| (format!("`{text}` is not an address with a port"), hint()))
}

/// Reads the whole tree; mistakes go to `found` and leave the default in place.
pub(super) fn read(node: &Node, found: &mut Vec<Found>) -> Config {
    let mut c = Config::default();
    logs::read(node, keys("logs[]"), &mut c.logs, found);
    let mut top = open(Some(node), "", keys(""), found);
    backfill(&mut top, &mut c.backfill);
    top.optional("state_dir", &mut c.state_dir, absolute);
    if let Some(Node::Whole(port)) = top.node("listen") {
        let hint = format!("write the address too: 127.0.0.1:{port}");
        top.wrong("listen", format!("{port} is a port without an address"), hint);
    } else {
        top.text("listen", &mut c.listen, listen);
    }
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

    let mut s = top.section("web", keys("web"));
    s.list("hosts", &mut c.web.hosts, |item| text_of(item).and_then(read::host));

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
    if !is_auto(s.node("config_directories")) {
        s.list("config_directories", &mut c.queue.config_directories, |item| text_of(item).and_then(absolute));
    }
    if !is_auto(s.node("exim_program")) {
        s.optional("exim_program", &mut c.queue.exim_program, absolute);
    }
    s.duration("interval", &mut c.queue.interval, Duration::from_secs(1)..=Duration::from_secs(3600));

    let mut s = top.section("gate", keys("gate"));
    let modes = [("off", GateMode::Off), ("watch", GateMode::Watch), ("enforce", GateMode::Enforce)];
    s.choice("mode", &mut c.gate.mode, &modes);
    s.choice("logins", &mut c.gate.logins, &[("refuse", GateLogins::Refuse), ("hold", GateLogins::Hold)]);
    s.text("exim_flags", &mut c.gate.exim_flags, absolute);

    let mut s = top.section("helper", keys("helper"));
    s.text("socket", &mut c.helper.socket, absolute);
    let mut s = top.section("hold", keys("hold"));
    s.duration("held_max", &mut c.hold.held_max, Duration::from_secs(10)..=TEN_YEARS);
    s.number("max_held", &mut c.hold.max_held, 0..=1_000_000);
    s.size("max_held_bytes", &mut c.hold.max_held_bytes, 0..=1 << 60);
    s.size("min_free", &mut c.hold.min_free, 0..=1 << 60);
    s.number("min_free_inodes", &mut c.hold.min_free_inodes, 0..=u64::MAX >> 1);

    enforcement(top.section("enforcement", keys("enforcement")), &mut c.enforcement);

    top.list("own_addresses", &mut c.own_addresses, |item| text_of(item).and_then(address));
    replies(node, &mut c.replies, found);
    rules::read(node, keys("rules[]"), &mut c.rules, found);
    quotas::read(node, keys("quotas[]"), &mut c.rules, found);
    hooks::read(node, keys("hooks[]"), &mut c.hooks, found);
    c
}

/// What rules may do.
fn enforcement(mut s: Section<'_, '_>, e: &mut Enforcement) {
    s.flag("dry_run", &mut e.dry_run);
    s.number("max_blocks_per_hour", &mut e.max_blocks_per_hour, 0..=100_000);
    for (key, secs, least) in [
        ("max_age", &mut e.max_age_secs, MINUTE),
        ("respect_unblock", &mut e.respect_secs, Duration::ZERO),
        ("force_for", &mut e.force_secs, Duration::ZERO),
    ] {
        let mut long = Duration::from_secs(u64::try_from(*secs).unwrap_or(0));
        s.duration(key, &mut long, least..=TEN_YEARS);
        *secs = i64::try_from(long.as_secs()).unwrap_or(i64::MAX);
    }
    s.number("max_relapses", &mut e.max_relapses, 1..=1_000);
    s.list("exempt", &mut e.exempt, |item| text_of(item).map(str::to_owned));
}

fn backfill(top: &mut Section<'_, '_>, target: &mut Backfill) {
    let hint = || "write all, none, or a number of days such as 30d".to_owned();
    if let Some(Node::Whole(n)) = top.node("backfill") {
        return top.wrong("backfill", format!("{n} has no unit"), hint());
    }
    top.text("backfill", target, |text| match text {
        "all" => Ok(Backfill::All),
        "none" => Ok(Backfill::None),
        _ => {
            let past = read::duration(text).filter(|past| (MINUTE..=TEN_YEARS).contains(past));
            past.map(Backfill::Since).ok_or_else(|| (format!("`{text}` is not a time to look back"), hint()))
        }
    });
}

fn replies(top: &Node, patterns: &mut Vec<Pattern>, found: &mut Vec<Found>) {
    let hint = "write `- {pattern: \"…\", class: policy}` per pattern, or remove it";
    let items = match top.get("replies") {
        None => return,
        Some(Node::List(items)) => items,
        Some(other) => {
            let message = format!("expected a list of patterns, found {}", other.kind());
            return found.push(Found::new("replies", message).hint(hint));
        }
    };
    if items.len() > MAX_PATTERNS {
        let message = format!("{} patterns are more than the {MAX_PATTERNS} there may be", items.len());
        return found.push(Found::new("replies", message).hint("join patterns of one class with `|`"));
    }
    let classes: Vec<(&str, ReplyClass)> = ReplyClass::ALL.iter().map(|class| (class.name(), *class)).collect();
    for (i, item) in items.iter().enumerate() {
        let mut one = Pattern { pattern: String::new(), class: ReplyClass::Other };
        let mut s = open(Some(item), &format!("replies[{i}]"), keys("replies[]"), found);
        s.text("pattern", &mut one.pattern, |text| {
            let hint = || {
                r"give a regular expression, in quotes; put \ before . ( ) [ ] + * ? that are meant as such".to_owned()
            };
            replies::check(text).map(|()| text.to_owned()).map_err(|why| (why.to_string(), hint()))
        });
        s.choice("class", &mut one.class, &classes);
        for key in ["pattern", "class"] {
            if matches!(item, Node::Map(_)) && s.node(key).is_none() {
                s.wrong(key, format!("a reply pattern needs a {key}"), hint);
            }
        }
        patterns.push(one);
    }
    if found.is_empty()
        && let Err(why) = Replies::new(patterns, OwnAddresses::default())
    {
        found.push(Found::new("replies", why.to_string()).hint("use fewer or simpler patterns"));
    }
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

pub(super) fn is_auto(node: Option<&Node>) -> bool {
    matches!(node, Some(Node::Text(text)) if text == "auto")
}

//! Every metric family by name: the one place where metric names are written, and the source of `docs/metrics.md`.
//!
//! It holds no figures. [`Family`] says what a family is called, what it counts and which labels it has.

use super::delay;

/// What a family is, in the words of the exposition formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// The fixed description of a family. `base` is the name without `_total`.
#[derive(Debug, Clone, Copy)]
pub struct About {
    pub base: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

macro_rules! families {
    ($($id:ident $kind:ident $base:literal [$($label:literal),*] $help:literal;)*) => {
        /// A metric family. The order is the order of the exposition.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Family { $($id),* }

        impl Family {
            pub const ALL: &'static [Family] = &[$(Family::$id),*];

            pub const fn about(self) -> About {
                match self {
                    $(Family::$id => About { base: $base, kind: Kind::$kind, labels: &[$($label),*], help: $help }),*
                }
            }
        }
    };
}

families! {
    BuildInfo Gauge "sendwarden_build_info" ["revision", "version"] "Build of the running agent; always 1.";
    ConfigOk Gauge "sendwarden_config_last_reload_successful" [] "1 if the last configuration load worked.";
    ConfigTime Gauge "sendwarden_config_last_reload_success_timestamp_seconds" [] "Unix time of the last good configuration load.";
    LinesRead Counter "sendwarden_log_lines_read" ["source"] "Log lines read.";
    ParseFailures Counter "sendwarden_log_parse_failures" ["source", "reason"] "Lines of the mail server that did not have a known shape.";
    Unparsed Counter "sendwarden_log_unparsed_lines" ["daemon"] "Lines that did not have a known shape, by the daemon that wrote them.";
    LinesLost Counter "sendwarden_log_lines_lost" ["source", "reason"] "Lines known to be missed.";
    LinesCut Counter "sendwarden_log_lines_cut" ["source"] "Lines longer than the limit, read up to it.";
    Backlog Gauge "sendwarden_log_backlog_bytes" ["source"] "Bytes on disk that were written by the mail server but not read yet, in all files still to be read.";
    BacklogFiles Gauge "sendwarden_log_backlog_files" ["source"] "Files still to be read after the one being read.";
    SourceUp Gauge "sendwarden_log_source_up" ["source"] "1 if the source can be read; 0 while it is missing, hangs or fails.";
    SourceRestarts Counter "sendwarden_log_source_restarts" ["source"] "Times that what delivers the lines was started again.";
    LastEvent Gauge "sendwarden_log_last_event_timestamp_seconds" ["source"] "Log time of the newest event handled.";
    Messages Counter "sendwarden_messages_accepted" ["mta", "origin"] "Messages accepted into the queue.";
    Recipients Counter "sendwarden_recipients" ["mta", "outcome"] "Recipients by how they ended.";
    Deferrals Counter "sendwarden_deferrals" ["mta"] "Delivery attempts that were put off.";
    Replies Counter "sendwarden_delivery_replies" ["mta", "code", "dsn"] "Replies of remote servers by SMTP code and enhanced status code.";
    Failures Counter "sendwarden_delivery_failures" ["mta", "reason"] "Deferred or bounced delivery attempts by classified reason.";
    OwnAddress Counter "sendwarden_own_address_refusals" ["mta", "reason"] "Deferred or bounced delivery attempts whose refusal names an address of this host, by classified reason.";
    Delay Histogram "sendwarden_delivery_delay_seconds" ["mta", "direction"] "Time from acceptance to successful delivery.";
    AuthFailures Counter "sendwarden_auth_failures" ["protocol"] "Failed logins.";
    Unattributed Counter "sendwarden_unattributed_messages" ["reason"] "Messages that belong to no account, by the reason.";
    QueueMessages Gauge "sendwarden_queue_messages" ["mta", "queue"] "Messages in the queue, by the names that the server has for its queues; where it has one only, those that are `waiting` and those that are `frozen`.";
    QueueOldest Gauge "sendwarden_queue_oldest_message_timestamp_seconds" ["mta", "queue"] "Arrival time of the oldest queued message.";
    QueueBytes Gauge "sendwarden_queue_bytes" ["mta", "queue"] "Size of the files of the messages in the queue.";
    QueueScan Gauge "sendwarden_queue_scan_last_success_timestamp_seconds" ["mta"] "Unix time of the last complete queue scan.";
    AccountMessages Counter "sendwarden_account_messages_accepted" ["account", "origin"] "Messages accepted per account.";
    AccountRecipients Counter "sendwarden_account_recipients" ["account", "outcome"] "Recipients per account by how they ended.";
    AccountDeferrals Counter "sendwarden_account_deferrals" ["account"] "Delivery attempts per account that were put off.";
    AccountToday Gauge "sendwarden_account_messages_today" ["account"] "Messages accepted per account since local midnight.";
    AccountQueued Gauge "sendwarden_account_queued_recipients" ["account"] "Recipients of queued messages per account, held ones included.";
    AccountHeld Gauge "sendwarden_account_held_recipients" ["account"] "Recipients of messages on hold per account.";
    AccountWindow Gauge "sendwarden_account_window" ["account", "rule"] "What a rule sees in its window per account, as its limit counts it (a share of errors in percent); absent while there is nothing.";
    AccountWindowLimit Gauge "sendwarden_account_window_limit" ["account", "rule"] "The limit of that rule for the account.";
    AccountsKnown Gauge "sendwarden_accounts_known" [] "Accounts ever seen and not forgotten.";
    AccountsTracked Gauge "sendwarden_accounts_tracked" [] "Accounts with series of their own.";
    AccountsLimit Gauge "sendwarden_accounts_tracked_limit" [] "Most accounts that may have series of their own.";
    Folded Counter "sendwarden_account_events_folded" [] "Events counted under account=other because the limit was reached.";
    Tracked Gauge "sendwarden_tracked_messages" [] "Messages that are followed right now.";
    Evictions Counter "sendwarden_tracker_evictions" ["reason"] "Messages that were given up before their end was seen.";
    GateDecisions Counter "sendwarden_gate_decisions" ["origin", "decision"] "Messages that the mail server asked about before it queued them, by what was answered; where it looks for flags, also what its rules did by them.";
    GateUnknown Counter "sendwarden_gate_unknown_identities" ["reason"] "Messages at the gate whose sender could not be proven; they pass, or are put off for a moment.";
    GateUnrecorded Counter "sendwarden_gate_unrecorded_holds" [] "Messages held by the gate that could be neither written down nor remembered; they stay on hold until somebody looks.";
    GateBroken Counter "sendwarden_gate_broken_conversations" [] "Conversations with the mail server that ended in a way they should not.";
    GateSeconds Histogram "sendwarden_gate_decision_seconds" [] "Time from the end of a message to the answer.";
    FlagsWrong Gauge "sendwarden_gate_flags_wrong" [] "Flags of blocked accounts that could not be written or removed: mail of blocked accounts may pass, or that of free ones be held.";
    GateBypass Counter "sendwarden_gate_bypass" ["origin", "when"] "Messages that the mail server queued without asking the gate: `open` while it was open, `away` while no agent ran.";
    Blocked Gauge "sendwarden_blocked_accounts" ["state", "cause"] "Accounts whose mail is held.";
    Forced Gauge "sendwarden_second_chance_accounts" [] "Accounts that send again after a block for errors, with doubled limits for errors (state `force`).";
    Delayed Gauge "sendwarden_delayed_accounts" [] "Accounts that send more than they may and are slowed down.";
    HeldMessages Gauge "sendwarden_held_messages" [] "Messages that the agent holds.";
    HeldBytes Gauge "sendwarden_held_bytes" [] "What the messages that the agent holds take of the queue, where it can look at their files; some seconds behind.";
    HeldOldest Gauge "sendwarden_held_oldest_timestamp_seconds" [] "Since when the oldest message that the agent holds is on hold.";
    HeldWarnings Counter "sendwarden_held_warnings" [] "Warnings that held messages of an account come to the end of their time.";
    HeldDropped Counter "sendwarden_held_dropped_messages" [] "Messages deleted because they were held too long.";
    Orders Counter "sendwarden_orders" ["action", "result"] "Orders for accounts, and what came of them.";
    Drift Counter "sendwarden_hold_drift" ["kind"] "Messages that were not held or free as they should be: escaped (held afterwards), left_over (released afterwards), taken (released or requeued by somebody else), gone (not there when they were to be released or deleted, or believed to be on hold), contradicted (a held account's as the log says, somebody else's as the queue file does: let alone).";
    Verdicts Counter "sendwarden_rule_verdicts" ["rule", "outcome"] "Limits of rules that were crossed, by what became of it: observed, notified, blocked, or why it was not blocked.";
    Evaluations Counter "sendwarden_rule_evaluations" [] "Windows of rules that were moved and compared with their limits.";
    BlockBudget Gauge "sendwarden_rule_block_budget" [] "Automatic blocks that may still be made within this hour.";
    Incidents Counter "sendwarden_host_incidents" ["kind"] "Host incidents found: many accounts fail at one receiver or with one class of replies, or receivers name an address of this host.";
    IncidentsNow Gauge "sendwarden_host_incidents_standing" ["kind"] "Host incidents that stand; what is due to one counts against no account.";
    RulesArmed Gauge "sendwarden_rules_armed" [] "Rules that block when their limit is crossed; 0 while a dry run or a person mutes them.";
    HookDeliveries Counter "sendwarden_hook_deliveries" ["hook", "outcome"] "Notices to hooks by the host they are for: delivered, refused by the receiver, expired (given up after a day), dropped (too many wait); `retried` counts tries that failed.";
    HookQueue Gauge "sendwarden_hook_queue_length" ["hook"] "Notices that wait to be delivered.";
    StoreUp Gauge "sendwarden_store_up" [] "1 if the last write to the store worked.";
    StoreFailures Counter "sendwarden_store_commit_failures" [] "Writes to the store that failed.";
    StoreSize Gauge "sendwarden_store_size_bytes" [] "Size of the store on disk.";
    ProcessStart Gauge "process_start_time_seconds" [] "Start time of the process since unix epoch in seconds.";
    ProcessRss Gauge "process_resident_memory_bytes" [] "Resident memory size in bytes.";
    ProcessCpu Counter "process_cpu_seconds" [] "Total user and system CPU time spent in seconds.";
}

impl Family {
    /// The name as Prometheus shows it.
    pub fn name(self) -> String {
        let about = self.about();
        match about.kind {
            Kind::Counter => format!("{}_total", about.base),
            Kind::Gauge | Kind::Histogram => about.base.to_owned(),
        }
    }

    /// The base unit and the name before it. OpenMetrics wants the unit as last part of the family's name.
    pub fn unit(self) -> (&'static str, Option<prometheus_client::registry::Unit>) {
        use prometheus_client::registry::Unit;
        let base = self.about().base;
        if let Some(stem) = base.strip_suffix("_seconds") {
            (stem, Some(Unit::Seconds))
        } else if let Some(stem) = base.strip_suffix("_bytes") {
            (stem, Some(Unit::Bytes))
        } else {
            (base, None)
        }
    }

    /// Label values that stand for this family's series in the store, joined; unique over all families.
    pub fn key(self, labels: &[&str]) -> String {
        let mut key = self.about().base.to_owned();
        for label in labels {
            key.push('\u{1f}');
            key.push_str(label);
        }
        key
    }
}

/// The reference page of all metrics, in Markdown. A test compares it with `docs/metrics.md`.
pub fn reference() -> String {
    let mut out = String::from(
        "# Metrics\n\n\
         Generated from the code (`src/metrics/families.rs`); `UPDATE_DOCS=1 cargo test --lib metrics` writes it anew.\n\n\
         `GET /metrics` answers OpenMetrics 1.0 or the text format 0.0.4, as the client asks. Counters go on over\n\
         restarts of the agent. Label text that comes from logs is cleaned and cut at 128 bytes.\n\n\
         | metric | type | labels | help |\n| --- | --- | --- | --- |\n",
    );
    for family in Family::ALL {
        let about = family.about();
        let labels = if about.labels.is_empty() { "-".to_owned() } else { about.labels.join(", ") };
        out.push_str(&format!("| {} | {} | {} | {} |\n", family.name(), about.kind.name(), labels, about.help));
    }
    let bounds: Vec<String> = delay::BOUNDS_MS.iter().map(|ms| format!("{}", *ms as f64 / 1000.0)).collect();
    out.push_str(&format!(
        "\n## Label values\n\n\
         - `outcome`: {outcomes}. `origin`: {origins}.\n\
         - `reason` of `sendwarden_unattributed_messages_total`: {why}.\n\
         - `reason` of `sendwarden_delivery_failures_total` and `sendwarden_own_address_refusals_total`: {classes}.\n\
         - `direction`: `local` (a mailbox or command on this host), `remote`.\n\
         - `code` and `dsn` of `sendwarden_delivery_replies_total`: at most 200 pairs, the rest is `other`, `other`; \
         a reply without an enhanced status code has `dsn=\"none\"`.\n\
         - Buckets of `sendwarden_delivery_delay_seconds`: {bounds} seconds and +Inf.\n\n\
         ## Accounts\n\n\
         Series per account are bounded: accounts get series of their own in the order of their first mail, up to\n\
         `sendwarden_accounts_tracked_limit`, and keep them until they are forgotten. All others are added up under\n\
         `account=\"other\"`. What an account did before it got its own series stays in `other`, so every counter only grows.\n\n\
         Prometheus takes the first value of a new series as its starting point, and so would miss the first events of an\n\
         account. Therefore a series that is new to a scraper (known by address and User-Agent) is shown to it once with 0.\n",
        outcomes = words(crate::mail::Outcome::ALL.iter().map(|o| o.name())),
        origins = words(crate::mail::Origin::ALL.iter().map(|o| o.name())),
        why = words(crate::mail::Unattributed::ALL.iter().map(|u| u.name())),
        classes = words(crate::mail::ReplyClass::ALL.iter().map(|c| c.name())),
        bounds = bounds.join(", "),
    ));
    out
}

fn words(names: impl Iterator<Item = &'static str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/docs")).unwrap();
            std::fs::write(path, reference()).unwrap();
        }
        let file = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            file == reference(),
            "docs/metrics.md is not what the code says: run UPDATE_DOCS=1 cargo test --lib metrics"
        );
    }

    #[test]
    fn names_follow_the_conventions() {
        let mut seen = std::collections::BTreeSet::new();
        for family in Family::ALL {
            let about = family.about();
            assert!(seen.insert(family.name()), "{} twice", about.base);
            assert!(about.base.starts_with("sendwarden_") || about.base.starts_with("process_"), "{}", about.base);
            assert!(!about.base.ends_with("_total"), "{}", about.base);
            assert!(about.help.ends_with('.') && !about.help.contains('\n'), "{}", about.base);
            for label in about.labels {
                assert!(!["type", "service", "owner", "instance", "job", "le", "quantile"].contains(label), "{label}");
            }
        }
    }
}

//! The figures as a scraper sees them, read back by a small independent parser of both formats.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::mail::{Basis, Counts, Dsn, Fact, Origin, Outcome, ReplyClass, Server, Status, Unattributed};

/// Series by `name{label="value",…}` with labels sorted and unescaped; and the types by family name.
#[derive(Debug, Default)]
struct Parsed {
    series: BTreeMap<String, f64>,
    types: BTreeMap<String, String>,
}

fn parse(text: &str, format: Format) -> Parsed {
    let mut parsed = Parsed::default();
    let mut eof = false;
    let mut helped = BTreeSet::new();
    assert!(text.ends_with('\n'));
    for line in text.split_terminator('\n') {
        assert!(!eof, "text after EOF");
        if line == "# EOF" {
            eof = true;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(parsed.types.insert(name.into(), kind.into()).is_none(), "{name} declared twice");
            assert!(helped.contains(name), "{name} has no help before its type");
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            helped.insert(rest.split_once(' ').unwrap().0.to_owned());
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (name, unit) = rest.split_once(' ').unwrap();
            assert!(format == Format::OpenMetrics100 && name.ends_with(&format!("_{unit}")));
        } else {
            let (key, value) = sample(line);
            let name = key.split('{').next().unwrap();
            let declared = parsed.types.keys().any(|family| {
                name == family
                    || ["_total", "_sum", "_count", "_bucket"].iter().any(|end| name == format!("{family}{end}"))
            });
            assert!(declared, "{name} was not declared");
            assert!(parsed.series.insert(key.clone(), value).is_none(), "{key} twice");
        }
    }
    assert_eq!(eof, format == Format::OpenMetrics100);
    parsed
}

fn sample(line: &str) -> (String, f64) {
    let name_end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(name_end);
    assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{name}");
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        let mut chars = inner.char_indices().peekable();
        loop {
            let mut label = String::new();
            for (_, c) in chars.by_ref() {
                if c == '=' {
                    break;
                }
                label.push(c);
            }
            assert_eq!(chars.next().map(|(_, c)| c), Some('"'), "{line}");
            let mut value = String::new();
            loop {
                match chars.next().expect("an unfinished label value").1 {
                    '"' => break,
                    '\\' => value.push(match chars.next().unwrap().1 {
                        'n' => '\n',
                        c @ ('"' | '\\') => c,
                        c => panic!("escape {c}"),
                    }),
                    c => value.push(c),
                }
            }
            assert!(labels.insert(label, value).is_none());
            match chars.next().unwrap() {
                (_, ',') => continue,
                (at, '}') => {
                    rest = inner.split_at(at + 1).1;
                    break;
                }
                (_, c) => panic!("{c} after a label in {line}"),
            }
        }
    }
    let value = rest.strip_prefix(' ').unwrap().parse().unwrap();
    let labels: Vec<String> = labels.into_iter().map(|(k, v)| format!("{k}={v:?}")).collect();
    (if labels.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", labels.join(",")) }, value)
}

fn scrape(metrics: &Metrics, who: &str) -> Parsed {
    let at = |format| {
        let text = metrics.render(&Scrape {
            format,
            scraper: "",
            now: Time::from_secs(100),
            process: Process::default(),
            flags_wrong: Some(2),
        });
        parse(&text, format).series
    };
    let (old, new) = (at(Format::Text004), at(Format::OpenMetrics100));
    assert_eq!(old, new, "both formats say the same");
    let format = Format::OpenMetrics100;
    parse(
        &metrics.render(&Scrape {
            format,
            scraper: who,
            now: Time::from_secs(100),
            process: Process::default(),
            flags_wrong: Some(2),
        }),
        format,
    )
}

impl Parsed {
    fn get(&self, key: &str) -> f64 {
        // `{mta}` is the server that is there from the start.
        let key = &key.replace("{mta}", Server::default().name());
        *self.series.get(key).unwrap_or_else(|| panic!("no {key} in {:#?}", self.series.keys()))
    }
}

fn metrics(max_accounts: usize) -> Metrics {
    Metrics::new(Settings { max_accounts, ..Settings::default() })
}

fn figures(owner: u32, name: &str, messages: u64) -> OwnerFigures<'_> {
    OwnerFigures {
        owner: Owner(owner),
        name,
        counts: Counts { messages, recipients: messages, sent: messages, ..Counts::default() },
        origins: [messages, 0, 0, 0, 0],
        today: messages,
        today_until: Time::from_secs(1_000),
    }
}

fn step(metrics: &Metrics, owners: &[OwnerFigures<'_>]) -> Saved {
    metrics.stage(&mut Tally::new(), owners.iter().copied());
    let saved = metrics.save();
    metrics.publish(Gauges::default());
    saved
}

fn script(account: &str) -> String {
    format!("sendwarden_account_messages_accepted_total{{account={account:?},origin=\"script\"}}")
}

#[test]
fn facts_become_figures_and_show_after_publish_only() {
    let metrics = metrics(10);
    let source = metrics.source("mail.log");
    let mut tally = Tally::new();
    let (at, server) = (Time::ZERO, Server::default());
    tally.lines(source, 7);
    tally.unknown(source, "shape", b"smtp\xff");
    tally.lost(source, "rotated", 3);
    tally.restarted(source);
    tally.evicted("limit", 2);
    let id = &crate::mail::QueueId::new(b"ABCDEF").unwrap();
    tally.fact(&Fact::Message {
        at,
        server,
        id,
        owner: Owner(16),
        origin: Origin::Script,
        basis: Basis::Uid,
        login: b"",
    });
    let bounce = Owner::nobody(Unattributed::Bounce);
    tally.fact(&Fact::Message {
        at,
        server,
        id,
        owner: bounce,
        origin: Origin::Internal,
        basis: Basis::None,
        login: b"",
    });
    tally.fact(&Fact::Settled { at, server, owner: Owner(16), outcome: Outcome::Bounced, n: 4 });
    tally.fact(&Fact::Deferral { at, server, owner: Owner(16) });
    tally.fact(&Fact::LoginFailed { at });
    let own_address = Some(std::net::IpAddr::from([192, 0, 2, 25]));
    for (status, code, dsn, class) in [
        (Status::Sent, 250, Dsn::new(2, 0, 0), None),
        (Status::Bounced, 550, Dsn::new(5, 1, 1), Some(ReplyClass::UnknownRecipient)),
        (Status::Bounced, 999, Dsn::NONE, Some(ReplyClass::Other)),
    ] {
        let own_address = own_address.filter(|_| code == 550);
        tally.fact(&Fact::Attempt { at, server, status, local: false, dsn, code, class, own_address, delay_ms: 1_500 });
    }
    metrics.stage(&mut tally, []);
    assert_eq!(scrape(&metrics, "").get("sendwarden_log_lines_read_total{source=\"mail.log\"}"), 0.0);
    metrics.publish(Gauges {
        sources: vec![SourceGauge {
            source,
            up: false,
            backlog_bytes: 9,
            backlog_files: 2,
            last_event: Some(Time::from_secs(5)),
        }],
        queues: vec![QueueGauge {
            bytes: 7_000,
            server,
            queue: "deferred".into(),
            messages: 3,
            oldest: Some(Time::from_secs(1)),
        }],
        ..Gauges::default()
    });
    let seen = scrape(&metrics, "");
    for (key, value) in [
        ("sendwarden_log_lines_read_total{source=\"mail.log\"}", 7.0),
        ("sendwarden_log_parse_failures_total{reason=\"shape\",source=\"mail.log\"}", 1.0),
        ("sendwarden_log_unparsed_lines_total{daemon=\"smtp\u{FFFD}\"}", 1.0),
        ("sendwarden_log_lines_lost_total{reason=\"rotated\",source=\"mail.log\"}", 3.0),
        ("sendwarden_log_source_up{source=\"mail.log\"}", 0.0),
        ("sendwarden_log_source_restarts_total{source=\"mail.log\"}", 1.0),
        ("sendwarden_log_backlog_bytes{source=\"mail.log\"}", 9.0),
        ("sendwarden_log_backlog_files{source=\"mail.log\"}", 2.0),
        ("sendwarden_log_last_event_timestamp_seconds{source=\"mail.log\"}", 5.0),
        ("sendwarden_messages_accepted_total{mta=\"{mta}\",origin=\"script\"}", 1.0),
        ("sendwarden_unattributed_messages_total{reason=\"bounce\"}", 1.0),
        ("sendwarden_recipients_total{mta=\"{mta}\",outcome=\"bounced\"}", 4.0),
        ("sendwarden_recipients_total{mta=\"{mta}\",outcome=\"expired\"}", 0.0),
        ("sendwarden_deferrals_total{mta=\"{mta}\"}", 1.0),
        ("sendwarden_auth_failures_total{protocol=\"smtp\"}", 1.0),
        ("sendwarden_delivery_replies_total{code=\"550\",dsn=\"5.1.1\",mta=\"{mta}\"}", 1.0),
        ("sendwarden_delivery_replies_total{code=\"other\",dsn=\"other\",mta=\"{mta}\"}", 1.0),
        ("sendwarden_delivery_failures_total{mta=\"{mta}\",reason=\"unknown_recipient\"}", 1.0),
        ("sendwarden_own_address_refusals_total{mta=\"{mta}\",reason=\"unknown_recipient\"}", 1.0),
        ("sendwarden_own_address_refusals_total{mta=\"{mta}\",reason=\"other\"}", 0.0),
        ("sendwarden_delivery_delay_seconds_bucket{direction=\"remote\",le=\"1.0\",mta=\"{mta}\"}", 0.0),
        ("sendwarden_delivery_delay_seconds_bucket{direction=\"remote\",le=\"2.5\",mta=\"{mta}\"}", 1.0),
        ("sendwarden_delivery_delay_seconds_bucket{direction=\"remote\",le=\"+Inf\",mta=\"{mta}\"}", 1.0),
        ("sendwarden_delivery_delay_seconds_sum{direction=\"remote\",mta=\"{mta}\"}", 1.5),
        ("sendwarden_delivery_delay_seconds_count{direction=\"local\",mta=\"{mta}\"}", 0.0),
        ("sendwarden_queue_messages{mta=\"{mta}\",queue=\"deferred\"}", 3.0),
        ("sendwarden_tracker_evictions_total{reason=\"limit\"}", 2.0),
        ("sendwarden_gate_flags_wrong", 2.0),
        ("sendwarden_store_up", 1.0),
    ] {
        assert_eq!(seen.get(key), value, "{key}");
    }
    metrics.commit_failed();
    assert_eq!(scrape(&metrics, "").get("sendwarden_store_up"), 0.0);
    assert_eq!(scrape(&metrics, "").get("sendwarden_store_commit_failures_total"), 1.0);
}

#[test]
fn a_new_series_is_shown_to_a_known_scraper_once_with_zero() {
    let metrics = metrics(10);
    step(&metrics, &[figures(16, "web1", 3)]);
    assert_eq!(scrape(&metrics, "prom").get(&script("web1")), 3.0, "a first scrape sees true values");
    step(&metrics, &[figures(17, "web2", 5)]);
    assert_eq!(scrape(&metrics, "other prom").get(&script("web2")), 5.0);
    let first = scrape(&metrics, "prom");
    assert_eq!((first.get(&script("web1")), first.get(&script("web2"))), (3.0, 0.0));
    assert_eq!(scrape(&metrics, "prom").get(&script("web2")), 5.0);

    let mut tally = Tally::new();
    tally.fact(&Fact::Attempt {
        at: Time::ZERO,
        server: Server::default(),
        status: Status::Bounced,
        local: false,
        dsn: Dsn::new(5, 7, 1),
        code: 554,
        class: None,
        own_address: None,
        delay_ms: 0,
    });
    metrics.stage(&mut tally, []);
    metrics.publish(Gauges::default());
    let reply = "sendwarden_delivery_replies_total{code=\"554\",dsn=\"5.7.1\",mta=\"{mta}\"}";
    assert_eq!(scrape(&metrics, "prom").get(reply), 0.0);
    assert_eq!(scrape(&metrics, "prom").get(reply), 1.0);
}

#[test]
fn a_server_has_series_from_its_first_line_on_and_keeps_them() {
    let [_, second] = Server::ALL;
    let of = |base: &str, labels: &str| format!("sendwarden_{base}{{{labels},mta={:?}}}", second.name());
    let (delay, reply) = (
        of("delivery_delay_seconds_count", "direction=\"remote\""),
        of("delivery_replies_total", "code=\"421\",dsn=\"none\""),
    );
    let settled = format!("sendwarden_recipients_total{{mta={:?},outcome=\"sent\"}}", second.name());
    let first_metrics = metrics(10);
    let at = Time::ZERO;
    assert!(!scrape(&first_metrics, "prom").series.contains_key(&settled), "a server that is not here");
    let mut tally = Tally::new();
    let attempt = |status, code, dsn| Fact::Attempt {
        at,
        server: second,
        status,
        local: false,
        dsn,
        code,
        class: None,
        own_address: None,
        delay_ms: 10,
    };
    tally.fact(&attempt(Status::Sent, 250, Dsn::new(2, 0, 0)));
    tally.fact(&attempt(Status::Deferred, 421, Dsn::NONE));
    tally.fact(&Fact::Settled { at, server: second, owner: Owner(16), outcome: Outcome::Sent, n: 3 });
    first_metrics.stage(&mut tally, []);
    let saved = first_metrics.save();
    first_metrics.publish(Gauges::default());
    assert_eq!(scrape(&first_metrics, "prom").get(&settled), 0.0, "increase() needs a value to begin from");
    let restarted = metrics(10);
    restarted.restore(saved, []);
    for metrics in [first_metrics, restarted] {
        let seen = scrape(&metrics, "prom");
        assert_eq!((seen.get(&settled), seen.get(&delay), seen.get(&reply)), (3.0, 1.0, 1.0));
        assert_eq!(seen.get("sendwarden_recipients_total{mta=\"{mta}\",outcome=\"sent\"}"), 0.0);
    }
}

#[test]
fn admission_is_sticky_and_other_keeps_what_was_before() {
    let metrics = metrics(1);
    step(&metrics, &[figures(16, "a", 1), figures(17, "b", 10)]);
    let seen = scrape(&metrics, "");
    assert_eq!((seen.get(&script("a")), seen.get(&script("other"))), (1.0, 10.0));
    assert_eq!(seen.get("sendwarden_account_events_folded_total"), 20.0, "ten messages, ten ends");
    metrics.set_max_accounts(2);
    step(&metrics, &[figures(17, "b", 12)]);
    let seen = scrape(&metrics, "");
    assert_eq!((seen.get(&script("b")), seen.get(&script("other"))), (2.0, 10.0));
    metrics.forget(Owner(17));
    assert_eq!(scrape(&metrics, "").get(&script("other")), 10.0);
    metrics.rename(Owner(16), "other");
    assert_eq!(scrape(&metrics, "").get(&script("other~16")), 1.0, "nobody is called other");
}

#[test]
fn today_ends_at_midnight_without_an_event() {
    let metrics = metrics(1);
    let late = OwnerFigures { today_until: Time::from_secs(50), ..figures(17, "b", 2) };
    step(&metrics, &[figures(16, "a", 3), late]);
    let seen = scrape(&metrics, "");
    assert_eq!(seen.get("sendwarden_account_messages_today{account=\"a\"}"), 3.0);
    assert_eq!(seen.get("sendwarden_account_messages_today{account=\"other\"}"), 0.0);
}

#[test]
fn labels_can_be_pseudonyms_or_absent() {
    let hashed = Metrics::new(Settings { account_label: AccountLabel::Hash, ..Settings::default() });
    step(&hashed, &[figures(16, "web1", 3)]);
    let names: Vec<String> = scrape(&hashed, "").series.into_keys().collect();
    assert!(names.iter().all(|name| !name.contains("web1")));
    let none = Metrics::new(Settings { account_label: AccountLabel::None, ..Settings::default() });
    step(&none, &[figures(16, "web1", 3)]);
    assert_eq!(scrape(&none, "").get(&script("other")), 3.0);
}

#[test]
fn reply_pairs_are_bounded() {
    let metrics = metrics(1);
    for batch in 0..10u16 {
        let mut tally = Tally::new();
        for n in 0..100u16 {
            tally.fact(&Fact::Attempt {
                at: Time::ZERO,
                server: Server::default(),
                status: Status::Bounced,
                local: false,
                dsn: Dsn::new(5, batch, n),
                code: 550,
                class: None,
                own_address: None,
                delay_ms: 0,
            });
        }
        metrics.stage(&mut tally, []);
    }
    metrics.publish(Gauges::default());
    let replies: Vec<f64> = scrape(&metrics, "")
        .series
        .into_iter()
        .filter_map(|(key, n)| key.starts_with("sendwarden_delivery_replies").then_some(n))
        .collect();
    assert!(replies.len() <= 200, "{}", replies.len());
    assert_eq!(replies.iter().sum::<f64>(), 1_000.0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn hostile_names_never_break_the_exposition(names in prop::collection::vec(".{0,200}|other|[\"\\\\\n]{0,5}", 1..6), daemon: Vec<u8>, source in ".{0,40}") {
        let metrics = metrics(10);
        let id = metrics.source(&source);
        let mut tally = Tally::new();
        tally.unknown(id, "shape", &daemon);
        metrics.stage(&mut tally, names.iter().enumerate().map(|(n, name)| figures(16 + n as u32, name, 1)));
        metrics.publish(Gauges::default());
        let seen = scrape(&metrics, "who");
        let total: f64 = seen.series.iter().filter(|(key, _)| key.starts_with("sendwarden_account_messages_accepted")).map(|(_, n)| n).sum();
        prop_assert_eq!(total, names.len() as f64);
    }

}

proptest! {
    // Few, for each case renders some hundred expositions.
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever is cut where: after restarts the same series go on, no counter ever falls, the sum is the truth.
    #[test]
    fn counters_only_grow_over_restarts_and_forgetting(
        steps in prop::collection::vec((0..8u32, 1..5u64, 0..12u8), 1..60),
        limit in 0..6usize,
    ) {
        let mut metrics = metrics(limit);
        let mut truth = [0u64; 8];
        let mut lines = 0u64;
        let mut gone = [false; 8];
        let mut stored_slots: Vec<Slot> = Vec::new();
        let mut stored: BTreeMap<String, u64> = BTreeMap::new();
        let mut before: BTreeMap<String, f64> = BTreeMap::new();
        let names: Vec<String> = (0..8).map(|n| format!("a{n}")).collect();
        for (who, n, what) in steps {
            let at = who as usize;
            let owner = 16 + who;
            if gone[at] { continue; }
            if what == 0 {
                gone[at] = true;
                metrics.forget(Owner(owner));
                stored_slots.retain(|slot| slot.owner != Owner(owner));
                before.retain(|key, _| !key.contains(&format!("{:?}", names[at])));
            } else {
                truth[at] += n;
            }
            let source = metrics.source("s");
            let mut tally = Tally::new();
            tally.lines(source, n);
            lines += n;
            let changed = (what != 0).then(|| figures(owner, &names[at], truth[at]));
            metrics.stage(&mut tally, changed);
            let saved = metrics.save();
            stored.extend(saved.counters);
            stored_slots.extend(saved.slots);
            // The commit is through; a crash may come before or after `publish`.
            if what != 1 {
                metrics.publish(Gauges::default());
            }
            if what <= 2 {
                metrics = super::Metrics::new(Settings { max_accounts: limit, ..Settings::default() });
                let saved = Saved { counters: stored.clone().into_iter().collect(), slots: stored_slots.clone() };
                let all = (0..8).filter(|n| !gone[*n] && truth[*n] > 0).map(|n| figures(16 + n as u32, &names[n], truth[n]));
                metrics.restore(saved, all);
                metrics.source("s");
            }
            let seen = scrape(&metrics, "");
            for (key, value) in &before {
                prop_assert!(seen.get(key) >= *value, "{} fell from {} to {}", key, value, seen.get(key));
            }
            prop_assert_eq!(seen.get("sendwarden_log_lines_read_total{source=\"s\"}"), lines as f64);
            before = seen.series.into_iter().filter(|(key, _)| key.contains("_total")).collect();
        }
        let shown: f64 = before.iter().filter(|(key, _)| key.starts_with("sendwarden_account_messages_accepted")).map(|(_, n)| n).sum();
        let truth: u64 = truth.iter().zip(gone).filter(|(_, gone)| !gone).map(|(n, _)| n).sum();
        prop_assert!(shown >= truth as f64);
    }
}

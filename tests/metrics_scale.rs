//! Scrapes of a large host: 100,000 accounts known, 500 or 10,000 of them with series of their own.
//!
//! The bars are 20 ms and 150 ms in a release build; here they are taken loosely, for builds and machines that are slow.
//! `METRICS_OUT=FILE` keeps the last exposition, for `promtool check metrics`.

use std::time::Duration;

use sendwarden::mail::{Counts, Owner, Time};
use sendwarden::metrics::{Format, Gauges, Metrics, OwnerFigures, Process, Scrape, Settings, Tally};

fn render(metrics: &Metrics, format: Format) -> String {
    let process = Process { start_seconds: 1.5, resident_bytes: 1, cpu_seconds: 0.25 };
    metrics.render(&Scrape { format, scraper: "prom", now: Time::from_secs(1), process })
}

fn filled(max_accounts: usize) -> Metrics {
    let metrics = Metrics::new(Settings { max_accounts, ..Settings::default() });
    let names: Vec<String> = (0..100_000).map(|n| format!("customer{n}")).collect();
    let owners = names.iter().zip(Owner::FIRST_ACCOUNT..).map(|(name, owner)| OwnerFigures {
        owner: Owner(owner),
        name,
        counts: Counts { messages: 10, recipients: 12, sent: 9, bounced: 3, ..Counts::default() },
        origins: [9, 1, 0, 0, 0],
        today: 2,
        today_until: Time::from_secs(100),
    });
    metrics.source("/var/log/mail.log");
    metrics.stage(&mut Tally::new(), owners);
    metrics.publish(Gauges::default());
    metrics
}

#[test]
fn a_scrape_of_a_large_host_is_quick() {
    for (tracked, bar) in [(500, Duration::from_millis(20)), (10_000, Duration::from_millis(150))] {
        let metrics = filled(tracked);
        for format in [Format::OpenMetrics100, Format::Text004] {
            let best = (0..5)
                .map(|_| {
                    let begin = sendwarden::host::clock::monotonic();
                    let text = render(&metrics, format);
                    assert!(text.len() > tracked * 100);
                    begin.elapsed()
                })
                .min()
                .unwrap();
            println!("{tracked} accounts, {format:?}: {best:?}");
            assert!(best < bar * 10, "{tracked} accounts, {format:?}: {best:?}");
        }
        if let Some(path) = std::env::var_os("METRICS_OUT") {
            std::fs::write(path, render(&metrics, Format::Text004)).unwrap();
        }
    }
}

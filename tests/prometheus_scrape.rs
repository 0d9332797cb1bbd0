//! A real Prometheus scrapes the agent: it takes every family, its figures are those of the log, and `increase()`
//! sees the first message of an account that it had never heard of.
#![allow(clippy::disallowed_methods, reason = "tests start processes and poll the real clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
mod support;

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::agent::{Agent, configure};
use support::{http, wait_for, wait_until};

/// A Prometheus of our own with a scrape every second.
struct Prometheus {
    child: Child,
    address: String,
}

impl Prometheus {
    fn start(dir: &Path, target: &str) -> Self {
        let config = dir.join("prometheus.yml");
        let text = format!(
            "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n  - job_name: sendwarden\n    \
             static_configs:\n      - targets: ['{target}']\n"
        );
        fs::write(&config, text).unwrap();
        let (address, log) = (free_address(), dir.join("prometheus.log"));
        let out = File::create(&log).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .expect("prometheus is installed (Debian package prometheus)");
        let mut prometheus = Prometheus { child, address };
        wait_until("Prometheus to be ready", || {
            let ended = prometheus.child.try_wait().unwrap();
            assert!(ended.is_none(), "Prometheus ended: {}", fs::read_to_string(&log).unwrap_or_default());
            matches!(http::get(&prometheus.address, "/-/ready"), Ok((200, _)))
        });
        prometheus
    }

    /// The value of an instant query with one series or none.
    fn query(&self, query: &str) -> Option<f64> {
        let plain = |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") };
        let encoded: String = query.bytes().map(plain).collect();
        let (status, body) = http::get(&self.address, &format!("/api/v1/query?query={encoded}")).unwrap();
        assert_eq!(status, 200, "{query}: {body}");
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{body}: {e}"));
        let result = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("no vector: {body}"));
        assert!(result.len() <= 1, "{query} has more than one series: {body}");
        result.first()?["value"][1].as_str()?.parse().ok()
    }

    fn wait_value(&self, query: &str, value: f64) {
        wait_until(&format!("{query} = {value}"), || self.query(query) == Some(value));
    }

    /// Waits until this many more scrapes are stored.
    fn wait_scrapes(&self, more: f64) {
        let count = || self.query("sum(count_over_time(up[5m]))").unwrap_or(0.0);
        let start = count();
        wait_until("more scrapes", || count() >= start + more);
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Already ended is as good as killed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Appends message `n` of this uid as Postfix logs it: one recipient each that is sent, and one more that bounces.
fn append(log: &Path, uid: u32, n: u64, sent: usize) {
    let at = jiff::Timestamp::now();
    let id = format!("{:010X}", 0xA0_0000_0000 + n * 16);
    let mut lines = vec![
        format!("pickup[11]: {id}: uid={uid} from=<x>"),
        format!("cleanup[12]: {id}: message-id=<{id}@mx.test>"),
        format!("qmgr[13]: {id}: from=<x@mx.test>, size=400, nrcpt={} (queue active)", sent + 1),
    ];
    let ends = (0..sent).map(|_| ("2.0.0", "sent (250 2.0.0 Ok)"));
    for (r, (dsn, end)) in ends.chain([("5.1.1", "bounced (host said: 550 no)")]).enumerate() {
        lines.push(format!(
            "smtp[14]: {id}: to=<a{n}.{r}@example.test>, relay=mx.example.test[192.0.2.1]:25, delay=1, \
             delays=0/0/0.5/0.5, dsn={dsn}, status={end}"
        ));
    }
    lines.push(format!("qmgr[13]: {id}: removed"));
    let text: String = lines.iter().map(|line| format!("{at} mx postfix/{line}\n")).collect();
    File::options().append(true).open(log).unwrap().write_all(text.as_bytes()).unwrap();
}

/// Exit code 0 and not one remark.
fn promtool_check(page: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed");
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let out = promtool.wait_with_output().unwrap();
    let said = [out.stdout, out.stderr].map(|b| String::from_utf8_lossy(&b).into_owned()).concat();
    assert!(out.status.success() && said.trim().is_empty(), "promtool: {}\n{said}\n{page}", out.status);
}

#[test]
fn prometheus_stores_the_true_figures_and_sees_the_first_message_of_a_new_account() {
    let dir = tempfile::tempdir().unwrap();
    let (log, address) = (dir.path().join("mail.log"), free_address());
    File::create(&log).unwrap();
    let config = configure(dir.path(), &address, std::slice::from_ref(&log), "accounts: []\n");
    let agent = Agent::start(&config, &address);
    let prometheus = Prometheus::start(dir.path(), &address);

    let mut sent = 0;
    for n in 0..20 {
        let recipients = 1 + n as usize % 4;
        append(&log, 2001, n, recipients);
        sent += recipients;
    }
    prometheus.wait_value("sum(sendwarden_recipients_total{outcome=\"sent\"})", sent as f64);
    prometheus.wait_value("sendwarden_recipients_total{mta=\"postfix\",outcome=\"sent\"}", sent as f64);
    prometheus.wait_value("sendwarden_recipients_total{mta=\"postfix\",outcome=\"bounced\"}", 20.0);
    prometheus.wait_value("sum(sendwarden_account_messages_accepted_total{account=\"web1\"})", 20.0);
    prometheus.wait_value("sum(sendwarden_log_parse_failures_total) or vector(0)", 0.0);
    prometheus.wait_value("up", 1.0);

    // The first-sample trap: a series that appears with the value 1 has not increased, as far as Prometheus knows.
    prometheus.wait_scrapes(3.0);
    let accepted = "sendwarden_account_messages_accepted_total{account=\"web2\"}";
    assert_eq!(prometheus.query(accepted), None, "web2 must be new");
    append(&log, 2002, 20, 1);
    let began = Instant::now();
    let seen = wait_for("increase() to see the first message of web2", || {
        prometheus.query(&format!("sum(increase({accepted}[1m]))")).filter(|n| *n >= 1.0)
    });
    assert!(began.elapsed() <= Duration::from_secs(60), "increase() was {seen} only after {:?}", began.elapsed());
    prometheus.wait_value(&format!("sum({accepted})"), 1.0);
    prometheus.wait_value("sendwarden_recipients_total{mta=\"postfix\",outcome=\"sent\"}", sent as f64 + 1.0);

    promtool_check(&agent.metrics());
    agent.stop();
}

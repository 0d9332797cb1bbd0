//! A snapshot as OpenMetrics 1.0 text, through the `prometheus-client` crate.
//!
//! Holds no lock and keeps nothing; the crate escapes label values and writes `# EOF`.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::Format;
use super::accounts::{AccountView, ORIGINS, OUTCOMES, WindowGauge};
use super::delay::BOUNDS_MS;
use super::families::{Family, Kind};
use super::gate;
use super::state::Snapshot;
use super::text004::Text004;
use crate::mail::{Origin, Outcome, Time, text};

/// The whole exposition. Writing to memory cannot fail, so the text is always complete.
pub(super) fn exposition(snapshot: Snapshot, format: Format) -> String {
    let bytes = 16 * 1024 + snapshot.accounts.len() * 1024;
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    match format {
        Format::OpenMetrics100 => {
            let mut text = String::with_capacity(bytes);
            encode(&mut text, &registry).map_or_else(|fmt::Error| String::from("# EOF\n"), |()| text)
        }
        Format::Text004 => {
            let mut text = Text004::with_capacity(bytes);
            encode(&mut text, &registry).map_or_else(|fmt::Error| String::new(), |()| text.finish())
        }
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in Family::ALL {
            let about = family.about();
            let (stem, unit) = family.unit();
            let kind = match about.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let metric = encoder.encode_descriptor(stem, about.help, unit.as_ref(), kind)?;
            self.family(*family, Out { family: *family, metric })?;
        }
        Ok(())
    }
}

impl Snapshot {
    fn family(&self, family: Family, mut out: Out<'_>) -> fmt::Result {
        match family {
            Family::BuildInfo => out.gauge(&[&self.settings.revision, &self.settings.version], 1),
            Family::ConfigOk => out.gauge(&[], u64::from(self.config.0)),
            Family::ConfigTime => out.time(&[], self.config.1),
            Family::Backlog => self.sources.iter().try_for_each(|s| out.gauge(&[&s.name], s.backlog)),
            Family::BacklogFiles => self.sources.iter().try_for_each(|s| out.gauge(&[&s.name], s.backlog_files)),
            Family::SourceUp => self.sources.iter().try_for_each(|s| out.gauge(&[&s.name], u64::from(s.up))),
            Family::LastEvent => self.sources.iter().try_for_each(|s| out.time(&[&s.name], s.last_event)),
            Family::QueueMessages => self
                .queues
                .iter()
                .try_for_each(|q| out.gauge(&[q.server.name(), &text::clean(q.queue.as_bytes(), 64)], q.messages)),
            Family::QueueOldest => self
                .queues
                .iter()
                .try_for_each(|q| out.time(&[q.server.name(), &text::clean(q.queue.as_bytes(), 64)], q.oldest)),
            Family::QueueBytes => self
                .queues
                .iter()
                .try_for_each(|q| out.gauge(&[q.server.name(), &text::clean(q.queue.as_bytes(), 64)], q.bytes)),
            Family::Blocked => {
                self.hold.blocked.iter().try_for_each(|(state, cause, n)| out.gauge(&[state, cause], *n))
            }
            Family::HookQueue => self.hooks.iter().try_for_each(|(hook, n)| out.gauge(&[hook], *n)),
            Family::BlockBudget => out.gauge(&[], self.rules.budget),
            Family::IncidentsNow => {
                let known = self.rules.incidents.iter().filter(|(kind, _)| !kind.is_empty());
                known.clone().try_for_each(|(kind, n)| out.gauge(&[kind], *n))
            }
            Family::RulesArmed => out.gauge(&[], self.rules.armed),
            Family::Forced => out.gauge(&[], self.hold.forced),
            Family::Delayed => out.gauge(&[], self.hold.delayed),
            Family::HeldMessages => out.gauge(&[], self.hold.messages),
            Family::HeldBytes => out.gauge(&[], self.hold.bytes),
            Family::HeldOldest => out.time(&[], self.hold.oldest),
            Family::QueueScan => {
                self.queue_scans.iter().try_for_each(|(server, at)| out.time(&[server.name()], Some(*at)))
            }
            Family::AccountMessages => self.accounts.iter().try_for_each(|account| account_messages(&mut out, account)),
            Family::AccountRecipients => self.accounts.iter().try_for_each(|account| {
                let ends = account.counters.iter().skip(ORIGINS).take(OUTCOMES);
                Outcome::ALL.iter().zip(ends).try_for_each(|(end, n)| out.counter(&[&account.label, end.name()], *n))
            }),
            Family::AccountDeferrals => self.accounts.iter().try_for_each(|account| {
                out.counter(&[&account.label], account.counters.last().copied().unwrap_or_default())
            }),
            Family::AccountToday => self.accounts.iter().try_for_each(|a| out.gauge(&[&a.label], a.today)),
            Family::AccountQueued => self.accounts.iter().try_for_each(|a| out.gauge(&[&a.label], a.queued)),
            Family::AccountHeld => self.accounts.iter().try_for_each(|a| out.gauge(&[&a.label], a.held)),
            Family::AccountWindow => self.windows(&mut out, |window| window.value),
            Family::AccountWindowLimit => self.windows(&mut out, |window| window.limit),
            Family::AccountsKnown => out.gauge(&[], self.known as u64),
            Family::AccountsTracked => out.gauge(&[], self.tracked as u64),
            Family::AccountsLimit => out.gauge(&[], self.limit as u64),
            Family::Tracked => out.gauge(&[], self.tracked_messages),
            Family::FlagsWrong => self.flags_wrong.map_or(Ok(()), |wrong| out.gauge(&[], wrong)),
            Family::StoreUp => out.gauge(&[], u64::from(self.store_up)),
            Family::StoreSize => out.gauge(&[], self.store_size),
            Family::ProcessStart => out.metric.encode_gauge(&self.process.start_seconds),
            Family::ProcessRss => out.gauge(&[], self.process.resident_bytes),
            Family::ProcessCpu => out.metric.encode_counter::<NoLabelSet, _, f64>(&self.process.cpu_seconds, None),
            Family::Delay => {
                let bounds = BOUNDS_MS.map(|ms| ms as f64 / 1e3);
                self.histogram(family, &bounds, 1e3, &mut out)
            }
            Family::GateSeconds => {
                let bounds = gate::BOUNDS_US.map(|us| us as f64 / 1e6);
                self.histogram(family, &bounds, 1e6, &mut out)
            }
            // All other families are plain counters of the host.
            _ => self.lines.get(&family).into_iter().flatten().try_for_each(|line| {
                let labels: Vec<&str> = line.labels.iter().map(AsRef::as_ref).collect();
                out.counter(&labels, line.shown)
            }),
        }
    }

    fn windows(&self, out: &mut Out<'_>, of: impl Fn(&WindowGauge) -> f64) -> fmt::Result {
        self.accounts.iter().try_for_each(|account| {
            account.windows.iter().try_for_each(|window| {
                let value = of(window);
                out.labelled(&[&account.label, &window.rule], |metric| metric.encode_gauge(&value))
            })
        })
    }

    /// The lines of one histogram lie one after the other: its buckets, then the sum, of which `unit` make a second.
    fn histogram(&self, family: Family, bounds: &[f64], unit: f64, out: &mut Out<'_>) -> fmt::Result {
        let lines = self.lines.get(&family).map(Vec::as_slice).unwrap_or_default();
        let labels = family.about().labels.len();
        for one in lines.chunks(bounds.len() + 2) {
            let bounds = bounds.iter().copied().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(one.iter().map(|line| line.shown)).collect();
            let count = buckets.iter().map(|(_, n)| n).sum();
            let sum = one.last().map_or(0, |line| line.shown) as f64 / unit;
            let labels: Vec<&str> =
                one.first().into_iter().flat_map(|line| line.labels.iter().take(labels)).map(AsRef::as_ref).collect();
            out.labelled(&labels, |metric| metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None))?;
        }
        Ok(())
    }
}

/// Incoming and internal mail belong to no account: those two series appear only should they ever count something.
fn account_messages(out: &mut Out<'_>, account: &AccountView) -> fmt::Result {
    for (origin, n) in Origin::ALL.iter().zip(&account.counters) {
        if *n > 0 || !matches!(origin, Origin::Incoming | Origin::Internal) {
            out.counter(&[&account.label, origin.name()], *n)?;
        }
    }
    Ok(())
}

/// The encoder of one family, with its label names at hand.
struct Out<'a> {
    family: Family,
    metric: MetricEncoder<'a>,
}

impl Out<'_> {
    fn counter(&mut self, labels: &[&str], value: u64) -> fmt::Result {
        self.labelled(labels, |metric| metric.encode_counter::<NoLabelSet, _, f64>(&value, None))
    }

    /// Gauges are written as integers where they are: shorter, and exact.
    fn gauge(&mut self, labels: &[&str], value: u64) -> fmt::Result {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.labelled(labels, |metric| metric.encode_gauge(&value))
    }

    /// A point in time; no series while there is none.
    fn time(&mut self, labels: &[&str], at: Option<Time>) -> fmt::Result {
        match at {
            Some(at) => {
                let seconds = at.0 as f64 / 1e6;
                self.labelled(labels, |metric| metric.encode_gauge(&seconds))
            }
            None => Ok(()),
        }
    }

    fn labelled(&mut self, values: &[&str], write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result) -> fmt::Result {
        let names = self.family.about().labels;
        // Up to three labels, without an allocation: this runs for every series.
        match (names, values) {
            ([a], [x]) => write(&mut self.metric.encode_family(&[(*a, *x)])?),
            ([a, b], [x, y]) => write(&mut self.metric.encode_family(&[(*a, *x), (*b, *y)])?),
            ([a, b, c], [x, y, z]) => write(&mut self.metric.encode_family(&[(*a, *x), (*b, *y), (*c, *z)])?),
            _ => write(&mut self.metric),
        }
    }
}

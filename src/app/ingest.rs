//! Lines: bytes → events → facts. Shared by the pump, `replay`, `check` and `demo`.

use crate::engine::attribution::{User, Wanted};
use crate::engine::{Engine, Sink};
use crate::host::names::Names;
use crate::mail::{Accepted, Event, Kind, Ruling, Submitter, Thrown, Time};
use crate::mta::{Mta, Read, WHY_CHUNKS};
use std::collections::BTreeMap;

/// What lines turned out to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LineCounts {
    pub total: u64,
    pub events: u64,
    /// Understood and of no interest, or of another program.
    pub noise: u64,
    pub unknown: u64,
}

impl LineCounts {
    /// Counts a line that said something. False when another source has it.
    #[inline]
    fn event(&mut self, event: &Event<'_>, until: Time, newest: &mut Time) -> bool {
        self.total += 1;
        if event.head.at > until {
            self.noise += 1;
            return false;
        }
        self.events += 1;
        *newest = event.head.at.max(*newest);
        true
    }

    fn without_event(&mut self, unknown: &mut UnknownLines, line: &[u8], read: &Read<'_>) {
        self.total += 1;
        match read {
            Read::Unknown(why) => {
                self.unknown += 1;
                unknown.add(why.daemon, why.why, 1);
                unknown.show(line);
            }
            Read::Event(_) | Read::Noise | Read::Foreign | Read::Pending => self.noise += 1,
        }
    }
}

/// Asks the name service for who is named for the first time.
#[inline]
fn learn(event: &Event<'_>, engine: &mut Engine, names: &mut impl FnMut(Wanted<'_>) -> Option<User>) {
    match event.kind {
        Kind::Submitted { uid, requeued_from: None, .. } if !engine.attribution.knows_user(uid) => {
            engine.attribution.learn_user(uid, names(Wanted::Uid(uid)));
        }
        Kind::Accepted(Accepted { by: Submitter::User(login), .. })
        | Kind::Gated {
            ruling:
                Ruling::TooMany(Submitter::User(login)) | Ruling::Discarded(Thrown { by: Submitter::User(login), .. }),
            ..
        } if !engine.attribution.knows_login(login) => {
            engine.attribution.learn_login(login, names(Wanted::Login(login)));
        }
        _ => {}
    }
}

/// Lines that were not understood: how many by daemon and reason, and a few of them.
#[derive(Debug, Default)]
pub struct UnknownLines {
    pub by: BTreeMap<(String, &'static str), u64>,
    pub samples: Vec<String>,
}

/// Most daemons told apart; names come from the log.
const MAX_DAEMONS: usize = 64;
const MAX_SAMPLES: usize = 10;

impl UnknownLines {
    /// Hands the numbers out and starts from zero; samples stay.
    pub fn take(&mut self) -> BTreeMap<(String, &'static str), u64> {
        std::mem::take(&mut self.by)
    }

    fn add(&mut self, daemon: &[u8], why: &'static str, n: u64) {
        let daemon = crate::mail::text::clean(daemon, 32);
        let known = self.by.contains_key(&(daemon.clone(), why)) || self.by.len() < MAX_DAEMONS;
        let daemon = if known { daemon } else { "other".to_owned() };
        *self.by.entry((daemon, why)).or_default() += n;
    }

    fn show(&mut self, line: &[u8]) {
        if self.samples.len() < MAX_SAMPLES {
            self.samples.push(crate::mail::text::clean(line, 300));
        }
    }
}

/// What the name service says of a user, in the engine's words.
pub fn user(names: &mut Names, wanted: Wanted<'_>) -> Option<User> {
    let user = match wanted {
        Wanted::Uid(uid) => names.user(uid),
        Wanted::Login(login) => names.user_named(login),
    }?;
    Some(User { uid: user.uid, login: user.login, home: user.home.display().to_string() })
}

/// Reads lines into an engine.
pub struct Ingest<M> {
    pub mta: M,
    pub counts: LineCounts,
    pub unknown: UnknownLines,
    /// Log time of the newest event of this source.
    pub newest: Time,
    /// What was written later comes from another source, and is passed over here.
    pub until: Time,
}

impl<M: Mta> Ingest<M> {
    pub fn new(mta: M) -> Ingest<M> {
        let (counts, unknown) = (LineCounts::default(), UnknownLines::default());
        Ingest { mta, counts, unknown, newest: Time::ZERO, until: Time(i64::MAX) }
    }

    /// Reads lines that were read from the source at once: first all of them, then what they say is taken in. So each of
    /// the two finds its code in the processor's cache. `names`: see `line`.
    pub fn lines<S: Sink>(
        &mut self,
        lines: &[&[u8]],
        engine: &mut Engine,
        names: &mut impl FnMut(Wanted<'_>) -> Option<User>,
        sink: &mut S,
    ) {
        let mut events = Vec::with_capacity(lines.len());
        for line in lines {
            match self.mta.read_alone(line) {
                Some(Read::Event(event)) => events.push(event),
                Some(read) => self.counts.without_event(&mut self.unknown, line, &read),
                None => {
                    self.take_in(&events, engine, names, sink);
                    events.clear();
                    self.line(line, engine, names, sink);
                }
            }
        }
        self.take_in(&events, engine, names, sink);
    }

    fn take_in<S: Sink>(
        &mut self,
        events: &[Event<'_>],
        engine: &mut Engine,
        names: &mut impl FnMut(Wanted<'_>) -> Option<User>,
        sink: &mut S,
    ) {
        if events.len() > 1 {
            engine.fetch(events);
        }
        for event in events {
            if self.counts.event(event, self.until, &mut self.newest) {
                learn(event, engine, names);
                engine.observe(event, sink);
            }
        }
    }

    /// One line, whatever it needs of lines before. `names` answers what the name service says of a uid or login name; it
    /// is asked once for each.
    pub fn line<S: Sink>(
        &mut self,
        line: &[u8],
        engine: &mut Engine,
        names: &mut impl FnMut(Wanted<'_>) -> Option<User>,
        sink: &mut S,
    ) {
        match &self.mta.read(line) {
            Read::Event(event) => {
                if self.counts.event(event, self.until, &mut self.newest) {
                    learn(event, engine, names);
                    engine.observe(event, sink);
                }
            }
            read => self.counts.without_event(&mut self.unknown, line, read),
        }
    }

    /// Counts what came in parts and will not come whole: those lines were taken for parts of something so far. To be
    /// called when a batch has been read.
    pub fn settle(&mut self) {
        let lost = self.mta.take_lost();
        if lost > 0 {
            self.counts.noise = self.counts.noise.saturating_sub(lost);
            self.counts.unknown += lost;
            self.unknown.add(b"", WHY_CHUNKS, lost);
        }
    }

    /// There will be no more lines.
    pub fn finish(&mut self) {
        self.mta.finish();
        self.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::directory::Directory;
    use crate::engine::replies::Replies;
    use crate::engine::tracker::Settings;
    use crate::mta::any::Any;
    use crate::mta::exim::Exim;
    use crate::mta::syslog::Stamps;

    #[test]
    fn the_name_service_is_asked_once_for_each_user() {
        let mut engine = Engine::new(Settings::default(), Directory::default(), Replies::default(), 7);
        let stamps = Stamps { zone: jiff::tz::TimeZone::UTC, reference: Time::from_secs(1_795_500_000) };
        let mut ingest = Ingest::new(Exim::new(stamps));
        let mut asked = Vec::new();
        for n in 0..30 {
            let line = format!("2026-11-23 10:35:42 1xVR{n:02}-0001BH-2c <= w@l.test U=web{} P=local S=9", n % 3);
            let mut names = |wanted: Wanted<'_>| {
                asked.push(format!("{wanted:?}"));
                None
            };
            ingest.line(line.as_bytes(), &mut engine, &mut names, &mut ());
        }
        assert_eq!(asked.len(), 3, "{asked:?}");
        assert_eq!(engine.ledger.total().messages, 30);
    }

    #[test]
    fn what_another_source_has_is_passed_over() {
        let mut engine = Engine::new(Settings::default(), Directory::default(), Replies::default(), 7);
        let until = Time::from_secs(1_795_430_142);
        let stamps = Stamps { zone: jiff::tz::TimeZone::UTC, reference: until };
        let mut ingest = Ingest { until, ..Ingest::new(Exim::new(stamps)) };
        for second in 40..45 {
            let line = format!("2026-11-23 10:35:{second} 1xVR{second}-0001BH-2c <= w@l.test U=web1 P=local S=9");
            ingest.line(line.as_bytes(), &mut engine, &mut |_: Wanted<'_>| None, &mut ());
        }
        assert_eq!((engine.ledger.total().messages, ingest.counts.noise, ingest.newest), (3, 2, until));
    }

    /// What the engine concludes, in its order.
    #[derive(Default)]
    struct Facts(Vec<String>);

    impl Sink for Facts {
        fn fact(&mut self, fact: &crate::mail::Fact<'_>) {
            self.0.push(format!("{fact:?}"));
        }
    }

    #[test]
    fn lines_that_are_read_together_give_what_they_give_one_by_one() {
        let mut log = Vec::new();
        for n in 10..40 {
            let id = format!("1xVR{n}-0001BH-2c");
            log.push(format!("2026-11-23 10:35:42 {id} <= w@l.test U=web1 P=local S=9 for x@y.test"));
            // What syslog may cut cannot be read alone.
            log.push(format!("Nov 23 10:35:42 mx exim[7]: {id} == x@y.test R=r T=t defer (111): no"));
            log.push(format!("Nov 23 10:35:43 mx exim[7]: [1/2] {id} => x@y.test R=r T=t H=m [192.0.2.1]"));
            log.push("Nov 23 10:35:43 mx exim[7]: [2/2]  C=\"250 ok\"".to_owned());
            log.push(format!("2026-11-23 10:35:43 {id} Completed"));
            log.push("goes on".to_owned());
        }
        let stamps = Stamps { zone: jiff::tz::TimeZone::UTC, reference: Time::from_secs(1_795_500_000) };
        let of = |most: usize| {
            let mut engine = Engine::new(Settings::default(), Directory::default(), Replies::default(), 7);
            let mut ingest = Ingest::new(Any::new(stamps.clone(), None));
            let mut facts = Facts::default();
            let lines: Vec<&[u8]> = log.iter().map(|line| line.as_bytes()).collect();
            for group in lines.chunks(most) {
                ingest.lines(group, &mut engine, &mut |_: Wanted<'_>| None, &mut facts);
            }
            assert_eq!((engine.ledger.total().sent, engine.ledger.total().deferred), (30, 30));
            (facts.0, ingest.counts, ingest.unknown.samples.len(), ingest.newest)
        };
        let one_by_one = of(1);
        assert_eq!(one_by_one.1, LineCounts { total: 180, events: 120, noise: 60, unknown: 0 });
        for most in [2, 3, 7, 32, 1_000] {
            assert_eq!(of(most), one_by_one, "{most} at once");
        }
    }
}

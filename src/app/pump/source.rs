//! One source of lines with its dialect and its figures.

use super::input::{Input, News, Turn};
use super::projection::Projection;
use crate::app::dialect::Dialect;
use crate::app::ingest::{self, Ingest};
use crate::app::setup::{Format, LogSource};
use crate::app::shared::SourceState;
use crate::engine::Engine;
use crate::engine::attribution::Wanted;
use crate::host::clock;
use crate::host::follow::wake;
use crate::host::names::Names;
use crate::mail::Time;
use crate::metrics::{SourceGauge, SourceId, Tally};
use crate::mta::Mta;
use std::path::Path;
use std::time::Duration;

pub struct Source {
    log: LogSource,
    name: String,
    id: SourceId,
    input: Input,
    ingest: Ingest<Dialect>,
    trouble: Option<String>,
    /// Something besides lines happened since the last commit: it is shown with the next one.
    told: bool,
    /// What was committed last: nothing is written when nothing moved.
    written: Vec<u8>,
}

/// What the store kept of a source.
#[derive(Debug, Default)]
pub struct KeptSource {
    pub position: Option<Vec<u8>>,
    pub dialect: Option<Vec<u8>>,
}

impl Source {
    /// `past`: how far back rotated files are read when the log is followed for the first time; `None`: all of them.
    pub fn new(
        log: LogSource,
        id: SourceId,
        max_line: usize,
        past: Option<Duration>,
        kept: KeptSource,
        waker: &wake::Handle,
    ) -> Source {
        let mut mta = Dialect::of(&log, clock::now());
        if let Some(dialect) = &kept.dialect {
            mta.restore(dialect);
        }
        let input = Input::open(&log.input, max_line, past, kept.position.as_deref(), waker);
        let (mut ingest, written) = (Ingest::new(mta), kept.position.unwrap_or_default());
        ingest.until = log.until.unwrap_or(Time(i64::MAX));
        Source { name: log.input.to_string(), log, id, input, ingest, trouble: None, told: false, written }
    }

    /// Its lines tell of scripts, not of messages.
    pub fn is_interpreters(&self) -> bool {
        self.log.format == Format::Php
    }

    /// The file that is followed, if it is one.
    pub fn path(&self) -> Option<&Path> {
        self.log.path()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// See [`Input::close`].
    pub fn close(&mut self) -> bool {
        self.input.close()
    }

    /// Reads up to `budget` bytes of lines into the engine.
    pub fn read(&mut self, budget: usize, engine: &mut Engine, names: &mut Names, sink: &mut Projection<'_>) -> Turn {
        let Source { input, ingest, .. } = self;
        let mut lookup = |wanted: Wanted<'_>| ingest::user(names, wanted);
        let unknown = ingest.counts.unknown;
        let read = input.read(budget, &mut |lines| ingest.lines(lines, engine, &mut lookup, sink));
        ingest.settle();
        if ingest.counts.unknown > unknown {
            for ((daemon, why), n) in ingest.unknown.take() {
                for _ in 0..n {
                    sink.tally.unknown(self.id, why, daemon.as_bytes());
                }
            }
        }
        let turn = read.unwrap_or_else(|why| {
            self.complain(why);
            Turn::default()
        });
        sink.tally.lines(self.id, turn.lines);
        self.take_news(sink.tally);
        turn
    }

    fn take_news(&mut self, tally: &mut Tally) {
        for news in self.input.take_news(&self.name) {
            self.told |= !matches!(news, News::Reference(_) | News::Said(_));
            match news {
                News::Reference(at) => self.ingest.mta.set_reference(at),
                News::Well => self.trouble = None,
                News::Said(what) => tracing::info!("{what}"),
                News::Trouble(why) => self.complain(why),
                News::Lost { n, reason, said } => {
                    tally.lost(self.id, reason, n);
                    tracing::warn!("{said}");
                }
                News::Cut(n) => tally.cut(self.id, n),
                News::Restarted => tally.restarted(self.id),
            }
        }
    }

    fn complain(&mut self, why: String) {
        if self.trouble.as_ref() != Some(&why) {
            tracing::warn!("{why}");
        }
        self.trouble = Some(why);
    }

    /// There is something to commit besides lines.
    pub fn moved(&self) -> bool {
        self.told || self.input.position() != self.written
    }

    /// Position and dialect state, for the batch.
    pub fn save(&self) -> (Vec<u8>, Vec<u8>) {
        (self.input.position(), self.ingest.mta.save())
    }

    pub fn committed(&mut self) {
        self.told = false;
        self.written = self.input.position();
    }

    pub fn gauge(&self) -> SourceGauge {
        SourceGauge {
            source: self.id,
            up: self.trouble.is_none(),
            backlog_bytes: self.input.backlog_bytes(),
            backlog_files: self.input.backlog_files(),
            last_event: self.newest(),
        }
    }

    pub fn state(&self) -> SourceState {
        SourceState {
            name: self.name.clone(),
            lines: self.ingest.counts.total,
            backlog_bytes: self.input.backlog_bytes(),
            backlog_files: self.input.backlog_files(),
            reading: self.input.reading(),
            last_event: self.newest(),
            trouble: self.trouble.clone(),
        }
    }

    fn newest(&self) -> Option<Time> {
        Some(self.ingest.newest).filter(|at| *at != Time::ZERO)
    }
}

//! One followed log with its dialect and its figures.

use super::projection::Projection;
use crate::app::dialect::Dialect;
use crate::app::ingest::Ingest;
use crate::app::setup::{Format, LogSource};
use crate::app::shared::SourceState;
use crate::engine::Engine;
use crate::engine::attribution::User;
use crate::host::clock;
use crate::host::follow::{FollowEvent, Follower, Position, Settings};
use crate::host::names::Names;
use crate::mail::Time;
use crate::metrics::{SourceGauge, SourceId, Tally};
use crate::mta::Mta;
use std::path::Path;

pub struct Source {
    log: LogSource,
    id: SourceId,
    follower: Follower,
    ingest: Ingest<Dialect>,
    trouble: Option<String>,
    /// What was committed last: nothing is written when nothing moved.
    written: Vec<u8>,
}

/// What the name service says of a uid, in the engine's words.
pub fn user(names: &mut Names, uid: u32) -> Option<User> {
    names.user(uid).map(|user| User { login: user.login, home: user.home.display().to_string() })
}

/// What one turn of reading brought.
#[derive(Debug, Clone, Copy, Default)]
pub struct Turn {
    pub lines: u64,
    pub more: bool,
}

impl Source {
    pub fn new(
        log: LogSource,
        id: SourceId,
        max_line: usize,
        position: Option<Vec<u8>>,
        dialect: Option<Vec<u8>>,
    ) -> Source {
        let mut mta = Dialect::of(&log, clock::now());
        if let Some(dialect) = &dialect {
            mta.restore(dialect);
        }
        let saved = position.as_deref().and_then(Position::from_bytes);
        let settings = Settings { max_line, ..Settings::new(&log.path) };
        let follower = Follower::new(settings, saved);
        Source { log, id, follower, ingest: Ingest::new(mta), trouble: None, written: position.unwrap_or_default() }
    }

    /// Its lines tell of scripts, not of messages.
    pub fn is_interpreters(&self) -> bool {
        self.log.format == Format::Php
    }

    pub fn path(&self) -> &Path {
        &self.log.path
    }

    pub fn name(&self) -> String {
        self.log.path.display().to_string()
    }

    /// Reads up to `budget` bytes of lines into the engine.
    pub fn read(&mut self, budget: usize, engine: &mut Engine, names: &mut Names, sink: &mut Projection<'_>) -> Turn {
        let Source { follower, ingest, .. } = self;
        let mut lookup = |uid: u32| user(names, uid);
        let unknown = ingest.counts.unknown;
        let read = follower.read(budget, &mut |line| ingest.line(line, engine, &mut lookup, sink));
        if ingest.counts.unknown > unknown {
            for ((daemon, why), n) in ingest.unknown.take() {
                for _ in 0..n {
                    sink.tally.unknown(self.id, why, daemon.as_bytes());
                }
            }
        }
        let turn = match read {
            Ok(progress) => {
                sink.tally.lines(self.id, progress.lines);
                Turn { lines: progress.lines, more: progress.more }
            }
            Err(why) => {
                self.complain(why.to_string());
                Turn::default()
            }
        };
        self.take_events(sink.tally);
        turn
    }

    fn take_events(&mut self, tally: &mut Tally) {
        for event in self.follower.take_events() {
            match event {
                FollowEvent::Entered { path, offset } => {
                    if let Some(reference) = self.follower.reference_time() {
                        self.ingest.mta.set_reference(reference);
                    }
                    tracing::info!("reading {} from byte {offset}", path.display());
                    self.trouble = None;
                }
                FollowEvent::Rotated => tracing::info!("{} was rotated", self.name()),
                FollowEvent::Truncated => tracing::info!("{} was truncated or rewritten", self.name()),
                FollowEvent::Disappeared => self.complain(format!("{} is not there; waiting for it", self.name())),
                FollowEvent::LinesLost { reason, bytes } => {
                    tally.lost(self.id, reason, 1);
                    let much = if bytes > 0 { format!("at least {bytes} bytes, ") } else { String::new() };
                    tracing::warn!("{}: lines were lost ({much}{reason}): they are not counted", self.name());
                }
                FollowEvent::LineCut { count } => tally.cut(self.id, count),
                FollowEvent::Unreadable { why } => self.complain(why),
                FollowEvent::IsDirectory => self.complain(format!("{} is a directory, not a log", self.name())),
            }
        }
    }

    fn complain(&mut self, why: String) {
        if self.trouble.as_ref() != Some(&why) {
            tracing::warn!("{why}");
        }
        self.trouble = Some(why);
    }

    /// The position has moved since the last commit.
    pub fn moved(&self) -> bool {
        self.follower.position().to_bytes() != self.written
    }

    /// Position and dialect state, for the batch.
    pub fn save(&self) -> (Vec<u8>, Vec<u8>) {
        (self.follower.position().to_bytes(), self.ingest.mta.save())
    }

    pub fn committed(&mut self) {
        self.written = self.follower.position().to_bytes();
    }

    pub fn gauge(&self) -> SourceGauge {
        SourceGauge { source: self.id, backlog_bytes: self.follower.backlog_bytes(), last_event: self.newest() }
    }

    pub fn state(&self) -> SourceState {
        SourceState {
            name: self.name(),
            lines: self.ingest.counts.total,
            backlog_bytes: self.follower.backlog_bytes(),
            last_event: self.newest(),
            trouble: self.trouble.clone(),
        }
    }

    fn newest(&self) -> Option<Time> {
        Some(self.ingest.newest).filter(|at| *at != Time::ZERO)
    }
}

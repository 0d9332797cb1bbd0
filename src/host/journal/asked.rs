//! Asks a second, short-lived journalctl for one entry: what the first one cannot tell, above all whether it is merely
//! silent. A thread of its own, since the answer may never come.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use super::export::{Export, Field};
use super::line;
use crate::host::exec;
use crate::mail::Time;

/// It answers within milliseconds, or something is badly wrong.
const LIMIT: Duration = Duration::from_secs(5);

/// One entry that was found: its cursor, and when it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub cursor: Vec<u8>,
    pub time: Time,
}

/// The entry, `None` where there is none; or why there is no answer.
pub type Answer = Result<Option<Found>, String>;

/// The thread that asks.
#[derive(Debug)]
pub struct Asker {
    ask: SyncSender<Vec<String>>,
    answers: Receiver<Answer>,
    asked: bool,
}

impl Asker {
    pub fn new(ring: impl Fn() + Send + 'static) -> std::io::Result<Asker> {
        let (ask, asked) = sync_channel::<Vec<String>>(1);
        let (give, answers) = sync_channel(1);
        thread::Builder::new().name("journal".into()).spawn(move || {
            while let Ok(argv) = asked.recv() {
                if give.send(entry(argv)).is_err() {
                    return;
                }
                ring();
            }
        })?;
        Ok(Asker { ask, answers, asked: false })
    }

    /// Asks for the one entry that a journalctl with these arguments shows, unless an answer is awaited.
    pub fn ask(&mut self, argv: Vec<String>) -> bool {
        let asks = !self.asked && self.ask.try_send(argv).is_ok();
        self.asked |= asks;
        asks
    }

    pub fn answer(&mut self) -> Option<Answer> {
        let answer = match self.answers.try_recv() {
            Ok(answer) => answer,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err("the thread that asks journalctl has ended".to_owned()),
        };
        self.asked = false;
        Some(answer)
    }
}

/// The newest entry that a journalctl with these arguments shows.
pub fn entry(mut argv: Vec<String>) -> Answer {
    argv.extend(["--quiet", "--lines=1", "--output-fields=_BOOT_ID"].map(str::to_owned));
    let output = exec::run(&argv, b"", LIMIT).map_err(|why| why.to_string())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(format!("journalctl ended with {}: {said}", output.status));
    }
    let mut found = None;
    let read = Export::new(0).feed(&output.stdout, &mut |entry| {
        found = entry
            .get(Field::Cursor)
            .map(|cursor| Found { cursor: cursor.to_vec(), time: line::time(entry).unwrap_or_default() });
    });
    read.map_err(|why| format!("journalctl does not write the export format: {why}"))?;
    Ok(found)
}

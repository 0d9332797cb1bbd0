//! Asks a second, short-lived journalctl what the newest entry is: the only way to know that the first one is not
//! merely silent. A thread of its own, since the answer may never come.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use super::export::{Export, Field};
use crate::host::exec;

/// It answers within milliseconds, or something is badly wrong.
const LIMIT: Duration = Duration::from_secs(5);

/// The cursor of the newest entry, `None` in an empty journal; or why there is no answer.
pub type Answer = Result<Option<Vec<u8>>, String>;

/// The thread that asks.
#[derive(Debug)]
pub struct Newest {
    ask: SyncSender<()>,
    answers: Receiver<Answer>,
    asked: bool,
}

impl Newest {
    pub fn new(argv: Vec<String>, ring: impl Fn() + Send + 'static) -> std::io::Result<Newest> {
        let (ask, asked) = sync_channel::<()>(1);
        let (give, answers) = sync_channel(1);
        thread::Builder::new().name("journal".into()).spawn(move || {
            while asked.recv().is_ok() {
                if give.send(newest(&argv)).is_err() {
                    return;
                }
                ring();
            }
        })?;
        Ok(Newest { ask, answers, asked: false })
    }

    /// Asks, unless an answer is awaited.
    pub fn ask(&mut self) -> bool {
        let asks = !self.asked && self.ask.try_send(()).is_ok();
        self.asked |= asks;
        asks
    }

    pub fn answer(&mut self) -> Option<Answer> {
        let answer = match self.answers.try_recv() {
            Ok(answer) => answer,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err("the thread that asks for the newest entry has ended".to_owned()),
        };
        self.asked = false;
        Some(answer)
    }
}

fn newest(argv: &[String]) -> Answer {
    let output = exec::run(argv, b"", LIMIT).map_err(|why| why.to_string())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(format!("journalctl ended with {}: {said}", output.status));
    }
    let mut cursor = None;
    let read = Export::new(0).feed(&output.stdout, &mut |entry| cursor = entry.get(Field::Cursor).map(<[u8]>::to_vec));
    read.map_err(|why| format!("journalctl does not write the export format: {why}"))?;
    Ok(cursor)
}

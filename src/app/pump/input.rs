//! Where the lines of a source come from, in one vocabulary: a file that is followed, the systemd journal, a socket of
//! ours.
//!
//! Each kind lives in `host` and has its own words for what happens to it; here they become [`News`]. It reads no
//! line and counts nothing.

use crate::app::numbers::counted;
use crate::app::setup::LogInput;
use crate::host::clock;
use crate::host::follow::{FollowEvent, Follower, Position, Settings, wake};
use crate::host::journal::{Journal, JournalEvent};
use crate::host::socket::{Socket, SocketEvent};
use crate::mail::Time;
use std::time::Duration;

pub enum Input {
    File(Box<Follower>),
    Journal(Box<Journal>),
    Socket(Box<Socket>),
}

/// What one turn of reading brought.
#[derive(Debug, Clone, Copy, Default)]
pub struct Turn {
    pub lines: u64,
    /// There is more to read at once.
    pub more: bool,
    /// Not all was read, although there is nothing to read at once.
    pub behind: bool,
}

/// What happened to an input besides lines.
pub enum News {
    /// Stamps without a year refer to this time from the next line on.
    Reference(Time),
    /// It works, at the start or again.
    Well,
    Said(String),
    /// It does not work, and why; until it is well.
    Trouble(String),
    /// `n` lines, or gaps of unknown size, are missed for good.
    Lost {
        n: u64,
        reason: &'static str,
        said: String,
    },
    /// Lines that were given out cut.
    Cut(u64),
    /// What delivers the lines was started again.
    Restarted,
}

impl Input {
    pub fn open(
        from: &LogInput,
        max_line: usize,
        past: Option<Duration>,
        position: Option<&[u8]>,
        waker: &wake::Handle,
    ) -> Input {
        match from {
            LogInput::File(path) => {
                let saved = position.and_then(Position::from_bytes);
                let past_since = match past {
                    Some(Duration::ZERO) => Time(i64::MAX),
                    _ => ago(past),
                };
                let settings = Settings { max_line, past_since, stop: waker.stopping().clone(), ..Settings::new(path) };
                Input::File(Box::new(Follower::new(settings, saved)))
            }
            LogInput::Journal(settings) => {
                Input::Journal(Box::new(Journal::new(settings.clone(), max_line, ago(past), position, waker.clone())))
            }
            LogInput::Socket(address) => Input::Socket(Box::new(Socket::new(address.clone(), max_line, waker.clone()))),
        }
    }

    /// Reads about `budget` bytes, and gives out their lines in groups. The error says what is wrong; it is tried again
    /// with the next turn.
    pub fn read(&mut self, budget: usize, on_lines: &mut dyn FnMut(&[&[u8]])) -> Result<Turn, String> {
        let mut on_line = |line: &[u8]| on_lines(&[line]);
        match self {
            Input::File(follower) => match follower.read(budget, on_lines) {
                Ok(read) => Ok(Turn { lines: read.lines, more: read.more, behind: false }),
                Err(why) => Err(why.to_string()),
            },
            Input::Journal(journal) => {
                let read = journal.read(budget, &mut on_line);
                Ok(Turn { lines: read.lines, more: read.more, behind: read.behind })
            }
            Input::Socket(socket) => {
                let read = socket.read(budget, &mut on_line);
                Ok(Turn { lines: read.lines, more: read.more, behind: false })
            }
        }
    }

    /// What happened since the last call.
    pub fn take_news(&mut self, name: &str) -> Vec<News> {
        match self {
            Input::File(follower) => {
                let events = follower.take_events();
                events.into_iter().flat_map(|event| of_file(event, name, follower)).collect()
            }
            Input::Journal(journal) => journal.take_events().into_iter().map(|event| of_journal(event, name)).collect(),
            Input::Socket(socket) => {
                let mut news: Vec<News> =
                    socket.take_events().into_iter().map(|event| of_socket(event, name)).collect();
                // What comes over a socket was written just now.
                news.push(News::Reference(clock::now()));
                news
            }
        }
    }

    /// Where to go on after a restart; empty where there is no such place.
    pub fn position(&self) -> Vec<u8> {
        match self {
            Input::File(follower) => follower.position().to_bytes(),
            Input::Journal(journal) => journal.position(),
            Input::Socket(_) => Vec::new(),
        }
    }

    /// Takes nothing more in, where what was taken in cannot be read again; whether that is so.
    pub fn close(&mut self) -> bool {
        match self {
            Input::File(_) | Input::Journal(_) => false,
            Input::Socket(socket) => {
                socket.close();
                true
            }
        }
    }

    pub fn backlog_bytes(&self) -> u64 {
        match self {
            Input::File(follower) => follower.backlog_bytes(),
            // journalctl does not say how much there is: whether it is all is known (`behind`), not how much is missing.
            Input::Journal(_) => 0,
            Input::Socket(socket) => socket.backlog_bytes(),
        }
    }

    /// Files still to be read after the one being read.
    pub fn backlog_files(&self) -> u64 {
        match self {
            Input::File(follower) => follower.waiting().files,
            Input::Journal(_) | Input::Socket(_) => 0,
        }
    }

    /// The file being read: a rotated one, for a while.
    pub fn reading(&self) -> Option<String> {
        match self {
            Input::File(follower) => follower.reading().map(|path| path.display().to_string()),
            Input::Journal(_) | Input::Socket(_) => None,
        }
    }
}

/// As long ago as `past`; without end where it is `None`.
fn ago(past: Option<Duration>) -> Time {
    past.map_or(Time(i64::MIN), |past| clock::now().plus_secs(-i64::try_from(past.as_secs()).unwrap_or(i64::MAX)))
}

fn of_file(event: FollowEvent, name: &str, follower: &Follower) -> Vec<News> {
    vec![match event {
        FollowEvent::Entered { path, offset } => {
            let mut news: Vec<News> = follower.reference_time().map(News::Reference).into_iter().collect();
            let waiting = follower.waiting();
            let more = match waiting.files {
                0 => String::new(),
                files => format!(
                    "; {} with {} after it",
                    counted(files, "more file", "more files"),
                    counted(waiting.bytes, "byte", "bytes")
                ),
            };
            news.push(News::Said(format!("reading {} from byte {offset}{more}", path.display())));
            news.push(News::Well);
            return news;
        }
        FollowEvent::Rotated => News::Said(format!("{name} was rotated")),
        FollowEvent::Finished { path } => News::Said(format!("{} is read to its end", path.display())),
        FollowEvent::Recovered => News::Well,
        FollowEvent::Truncated => News::Said(format!("{name} was truncated or rewritten")),
        FollowEvent::Disappeared => News::Trouble(format!("{name} is not there; waiting for it")),
        FollowEvent::LinesLost { path, reason, bytes } => {
            // A rotated one is not the log that is written now.
            let of = match path.display().to_string() {
                path if path == name => path,
                path => format!("{path}, of {name}"),
            };
            let much = match bytes {
                0 => String::new(),
                bytes => format!("at least {}, ", counted(bytes, "byte", "bytes")),
            };
            let said = format!("{of}: lines were lost ({much}{reason}): they are not counted");
            News::Lost { n: 1, reason, said }
        }
        FollowEvent::LineCut { count } => News::Cut(count),
        FollowEvent::Unreadable { why } => News::Trouble(why),
        FollowEvent::IsDirectory => News::Trouble(format!("{name} is a directory, not a log")),
    }]
}

/// Reasons for lost lines: they are metric labels.
const BUFFER: &str = "the receive buffer was full";
const KERNEL: &str = "the kernel's receive buffer was full";
const VACUUMED: &str = "the journal was vacuumed before it was read";

fn of_journal(event: JournalEvent, name: &str) -> News {
    match event {
        JournalEvent::Well => News::Well,
        JournalEvent::Trouble { why } => News::Trouble(format!("{name}: {why}")),
        JournalEvent::Restarted => News::Restarted,
        JournalEvent::Gap { entries, after, before } => {
            let many = |n| format!("{} of all programs", counted(n, "entry", "entries"));
            let much = entries.map_or("an unknown number of entries".to_owned(), many);
            let (after, before) = (shown(after), shown(before));
            let said = format!("{name}: lost and not counted: {much} between {after} and {before} ({VACUUMED})");
            News::Lost { n: entries.unwrap_or(1), reason: VACUUMED, said }
        }
        JournalEvent::Cut { messages } => News::Cut(messages),
    }
}

fn shown(at: Time) -> String {
    jiff::Timestamp::from_microsecond(at.0).map_or_else(|_| "?".to_owned(), |at| format!("{at:.0}"))
}

fn of_socket(event: SocketEvent, name: &str) -> News {
    let lost = |n: u64, reason: &'static str| {
        let were = if n == 1 { "line was" } else { "lines were" };
        let said = format!("{name}: {n} {were} lost ({reason}) and will not be counted");
        News::Lost { n, reason, said }
    };
    match event {
        SocketEvent::Listening => News::Well,
        SocketEvent::Deaf { why } => News::Trouble(why),
        SocketEvent::Overflowed { lines } => lost(lines, BUFFER),
        SocketEvent::Dropped { datagrams } => lost(datagrams, KERNEL),
        SocketEvent::Cut { lines } => News::Cut(lines),
    }
}

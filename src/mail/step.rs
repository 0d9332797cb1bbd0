//! Steps: one thing done on the machine, as data. A dialect makes them, `host` does them; a test compares their text.
//!
//! Nothing in here does anything.

use super::{Place, QueueId};
use std::fmt;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Start a program without a shell, and read what it says of each queue id.
    Run(Run),
    /// Start a program without a shell and let it run: deliveries may take long. What comes of it is in the log.
    Start { argv: Vec<String> },
    /// These files, wherever they are below a directory, are due now: their time of change says when they are tried
    /// next. Those that are not there need nothing.
    Due { directory: String, places: Vec<Place> },
    /// Wake a service of the server: one byte to its socket or pipe.
    Ring { path: String, byte: u8 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Where ids are arguments, without them.
    pub argv: Vec<String>,
    pub places: Vec<Place>,
    pub talk: Talk,
    /// What the program says of a queue id for which it has done it.
    pub says: &'static str,
    /// How often it is tried for those of which it said nothing, the first time included.
    pub tries: u32,
    /// Milliseconds between the tries.
    pub pause_ms: u64,
    /// How many of it run at the same time, each with a share.
    pub lanes: usize,
}

/// How a program is told queue ids, and where it says what it has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Talk {
    /// One id a line on standard input; `PROGRAM: ID: THIS` on standard error. It fails when it could not try.
    Lines,
    /// Ids are the last arguments; `Message ID THIS` on standard output. It fails, without a word on standard error, also
    /// when one of several was not done.
    Arguments,
}

impl Run {
    /// The command for these of its places, and what it is given on standard input.
    pub fn command(&self, places: &[Place]) -> (Vec<String>, Vec<u8>) {
        let (mut argv, mut stdin) = (self.argv.clone(), Vec::new());
        for place in places {
            match self.talk {
                Talk::Lines => {
                    stdin.extend_from_slice(place.id.as_bytes());
                    stdin.push(b'\n');
                }
                Talk::Arguments => argv.push(place.id.to_string()),
            }
        }
        (argv, stdin)
    }

    /// The queue ids that the program says it has done it for.
    pub fn read_back(&self, stdout: &[u8], stderr: &[u8]) -> Vec<QueueId> {
        let (text, between) = match self.talk {
            Talk::Lines => (stderr, &b": "[..]),
            Talk::Arguments => (stdout, &b" "[..]),
        };
        let mut done = Vec::new();
        for line in text.split(|&byte| byte == b'\n') {
            let said = line.strip_suffix(self.says.as_bytes()).and_then(|head| head.strip_suffix(between));
            let word = said.and_then(|head| match self.talk {
                Talk::Lines => head.rsplit(|&byte| byte == b' ').next(),
                Talk::Arguments => head.strip_prefix(b"Message "),
            });
            done.extend(word.and_then(QueueId::new));
        }
        done
    }

    /// It could not try, or not all of it.
    pub fn is_trouble(&self, success: bool, stderr: &[u8]) -> bool {
        !success && (self.talk == Talk::Lines || !stderr.is_empty())
    }
}

/// For people, and for tests that compare plans.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Ring { path, byte } => writeln!(f, "ring {path} with {}", char::from(*byte).escape_default()),
            Step::Start { argv } => writeln!(f, "start {}", argv.join(" ")),
            Step::Due { directory, places } => {
                writeln!(f, "due now, below {directory}")?;
                places.iter().try_for_each(|place| writeln!(f, "  {}", place.id))
            }
            Step::Run(run) => {
                writeln!(f, "run {}", run.argv.join(" "))?;
                for Place { id, .. } in &run.places {
                    match run.talk {
                        Talk::Lines => writeln!(f, "  < {id}  > {id}: {}", run.says)?,
                        Talk::Arguments => writeln!(f, "  + {id}  > Message {id} {}", run.says)?,
                    }
                }
                writeln!(f, "  tries {}, {} ms between them, {} at a time", run.tries, run.pause_ms, run.lanes)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_of_the_expected_words_are_believed() {
        let says = "released from hold";
        let run = Run { argv: vec![], places: vec![], talk: Talk::Lines, says, tries: 1, pause_ms: 0, lanes: 1 };
        let said = b"postsuper: 4jY2SQ3blzz5bcl: released from hold\n\
            postsuper: AB12CD34: placed on hold\n\
            postsuper: warning: AB12CD35: released from hold because\n\
            AB12CD36: released from hold\n\
            postsuper: : released from hold\n\
            postsuper: Released from hold: 2 messages\n\xff\n";
        let ids: Vec<String> = run.read_back(b"", said).iter().map(QueueId::to_string).collect();
        assert_eq!(ids, ["4jY2SQ3blzz5bcl", "AB12CD36"]);
        assert_eq!(run.read_back(said, b""), []);
        assert!(run.is_trouble(false, b"") && !run.is_trouble(true, b"postsuper: warning"));

        let says = "is now frozen";
        let run = Run { argv: vec![], places: vec![], talk: Talk::Arguments, says, tries: 1, pause_ms: 0, lanes: 1 };
        let said = b"Message 1xWsik-00057A-0v is now frozen\n\
            Message 1xWsik-00057A-0w is already frozen\nMessage 1xWsik-00057A-0x is locked\n\
            Spool data file for 1xWsik-00057A-0y does not exist\n\
            Message 1xWsik-00057A-0z is now frozen or so\nMessage a b is now frozen\nis now frozen\n";
        let ids: Vec<String> = run.read_back(said, said).iter().map(QueueId::to_string).collect();
        assert_eq!(ids, ["1xWsik-00057A-0v"]);
        assert!(!run.is_trouble(false, b"") && run.is_trouble(false, b"exim: permission denied\n"));
    }
}

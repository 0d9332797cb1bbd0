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
    /// Wake a service of the server: one byte to its socket or pipe.
    Ring { path: String, byte: u8 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub argv: Vec<String>,
    pub places: Vec<Place>,
    /// What the program says on standard error of a queue id for which it has done it: `PROGRAM: ID: THIS`.
    pub says: &'static str,
    /// How often it is tried for those of which it said nothing, the first time included.
    pub tries: u32,
    /// Milliseconds between the tries.
    pub pause_ms: u64,
}

impl Run {
    /// Queue ids on standard input, one a line.
    pub fn stdin<'a>(ids: impl IntoIterator<Item = &'a QueueId>) -> Vec<u8> {
        let mut out = Vec::new();
        for id in ids {
            out.extend_from_slice(id.as_bytes());
            out.push(b'\n');
        }
        out
    }

    /// The queue ids that the program says it has done it for.
    pub fn read_back(&self, stderr: &[u8]) -> Vec<QueueId> {
        let mut done = Vec::new();
        for line in stderr.split(|&byte| byte == b'\n') {
            let said = line.strip_suffix(self.says.as_bytes()).and_then(|head| head.strip_suffix(b": "));
            let id = said.and_then(|head| head.rsplit(|&byte| byte == b' ').next()).and_then(QueueId::new);
            done.extend(id);
        }
        done
    }
}

/// For people, and for tests that compare plans.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Ring { path, byte } => writeln!(f, "ring {path} with {}", char::from(*byte).escape_default()),
            Step::Run(run) => {
                writeln!(f, "run {}", run.argv.join(" "))?;
                for place in &run.places {
                    writeln!(f, "  < {}  > {}: {}", place.id, place.id, run.says)?;
                }
                writeln!(f, "  tries {}, {} ms between them", run.tries, run.pause_ms)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_of_the_expected_words_are_believed() {
        let run = Run { argv: vec![], places: vec![], says: "released from hold", tries: 1, pause_ms: 0 };
        let said = b"postsuper: 4jY2SQ3blzz5bcl: released from hold\n\
            postsuper: AB12CD34: placed on hold\n\
            postsuper: warning: AB12CD35: released from hold because\n\
            AB12CD36: released from hold\n\
            postsuper: : released from hold\n\
            postsuper: Released from hold: 2 messages\n\xff\n";
        let ids: Vec<String> = run.read_back(said).iter().map(QueueId::to_string).collect();
        assert_eq!(ids, ["4jY2SQ3blzz5bcl", "AB12CD36"]);
        assert_eq!(run.read_back(b""), []);
    }
}

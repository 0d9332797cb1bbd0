//! `exim -bpr` (the specification, "Options that display the queue"): whom a queued message is from and for.
//!
//! A message is a line `AGE SIZE ID <SENDER> [(LOGIN)] [*** frozen ***]`, each of its recipients a line that begins with
//! ten columns of space (a `D` among them: it is done), and an empty line ends it. Pure; it keeps one message at a time.

use super::scan;
use crate::mail::{QueueId, Time};

/// Most recipients taken of one message.
const MOST: usize = 1_000;

/// The queues that are told apart: what waits for its next try, and what is frozen.
pub const QUEUES: [&str; 2] = ["waiting", "frozen"];

/// When a message came in, as its id says.
pub fn arrived(id: &QueueId) -> Time {
    Time::from_secs(scan::id_seconds(id.as_bytes()))
}

/// A message in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    pub id: QueueId,
    pub frozen: bool,
    /// Empty for the null sender.
    pub sender: Box<[u8]>,
    pub recipients: Vec<Box<[u8]>>,
}

/// Takes the lines one by one.
#[derive(Debug, Default)]
pub struct Listing {
    current: Option<Queued>,
}

impl Listing {
    /// The message that ends with this line.
    pub fn take(&mut self, line: &[u8]) -> Option<Queued> {
        if line.trim_ascii().is_empty() {
            return self.current.take();
        }
        match (line.strip_prefix(b"          "), &mut self.current) {
            (Some(recipient), Some(current)) if current.recipients.len() < MOST => {
                current.recipients.push(recipient.trim_ascii().into());
                None
            }
            (None, _) if !line.starts_with(b"        D ") => std::mem::replace(&mut self.current, head(line)),
            _ => None,
        }
    }
}

fn head(line: &[u8]) -> Option<Queued> {
    let whole = line.trim_ascii();
    let line = whole.strip_suffix(b"*** frozen ***").unwrap_or(whole);
    let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).skip(2);
    let id = words.next().and_then(scan::whole_id)?;
    let open = memchr::memchr(b'<', line)?;
    let close = memchr::memrchr(b'>', line).filter(|close| *close > open)?;
    let sender = line.get(open + 1..close)?.into();
    Some(Queued { id, frozen: line.len() < whole.len(), sender, recipients: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_queued_and_what_of_it_is_frozen() {
        let text = b" 4m   378 1xVROW-0001BH-2c <web1@lab.test> (web1) *** frozen ***\n          a@dest.test\n        D done@dest.test\n          \"x y\"@dest.test\n\n 0m  2.1K 1xVROY-000000001Df-1o0t <>\n          b@dest.test\n\n25h   1.2M 1xVROY-000000001Df-1o0u <> *** frozen ***\n          <c>@dest.test\n\nexim: permission denied\n\n 1m 3 nonsense <x> *** frozen ***\n          d@dest.test\n\n";
        let mut listing = Listing::default();
        let found: Vec<Queued> = text.split(|byte| *byte == b'\n').filter_map(|line| listing.take(line)).collect();
        let shown: Vec<String> = found
            .iter()
            .map(|one| {
                let to: Vec<String> =
                    one.recipients.iter().map(|to| String::from_utf8_lossy(to).into_owned()).collect();
                let frozen = if one.frozen { "frozen" } else { "free" };
                format!("{frozen} {} <{}> {}", one.id, String::from_utf8_lossy(&one.sender), to.join(" "))
            })
            .collect();
        assert_eq!(
            shown,
            [
                r#"frozen 1xVROW-0001BH-2c <web1@lab.test> a@dest.test "x y"@dest.test"#,
                "free 1xVROY-000000001Df-1o0t <> b@dest.test",
                "frozen 1xVROY-000000001Df-1o0u <> <c>@dest.test",
            ]
        );
    }
}

//! One line of `postqueue -j` (postqueue(1), "JSON OBJECT FORMAT"; since Postfix 3.1): whom a queued message is from and for.
//!
//! postqueue is set-gid: it shows the queue to whoever may ask (`authorized_mailq_users`), so no privilege is needed.
//! Addresses are the senders' words: they are taken as bytes and mean nothing here.

use crate::mail::QueueId;
use serde::Deserialize;

/// Most recipients taken of one message.
const MOST: usize = 1_000;

/// A message that is on hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnHold {
    pub id: QueueId,
    /// Empty for the null sender.
    pub sender: Box<[u8]>,
    pub recipients: Vec<Box<[u8]>>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    queue_name: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    queue_id: std::borrow::Cow<'a, str>,
    sender: String,
    #[serde(default)]
    recipients: Vec<Recipient>,
}

#[derive(Deserialize)]
struct Recipient {
    address: String,
}

/// `None` when it is not on hold, or no such line.
pub fn on_hold(line: &[u8]) -> Option<OnHold> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let id = QueueId::new(line.queue_id.as_bytes()).filter(|_| line.queue_name == "hold")?;
    // showq(8) writes the null sender so.
    let sender = if line.sender == "MAILER-DAEMON" { String::new() } else { line.sender };
    let recipients = line.recipients.into_iter().take(MOST).map(|one| one.address.into_bytes().into());
    Some(OnHold { id, sender: sender.into_bytes().into(), recipients: recipients.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_hold_and_nothing_else() {
        let line = br#"{"queue_name": "hold", "queue_id": "4hHq1y0JX1z5bc", "arrival_time": 1795430256, "message_size": 370, "forced_expire": false, "sender": "MAILER-DAEMON", "recipients": [{"address": "a@dest.test"}, {"address": "\"b c\"@dest.test", "delay_reason": "x"}]}"#;
        let found = on_hold(line).unwrap();
        let to: Vec<&[u8]> = found.recipients.iter().map(|to| &**to).collect();
        assert_eq!((found.id.to_string().as_str(), &*found.sender), ("4hHq1y0JX1z5bc", &b""[..]));
        assert_eq!(to, [&b"a@dest.test"[..], b"\"b c\"@dest.test"]);
        let text = std::str::from_utf8(line).unwrap();
        assert_eq!(on_hold(text.replace("\"hold\"", "\"deferred\"").as_bytes()), None);
        assert_eq!(on_hold(text.replace("4hHq1y0JX1z5bc", "").as_bytes()), None);
        for bad in ["", "{}", "[]", "postqueue: warning: x", "{\"queue_name\": \"hold\"}"] {
            assert_eq!(on_hold(bad.as_bytes()), None, "{bad}");
        }
    }
}

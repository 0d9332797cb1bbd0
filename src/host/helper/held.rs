//! A page of the messages on hold: those with the smallest ids behind one, as many as an answer takes.
//!
//! A listing comes in no order and may be of any length, so never more than a page of it is kept.

use super::{Answer, Held, MOST_ANSWER};
use crate::host::listing::OnHold;
use crate::mail::QueueId;
use std::collections::BTreeMap;

/// Bytes of a page, as it is written.
const MOST: usize = MOST_ANSWER / 2;
/// Bytes of one message: of more, only the first recipients are shown.
const MOST_OF_ONE: usize = MOST / 8;

#[derive(Debug, Default)]
pub(super) struct Page {
    after: Option<String>,
    held: BTreeMap<String, (Held, usize)>,
    bytes: usize,
    more: bool,
}

impl Page {
    pub(super) fn behind(after: Option<QueueId>) -> Page {
        Page { after: after.map(|id| id.to_string()), ..Page::default() }
    }

    pub(super) fn take(&mut self, one: OnHold) {
        let id = one.id.to_string();
        if self.after.as_ref().is_some_and(|after| id <= *after) {
            return;
        }
        let (held, bytes) = shown(id, &one);
        self.bytes += bytes;
        if let Some((_, before)) = self.held.insert(held.id.clone(), (held, bytes)) {
            self.bytes -= before;
        }
        while self.bytes > MOST {
            self.bytes -= self.held.pop_last().map_or(self.bytes, |(_, (_, bytes))| bytes);
            self.more = true;
        }
    }

    pub(super) fn answer(self) -> Answer {
        Answer::Envelopes { held: self.held.into_values().map(|(held, _)| held).collect(), more: self.more }
    }
}

fn shown(id: String, one: &OnHold) -> (Held, usize) {
    // The longest that becomes of a text: quotes, and each control character as \u001f.
    let bytes = |text: &str| {
        3 + text.len() + 5 * text.bytes().filter(|byte| *byte < 0x20 || *byte == b'"' || *byte == b'\\').count()
    };
    let text = |bytes: &[u8]| crate::mail::text::clean(bytes, 1_024);
    let sender = text(&one.sender);
    let mut sum = 64 + bytes(&id) + bytes(&sender);
    let recipients = one.recipients.iter().map(|to| text(to)).take_while(|to| {
        sum += bytes(to);
        sum <= MOST_OF_ONE
    });
    let recipients = recipients.collect();
    (Held { id, sender, recipients }, sum.min(MOST_OF_ONE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(n: usize, recipients: usize) -> OnHold {
        OnHold {
            id: QueueId::new(format!("1xVROW-{n:06}-2c").as_bytes()).unwrap(),
            sender: b"a@b.test"[..].into(),
            recipients: vec![b"\x01\"\\somebody\xff@dest.test"[..].into(); recipients],
        }
    }

    #[test]
    fn all_pages_together_are_the_listing_in_order() {
        let total = 30_000;
        let (mut after, mut ids, mut pages) = (None, Vec::new(), 0);
        loop {
            let mut page = Page::behind(after);
            // In no order.
            (0..total).for_each(|n| page.take(one(n * 7_919 % total, 1)));
            let Answer::Envelopes { held, more } = page.answer() else { panic!() };
            let text = serde_json::to_vec(&Answer::Envelopes { held: held.clone(), more }).unwrap();
            assert!(text.len() < MOST_ANSWER, "{}", text.len());
            after = held.last().and_then(|held| QueueId::new(held.id.as_bytes()));
            ids.extend(held.into_iter().map(|held| held.id));
            pages += 1;
            if !more {
                break;
            }
        }
        assert!(pages > 2 && ids.is_sorted() && ids.len() == total, "{pages} pages, {} ids", ids.len());
    }

    #[test]
    fn one_message_never_fills_an_answer() {
        let mut page = Page::behind(None);
        (0..20).for_each(|n| page.take(one(n, 100_000)));
        let answer = page.answer();
        let Answer::Envelopes { held, more: true } = &answer else { panic!("{answer:?}") };
        assert!(held.len() >= 7 && held[0].recipients.len() > 100, "{}", held.len());
        assert!(serde_json::to_vec(&answer).unwrap().len() < MOST_ANSWER);
    }
}

//! From the store to the store: what an agent left without evidence is gathered by the next one.

use super::*;
use crate::mail::{Basis, Dsn, ErrorFact, Origin, Outcome, RecipientState, RecipientTrace, ScriptClaim, TraceTexts};
use crate::store::{Batch, Durability, Settings as StoreSettings, Store, VerdictRow};

const AT: Time = Time::from_secs(1_700_000_000);

fn verdict(owner: u32, action: &str, window: u32) -> VerdictRow {
    VerdictRow {
        at: AT,
        owner,
        rule: "r".into(),
        signal: "errors".into(),
        observed: 3,
        limit: 2,
        window,
        action: action.into(),
        outcome: "blocked".into(),
        scope: "script".into(),
        proven: true,
        order: String::new(),
    }
}

/// A message with one recipient that bounced.
fn push(batch: &mut Batch, owner: u32, id: &str, secs_ago: i64, address: &str) {
    let (at, id) = (AT.plus_secs(-secs_ago), QueueId::new(id.as_bytes()).unwrap());
    let reply = format!("550 5.1.1 <{address}>: no such user");
    let recipients = [RecipientTrace {
        texts: TraceTexts::new(address.as_bytes(), b"mx.there.test", reply.as_bytes()),
        dsn: Dsn::new(5, 1, 1),
        state: RecipientState::Ended(Outcome::Bounced),
        attempts: 1,
        last: at,
        next: None,
    }];
    let claim = ScriptClaim::new(b"/home/web1/www", b"form.php", 3);
    batch.push_leg(&LegFact {
        host: b"mx1",
        instance: b"mx",
        id,
        owner: Owner(owner),
        origin: Origin::Script,
        basis: Basis::Uid,
        first: at,
        last: at,
        message_id: b"<m@host.test>",
        sender: b"web@host.test",
        login: b"",
        uid: 1001,
        client_address: b"",
        size: 1234,
        parent: None,
        recipients: &recipients,
        recipients_cut: false,
        script: Some(&claim),
        end: "removed",
    });
    batch.push_error(&ErrorFact {
        at,
        owner: Owner(owner),
        outcome: Outcome::Bounced,
        late: false,
        id,
        sender: b"web@host.test",
        recipient: address.as_bytes(),
        relay: b"mx.there.test",
        dsn: Dsn::new(5, 1, 1),
        class: ReplyClass::UnknownRecipient,
        own_address: None,
        reply: reply.as_bytes(),
        script: Some(&claim),
    });
}

/// Rings until there is as much.
fn wait_found(gatherer: &Gatherer, n: usize) -> Vec<(i64, EvidenceView)> {
    let began = clock::monotonic();
    let mut found = Vec::new();
    while found.len() < n {
        assert!(began.elapsed() < Duration::from_secs(60), "{found:?}");
        if let Ok((id, text)) = gatherer.found.recv_timeout(Duration::from_secs(1)) {
            found.push((id, serde_json::from_str(&text).unwrap()));
        }
    }
    found
}

#[test]
fn what_was_left_without_evidence_is_gathered_at_the_start_and_never_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), StoreSettings::default()).unwrap();
    let mut batch = Batch::default();
    for (id, ago) in [("Q1", 10), ("Q2", 20), ("OLD", 4_000)] {
        push(&mut batch, 16, id, ago, "someone@a.test");
    }
    push(&mut batch, 17, "Q3", 5, "other@b.test");
    batch.verdicts.push(verdict(16, "observe", 3_600));
    batch.verdicts.push(verdict(17, "block", 3_600));
    store.commit(&batch, Durability::Normal).unwrap();

    let gatherer = Gatherer::start(dir.path().to_owned(), Replies::default()).unwrap();
    let found = wait_found(&gatherer, 2);
    assert_eq!(found.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [2, 1], "what somebody acts on comes first");
    let (_, view) = &found[1];
    assert_eq!((view.messages, view.recipients, view.cut.as_deref()), (2, 2, None));
    let share = |name: &str, count, errors| ShareView { name: name.into(), count, errors };
    assert_eq!(view.domains, [share("a.test", 2, 2)]);
    assert_eq!(view.classes, [share("unknown_recipient", 2, 0)]);
    assert_eq!(view.scripts, [share("form.php", 2, 0)]);
    assert_eq!(view.directories, [share("/home/web1/www", 2, 0)]);
    assert_eq!(view.first.as_ref().map(|first| first.queue_id.as_str()), Some("Q2"));
    let expected = "Q2 …@a.test bounced 5.1.1 (unknown_recipient): 550 5.1.1 <…@a.test>: no such user";
    assert!(view.lines[0].ends_with(expected), "{view:?}");

    // Stored, it is not gathered again; what comes is.
    let mut next = Batch::default();
    next.evidence.extend(found.iter().map(|(id, view)| (*id, serde_json::to_string(view).unwrap())));
    next.verdicts.push(verdict(16, "notify", 15));
    store.commit(&next, Durability::Normal).unwrap();
    gatherer.ring();
    let again = wait_found(&gatherer, 1);
    assert_eq!((again[0].0, again[0].1.messages), (3, 1));
    drop(gatherer);
    let views = Views::open(dir.path()).unwrap();
    let bare: Vec<i64> = views.bare_verdicts(10).unwrap().iter().map(|verdict| verdict.id).collect();
    assert_eq!(bare, [3]);
    let kept = views.verdicts(Some(16), 10).unwrap();
    assert_eq!(kept.iter().map(|one| (one.id, one.evidence.is_some())).collect::<Vec<_>>(), [(3, false), (1, true)]);
}

#[test]
fn reading_is_bounded_and_what_is_left_out_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), StoreSettings::default()).unwrap();
    let mut batch = Batch::default();
    for n in 0..12_000 {
        push(&mut batch, 16, &format!("Q{n}"), 3_000 - n / 4, "someone@a.test");
    }
    batch.verdicts.push(verdict(16, "block", 3_600));
    store.commit(&batch, Durability::Normal).unwrap();
    let views = Views::open(dir.path()).unwrap();
    let bare = views.bare_verdicts(1).unwrap();
    let view = gather(&views, &bare[0], &Replies::default(), &|| true).unwrap();
    assert_eq!((view.messages, view.domains[0].errors), (10_000, 10_000));
    assert!(view.cut.as_deref().is_some_and(|cut| cut.contains("newest")), "{view:?}");
    assert_eq!(view.last.map(|last| last.queue_id), Some("Q11999".into()), "the newest are read");
    let hasty = gather(&views, &bare[0], &Replies::default(), &|| false).unwrap();
    assert!(hasty.messages < 10_000 && hasty.cut.is_some());
}

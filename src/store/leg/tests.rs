//! Packing and unpacking, with whatever a log can hold.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::mail::{Outcome, Owner, ScriptClaim, TraceTexts};

fn hostile(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..most), vec(prop_oneof![Just(b'<'), Just(b'>'), Just(b'@'), Just(0u8)], 0..8)]
}

fn queue_id() -> impl Strategy<Value = QueueId> {
    vec(proptest::sample::select(b"0Az9-".to_vec()), 1..=QueueId::MAX).prop_map(|id| QueueId::new(&id).unwrap())
}

fn recipient() -> impl Strategy<Value = RecipientTrace> {
    let state = prop_oneof![
        Just(RecipientState::Deferred),
        Just(RecipientState::Handed),
        Just(RecipientState::Queued),
        Just(RecipientState::Expanded),
        (0u8..5).prop_map(|code| RecipientState::Ended(Outcome::from_code(code).unwrap())),
    ];
    (
        (hostile(400), hostile(300), hostile(400), any::<(u8, u16, u16)>()),
        (state, any::<u32>(), any::<i64>(), proptest::option::of(queue_id())),
    )
        .prop_map(|((address, relay, reply, dsn), (state, attempts, last, next))| RecipientTrace {
            texts: TraceTexts::new(&address, &relay, &reply),
            dsn: Dsn::new(dsn.0, dsn.1, dsn.2),
            state,
            attempts,
            last: Time(last),
            next: next.map(Box::new),
        })
}

fn cleaned(bytes: &[u8], most: usize) -> String {
    text::clean(capped(bytes, most), most * 3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn what_is_packed_comes_back(
        texts in (hostile(300), hostile(140), hostile(600), hostile(400), hostile(400), hostile(140)),
        id in queue_id(), parent in proptest::option::of(queue_id()),
        numbers in any::<(u32, i64, i64, i64, u64, bool)>(),
        codes in (0u8..5, 0u8..7),
        recipients in vec(recipient(), 0..4),
        script in proptest::option::of((hostile(600), any::<u32>(), hostile(600))),
    ) {
        let script = script.map(|(path, line, directory)| ScriptClaim { path: path.into(), line, directory: directory.into() });
        let (host, instance, message_id, sender, login, client_address) = &texts;
        let (owner, first, last, uid, size, recipients_cut) = numbers;
        let fact = LegFact {
            host, instance, id, owner: Owner(owner), origin: Origin::from_code(codes.0).unwrap(),
            basis: Basis::from_code(codes.1).unwrap(), first: Time(first), last: Time(last), message_id, sender, login,
            uid, client_address, size, parent, recipients: &recipients, recipients_cut, script: script.as_ref(), end: "removed",
        };
        let mut data = Vec::new();
        encode(&fact, &mut data);
        encode(&fact, &mut data);
        let packed: Vec<_> = records(&data).collect();
        prop_assert_eq!(packed.len(), 2);
        let packed = packed[1].unwrap();
        prop_assert_eq!(packed.owner(), Some(owner));
        prop_assert_eq!(packed.whole.len() * 2, data.len());
        let leg = packed.unpack().unwrap();
        prop_assert_eq!(&leg.host, &cleaned(host, MAX_RELAY));
        prop_assert_eq!(&leg.instance, &cleaned(instance, MAX_NAME));
        prop_assert_eq!(leg.id, id.to_string());
        prop_assert_eq!((leg.owner, leg.first.0, leg.last.0, leg.size), (owner, first, last, size));
        prop_assert_eq!((leg.origin, leg.basis), (fact.origin.name(), fact.basis.name()));
        prop_assert_eq!(leg.uid, u32::try_from(uid).ok());
        prop_assert_eq!(leg.parent, parent.map(|id| id.to_string()));
        prop_assert_eq!(leg.recipients_cut, recipients_cut);
        prop_assert_eq!(leg.login, cleaned(login, MAX_ADDRESS));
        prop_assert_eq!(leg.recipients.len(), recipients.len());
        for (got, put) in leg.recipients.iter().zip(&recipients) {
            prop_assert_eq!(&got.address, &cleaned(bare_address(put.texts.address()), MAX_ADDRESS));
            prop_assert_eq!(&got.relay, &cleaned(put.texts.relay(), MAX_RELAY));
            prop_assert_eq!(&got.reply, &cleaned(put.texts.reply(), MAX_REPLY));
            prop_assert_eq!((got.attempts, got.last), (put.attempts, put.last));
            prop_assert_eq!(&got.next, &put.next.as_ref().map(|id| id.to_string()));
            prop_assert!(!got.address.contains('\n') && !got.reply.contains('\0'));
        }
        let kept = script.as_ref().map(|s| (cleaned(&s.path, MAX_PATH), s.line, cleaned(&s.directory, MAX_PATH)));
        prop_assert_eq!(leg.script.map(|s| (s.path, s.line, s.directory)), kept);
        // The hashes of the fact and of the packed record are the same keys.
        let keys = packed.keys().unwrap();
        prop_assert_eq!(keys.message_id, bare_message_id(message_id));
        prop_assert_eq!((keys.id, keys.first, keys.last), (id.as_bytes(), first, last));
        // Cut anywhere, it is not a record; and nothing panics.
        let cut = data.len() / 2 + usize::from(codes.0) * packed.whole.len() / 5;
        prop_assert!(records(&data[..cut]).filter_map(|r| r?.unpack()).count() <= 1);
    }

    #[test]
    fn any_bytes_unpack_or_do_not(data in vec(any::<u8>(), 0..200)) {
        for packed in records(&data).flatten() {
            let _ = (packed.owner(), packed.keys().is_some(), packed.unpack());
        }
    }
}

#[test]
fn too_many_recipients_are_cut_and_said_so() {
    let one = RecipientTrace {
        texts: TraceTexts::new(b"a@b.test", b"", b""),
        dsn: Dsn::NONE,
        state: RecipientState::Deferred,
        attempts: 1,
        last: Time::ZERO,
        next: None,
    };
    let many = vec![one; MAX_RECIPIENTS + 1];
    let fact = super::super::tests::leg("A1", 16, 5, &many);
    let mut data = Vec::new();
    encode(&fact, &mut data);
    let leg = records(&data).next().unwrap().unwrap().unpack().unwrap();
    assert!(leg.recipients_cut && leg.recipients.len() == MAX_RECIPIENTS);
}

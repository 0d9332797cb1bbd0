//! What is decided on mail that only the helper could prove, while it does not answer.

use super::*;
use crate::engine::directory::{AccountSpec, Policy};
use crate::host::helper::client::Client;
use crate::mail::Scope;

/// A door whose helper is not there.
fn door(mode: Mode) -> (Door, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let shop = AccountSpec { id: "shop".into(), ..AccountSpec::default() };
    let directory = Directory::build(vec![shop], Policy::default()).unwrap();
    let tape = Tape::open(dir.path(), 7).unwrap();
    let gate = Arc::new(Gate::new(Settings { mode, refuse_logins: true }, directory, tape, 7));
    let helper = Arc::new(Client::new(dir.path().join("none.sock")));
    let name: Arc<str> = "mx".into();
    let instance = Instance::here(dir.path()).through(helper, Arc::clone(&name));
    (Door { server: Server::Postfix, name, instance, gate }, dir)
}

fn held(scope: Scope, uids: &[u32]) -> Vec<Barred> {
    let (key, order) = ("shop".to_owned(), OrderId::default());
    let room = Room { messages: 9, bytes: 9, heard: 0 };
    vec![Barred { owner: Owner(20), key, uids: uids.to_vec(), scope, order, room, slow: false }]
}

#[test]
fn what_scripts_hand_over_while_the_helper_is_lost_is_put_off_when_scripts_are_held() {
    let (door, _dir) = door(Mode::Enforce);
    let id = QueueId::new(b"4jYswH0Jn6z7xJG");
    let script = Candidate { way: Way::Handed, id, ..Candidate::default() };
    let judge = || door.judge(&script, None);
    assert_eq!(judge(), Judgement::Pass, "nobody is held: nobody waits");
    for (scope, uids, waits) in [
        (Scope::Script, &[2_001][..], true),
        (Scope::All, &[2_001], true),
        (Scope::Login("box".into()), &[2_001], false),
        (Scope::All, &[], false),
    ] {
        door.gate.bar(held(scope.clone(), uids));
        let judged = judge();
        assert_eq!(judged != Judgement::Pass, waits, "{scope:?} {uids:?}");
        match judged {
            Judgement::Later { text } => assert!(text.starts_with("451 4.7.1 "), "{text}"),
            other => assert_eq!(other, Judgement::Pass),
        }
    }
    // The message comes again, under another id.
    assert!(door.gate.has_seen(id.unwrap()), "of those that passed");
    door.gate.bar(held(Scope::Script, &[2_001]));
    judge();
    assert!(!door.gate.has_seen(id.unwrap()));
    let login = Candidate { login: Some((*b"box").into()), ..script };
    assert_eq!(door.judge(&login, None), Judgement::Pass, "whose it is is known without it");
}

#[test]
fn a_gate_that_watches_puts_nothing_off() {
    let (door, _dir) = door(Mode::Watch);
    door.gate.bar(held(Scope::All, &[2_001]));
    let id = QueueId::new(b"4jYswH0Jn6z7xJG");
    assert_eq!(door.judge(&Candidate { way: Way::Handed, id, ..Candidate::default() }, None), Judgement::Pass);
}

#[test]
fn a_helper_that_does_not_come_back_is_not_waited_for() {
    let seconds = |lost| is_awaited(Some(Duration::from_secs(lost)));
    assert!(!is_awaited(None), "it answers");
    assert_eq!([0, 1, 59, 60, 3_600].map(seconds), [true, true, true, false, false]);
}

//! The table of states, written out: every state, who may lift it, every action, every role.

use super::*;
use crate::mail::{QueueId, Report, Role, Server};

/// State and `liftable_by`, action, then what it comes to for operator, owner and machine (a rule):
/// `=` it is so already, `!` refused. A purge is followed to its end.
const TABLE: &str = "
    ok      -         block    ko      ko      ko
    ok      -         unblock  =       =       !
    ok      -         purge    =       =       !
    force   -         block    ko      ko      ko
    force   -         unblock  =       =       !
    force   -         purge    =       =       !
    ko      owner     block    ko      =       =
    ko      owner     unblock  ok      ok      !
    ko      owner     purge    ok      ok      !
    ko      operator  block    =       =       =
    ko      operator  unblock  ok      !       !
    ko      operator  purge    ok      ko      !
    bounce  owner     block    bounce  =       =
    bounce  owner     unblock  force   force   !
    bounce  owner     purge    ok      ok      !
    bounce  operator  block    =       =       =
    bounce  operator  unblock  force   !       !
    bounce  operator  purge    ok      bounce  !
    spam    owner     block    spam    =       =
    spam    owner     unblock  ok      !       !
    spam    owner     purge    ok      ok      !
    spam    operator  block    =       =       =
    spam    operator  unblock  ok      !       !
    spam    operator  purge    ok      spam    !
    purging owner     block    !       !       !
    purging owner     unblock  !       !       !
    purging owner     purge    !       !       !
    purging operator  block    !       !       !
    purging operator  unblock  !       !       !
    purging operator  purge    !       !       !
";

const NOW: Time = Time::from_secs(1_800_000_000);
const WHO: Owner = Owner(17);

fn by(role: Role) -> Actor {
    match role {
        Role::Operator => Actor::Token,
        Role::Owner => Actor::Customer("web1".into()),
        Role::Machine => Actor::Rule("r".into()),
        Role::Agent => Actor::Agent,
    }
}

fn order(action: Action, by: Actor, cause: Cause) -> Order {
    let liftable_by = by.liftable_by();
    let (id, scope) = (OrderId::new(NOW, 5), Scope::Script);
    let (reason, at, until, part, drip) = ("why".to_owned(), NOW, None, None, None);
    Order { id, owner: WHO, action, scope, cause, by, liftable_by, reason, at, until, part, drip, spares: false }
}

fn queued(n: u8) -> Queued {
    let id = QueueId::new(format!("ABCD{n:02}").as_bytes()).unwrap();
    let place = Place { server: Server::default(), instance: b"mx"[..].into(), id };
    Queued { owner: WHO, place, origin: Origin::Script, login: [].into(), since: Time::ZERO, by: None }
}

/// Does all work that there is, as a machine on which everything succeeds.
fn work(sanctions: &mut Sanctions) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some(work) = sanctions.next_work() {
        let report = Report { done: work.places, ..Report::default() };
        records.extend(sanctions.settle(work.owner, work.order, &report, |_| false, NOW).unwrap());
    }
    records
}

fn in_state(state: &str, liftable: &str) -> Sanctions {
    let mut sanctions = Sanctions::new(Settings::default());
    let liftable_by = if liftable == "operator" { LiftableBy::Operator } else { LiftableBy::Owner };
    let cause = match state {
        "ok" => return sanctions,
        "ko" | "purging" => Cause::Person,
        "bounce" | "force" => Cause::Errors,
        "spam" => Cause::Spam,
        other => panic!("{other}"),
    };
    let block = Order { liftable_by, ..order(Action::Block, Actor::Rule("r".into()), cause) };
    assert_eq!(sanctions.accept(&block, &[queued(1)], NOW).outcome, Outcome::Accepted);
    assert_eq!(work(&mut sanctions).len(), 1);
    assert_eq!(sanctions.held(WHO), 1);
    let next = match state {
        "force" => Action::Unblock,
        "purging" => Action::Purge,
        _ => return sanctions,
    };
    assert_eq!(sanctions.accept(&order(next, Actor::Token, Cause::Person), &[], NOW).outcome, Outcome::Accepted);
    if state == "force" {
        work(&mut sanctions);
    }
    assert_eq!(sanctions.account(WHO).state.name(), state);
    sanctions
}

#[test]
fn every_state_action_and_role() {
    let mut rows = 0;
    for line in TABLE.lines().filter(|line| !line.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let action = Action::ALL.into_iter().find(|action| action.name() == words[2]).unwrap();
        for (role, wanted) in [Role::Operator, Role::Owner, Role::Machine].into_iter().zip(&words[3..]) {
            let mut sanctions = in_state(words[0], words[1]);
            let record = sanctions.accept(&order(action, by(role), Cause::Person), &[], NOW);
            work(&mut sanctions);
            let came = match record.outcome {
                Outcome::Already => "=",
                Outcome::Refused => "!",
                _ => sanctions.account(WHO).state.name(),
            };
            assert_eq!(came, *wanted, "{line}: {role:?}: {record:?}");
            if action == Action::Purge && !["=", "!"].contains(&came) {
                assert_eq!(sanctions.held(WHO), 0, "{line}: {role:?}: what is purged is deleted, lifted or not");
            }
            rows += 1;
        }
    }
    assert_eq!(rows, 10 * 3 * 3);
}

#[test]
fn a_block_for_each_cause_and_a_second_one_only_adds() {
    for (cause, state) in
        [(Cause::Person, "ko"), (Cause::Volume, "ko"), (Cause::Errors, "bounce"), (Cause::Spam, "spam")]
    {
        let mut sanctions = Sanctions::new(Settings::default());
        sanctions.accept(&order(Action::Block, by(Role::Machine), cause), &[], NOW);
        assert_eq!(sanctions.account(WHO).state.name(), state);
        // For spam: that is worse than all others. With an end: the other has none.
        let until = Some(NOW.plus_secs(60));
        let worse = Order { until, ..order(Action::Block, by(Role::Machine), Cause::Spam) };
        sanctions.accept(&worse, &[], NOW);
        let account = sanctions.account(WHO);
        assert_eq!((account.state.name(), account.block.unwrap().until), ("spam", None));
        let other = |scope: Scope| Order { scope, ..order(Action::Block, by(Role::Machine), Cause::Person) };
        sanctions.accept(&other(Scope::Login("box@x".into())), &[], NOW);
        let account = sanctions.account(WHO);
        assert_eq!((account.state.name(), account.block.unwrap().scope), ("spam", Scope::All), "both are covered");
    }
}

#[test]
fn an_owners_purge_lifts_spam_once_in_seven_days() {
    let day = 86_400;
    let mut sanctions = Sanctions::new(Settings::default());
    for (days, lifted) in [(0, "ok"), (1, "spam"), (6, "spam"), (8, "ok")] {
        let now = NOW.plus_secs(days * day);
        sanctions.accept(&order(Action::Block, by(Role::Machine), Cause::Spam), &[queued(days as u8)], now);
        while let Some(work) = sanctions.next_work() {
            let report = Report { done: work.places, ..Report::default() };
            sanctions.settle(WHO, work.order, &report, |_| false, now);
        }
        sanctions.note_held(WHO, queued(days as u8).place, now);
        let record = sanctions.accept(&order(Action::Purge, by(Role::Owner), Cause::Person), &[], now);
        assert_eq!(record.outcome, Outcome::Accepted, "day {days}");
        while let Some(work) = sanctions.next_work() {
            assert_eq!(work.verb, Verb::Delete);
            let report = Report { done: work.places, ..Report::default() };
            sanctions.settle(WHO, work.order, &report, |_| false, now);
        }
        assert_eq!((sanctions.account(WHO).state.name(), sanctions.held(WHO)), (lifted, 0), "day {days}");
    }
}

#[test]
fn set_times_end_in_unblock_and_never_in_purge() {
    let mut sanctions = in_state("ok", "-");
    let until = Some(NOW.plus_secs(3_600));
    let block = Order { until, ..order(Action::Block, Actor::Token, Cause::Person) };
    sanctions.accept(&block, &[queued(1), queued(2)], NOW);
    work(&mut sanctions);
    assert_eq!(sanctions.next_wake(), until);
    let fresh = || OrderId::new(NOW, 9);
    assert_eq!(sanctions.tick(NOW.plus_secs(3_599), fresh), []);
    let records = sanctions.tick(NOW.plus_secs(3_600), fresh);
    assert_eq!((records.len(), records[0].action, records[0].by.clone()), (1, Action::Unblock, Actor::Agent));
    let released = sanctions.next_work().unwrap();
    assert_eq!((released.verb, released.places.len()), (Verb::Release, 2));

    let mut sanctions = in_state("force", "owner");
    let end = NOW.plus_secs(Settings::default().force_secs);
    assert_eq!(sanctions.next_wake(), Some(end));
    sanctions.tick(end.plus_secs(-1), fresh);
    assert_eq!(sanctions.account(WHO).state, ServiceState::Force);
    sanctions.tick(end, fresh);
    assert_eq!(sanctions.account(WHO), Account::default());
}

#[test]
fn only_what_is_covered_and_not_on_hold_already_is_swept_and_only_that_released() {
    let mut sanctions = Sanctions::new(Settings::default());
    let login = Queued { origin: Origin::SmtpAuth, login: b"box@x"[..].into(), ..queued(3) };
    sanctions.accept(&order(Action::Block, Actor::Token, Cause::Person), &[queued(1), queued(2), login], NOW);
    let work = sanctions.next_work().unwrap();
    assert_eq!(work.places, [queued(1).place, queued(2).place]);
    assert_eq!(sanctions.next_work(), None, "work is given out once");
    // One had left the queue; the gate holds another meanwhile.
    let report = Report { done: vec![queued(1).place], missing: vec![queued(2).place], ..Report::default() };
    sanctions.note_held(WHO, queued(4).place, NOW);
    let record = sanctions.settle(WHO, work.order, &report, |_| true, NOW).unwrap().unwrap();
    assert_eq!(
        (record.outcome, record.details.as_str()),
        (Outcome::Done, "1 put on hold, 1 had left the queue already")
    );
    assert_eq!(sanctions.settle(WHO, work.order, &report, |_| true, NOW), None, "settled once");
    sanctions.accept(&order(Action::Unblock, Actor::Token, Cause::Person), &[], NOW);
    assert_eq!(sanctions.next_work().unwrap().places, [queued(1).place, queued(4).place]);
}

#[test]
fn a_block_for_a_limit_lets_go_on_what_was_within_it_until_somebody_blocks_on_top() {
    let mut sanctions = Sanctions::new(Settings::default());
    let at = NOW.plus_secs(-5);
    let before = Queued { since: at.plus_secs(-1), ..queued(1) };
    let behind = Queued { since: at, ..queued(2) };
    let limit = Order { at, spares: true, ..order(Action::Block, Actor::Rule("r".into()), Cause::Volume) };
    sanctions.accept(&limit, &[before.clone(), behind.clone()], NOW);
    let mut sanctions = restored(&mut sanctions);
    assert_eq!(sanctions.next_work().unwrap().places, std::slice::from_ref(&behind.place));
    let report = Report { done: vec![behind.place], ..Report::default() };
    sanctions.settle(WHO, limit.id, &report, |_| true, NOW).unwrap();
    sanctions.mend(std::slice::from_ref(&before), |_| Some(true), NOW);
    assert_eq!(sanctions.next_work(), None);
    let by_hand = Order { id: OrderId::new(NOW, 6), ..order(Action::Block, Actor::Token, Cause::Person) };
    assert_eq!(sanctions.accept(&by_hand, std::slice::from_ref(&before), NOW).outcome, Outcome::Accepted);
    assert_eq!(sanctions.next_work().unwrap().places, [before.place]);
}

#[test]
fn a_purge_that_cannot_be_done_leaves_everything_as_it_was() {
    let mut sanctions = in_state("spam", "operator");
    let before = sanctions.account(WHO);
    sanctions.accept(&order(Action::Purge, Actor::Token, Cause::Person), &[], NOW);
    let work = sanctions.next_work().unwrap();
    let report = Report { missing: work.places, trouble: Some("cannot be started".to_owned()), ..Report::default() };
    let record = sanctions.settle(WHO, work.order, &report, |_| true, NOW).unwrap().unwrap();
    assert_eq!((record.outcome, sanctions.held(WHO)), (Outcome::Failed, 1));
    assert_eq!(sanctions.account(WHO), before);
    assert!(!sanctions.is_clean(WHO));
    sanctions.forget(WHO);
    assert_eq!(sanctions.account(WHO), before, "a blocked account is not forgotten");
}

/// As after a kill: what is stored, and nothing else.
fn restored(sanctions: &mut Sanctions) -> Sanctions {
    let mut again = Sanctions::new(Settings::default());
    for row in sanctions.take_rows() {
        row.value.iter().for_each(|value| assert!(again.restore_row(row.kind, &row.key, value)));
    }
    again
}

#[test]
fn what_the_agent_before_this_one_has_done_is_settled_at_once() {
    let later = NOW.plus_secs(5);
    for action in [Action::Unblock, Action::Purge] {
        // Killed or not, what the queue shows, what the log says, the time: how many are believed held then.
        for (killed, absent, on_hold, now, left) in [
            (true, true, false, later, 0),
            (false, true, false, later, 1),
            (true, false, false, later, 1),
            (true, true, true, later, 1),
            (true, true, false, NOW.plus_secs(4), 1),
        ] {
            let (mut sanctions, place) = (in_state("ko", "owner"), queued(1).place);
            sanctions.accept(&order(action, Actor::Token, Cause::Person), &[], NOW);
            if killed {
                sanctions = restored(&mut sanctions);
            }
            let work = sanctions.next_work().unwrap();
            assert_eq!((work.again, work.places.as_slice()), (killed, &[place.clone()][..]));
            let absent = Some(place.clone()).filter(|_| absent).into_iter().collect();
            let report = Report { missing: vec![place], absent, ..Report::default() };
            let record = sanctions.settle(WHO, work.order, &report, |_| on_hold, now).unwrap().unwrap();
            assert_eq!(sanctions.held(WHO), left, "{action:?} {killed} {report:?} {on_hold} {record:?}");
            assert_eq!(record.details.starts_with("1 "), left == 0, "{record:?}");
            assert!(sanctions.account(WHO).change.is_none() || left == 1, "another order is taken at once");
        }
    }
}

#[test]
fn sums_follow_each_change_and_sizes_are_asked_for_until_they_are_known() {
    let mut sanctions = in_state("ko", "owner");
    let places = [1, 2, 3].map(|n| queued(n).place);
    for (place, secs) in places.iter().zip([0, 7, 9]) {
        sanctions.note_held(WHO, place.clone(), NOW.plus_secs(secs));
    }
    let sum = |sanctions: &Sanctions| {
        let Sum { messages, bytes, oldest } = sanctions.held_sum(WHO);
        let figures = sanctions.figures();
        assert_eq!((figures.messages, figures.bytes, figures.oldest), (messages, bytes, oldest));
        (messages, bytes, oldest.map(|oldest| oldest.secs_since(NOW)))
    };
    assert_eq!(sum(&sanctions), (3, 0, Some(0)));
    assert_eq!(sanctions.take_unsized(2).len(), 2);
    let rest = sanctions.take_unsized(9);
    assert_eq!((rest.len(), sanctions.take_unsized(9).len()), (1, 0));
    for (place, size) in places.iter().zip([Look::Size(10), Look::Size(200), Look::NotThere]) {
        sanctions.looked(WHO, place.clone(), size, false, NOW.plus_secs(10));
    }
    assert_eq!(sum(&sanctions), (3, 210, Some(0)));
    // One that is not there yet is asked for again, but not for ever.
    assert_eq!(sanctions.take_unsized(9), [(WHO, places[2].clone())]);
    sanctions.looked(WHO, places[2].clone(), Look::NotThere, true, NOW.plus_secs(70));
    assert_eq!(sanctions.take_unsized(9), []);
    let part = Some(vec![places[0].clone()].into());
    let release = Order { part, ..order(Action::Unblock, Actor::Token, Cause::Person) };
    assert_eq!(sanctions.accept(&release, &[], NOW).outcome, Outcome::Accepted);
    assert_eq!(sum(&sanctions), (3, 210, Some(0)), "what is about to leave is on hold");
    work(&mut sanctions);
    assert_eq!(sum(&sanctions), (2, 200, Some(7)));
    sanctions.set_clock(100, NOW);
    assert_eq!(sum(&sanctions), (2, 200, Some(107)));
    sanctions.accept(&order(Action::Purge, Actor::Token, Cause::Person), &[], NOW);
    work(&mut sanctions);
    assert_eq!(sum(&sanctions), (0, 0, None));
    sanctions.looked(WHO, places[0].clone(), Look::Size(5), true, NOW);
    assert_eq!(sum(&sanctions), (0, 0, None));
}

#[test]
fn what_stands_is_told_when_it_changes() {
    let mut sanctions = Sanctions::new(Settings::default());
    assert_eq!(sanctions.take_standing(), Some(vec![]), "once, at the start");
    assert_eq!(sanctions.take_standing(), None);
    sanctions.accept(&order(Action::Block, Actor::Token, Cause::Person), &[], NOW);
    let order_id = OrderId::new(NOW, 5);
    let one = HeldAccount { owner: WHO, scope: Scope::Script, order: order_id, reason: "why".into(), slow: false };
    assert_eq!(sanctions.take_standing(), Some(vec![one]));
    sanctions.accept(&order(Action::Purge, Actor::Token, Cause::Person), &[], NOW);
    assert_eq!(sanctions.take_standing(), Some(vec![]));
}

#[test]
fn damaged_rows_are_left_out() {
    let mut sanctions = in_state("spam", "operator");
    sanctions.accept(&order(Action::Purge, Actor::Token, Cause::Person), &[], NOW);
    for row in sanctions.take_rows() {
        let value = row.value.unwrap();
        let mut fresh = Sanctions::new(Settings::default());
        for cut in 0..value.len() {
            assert!(!fresh.restore_row(row.kind, &row.key, &value[..cut]), "{} bytes of {row:?}", cut, row = row.kind);
        }
        assert!(fresh.restore_row(row.kind, &row.key, &value));
        assert!(!fresh.restore_row(row.kind, &row.key[1..], &value) || row.kind == HELD_KIND);
    }
}

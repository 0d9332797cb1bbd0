//! Host incidents on made-up failures: what opens one, what ends it, and what a restart keeps.

use super::*;
use crate::engine::rules::slots::Way;
use crate::mail::{Fact, Outcome, Server};

const T: u32 = 1_790_000_000;

/// The books, and what is made of failures, with rows kept beside.
struct Host {
    ledger: Ledger,
    incidents: Incidents,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Host {
    /// So many accounts have sent 20 recipients each just now.
    fn new(active: u32) -> Host {
        let mut host = Host { ledger: Ledger::new(false), incidents: Incidents::new(true), rows: BTreeMap::new() };
        (0..active).for_each(|account| host.sent(account, T, 20));
        host
    }

    fn sent(&mut self, account: u32, at: u32, n: u32) {
        let (at, owner, server) = (Time::from_secs(i64::from(at)), Owner(100 + account), Server::default());
        self.ledger.apply(&Fact::Recipients { at, owner, n });
        self.ledger.apply(&Fact::Settled { at, server, owner, outcome: Outcome::Sent, n });
    }

    fn failure(&mut self, account: u32, at: u32, failure: &Failure<'_>, part: u64) -> (bool, u32) {
        let counted = Counted { owner: Owner(100 + account), part, way: Way::Script, login: PROVEN };
        let entry = Entry::new(failure, counted, at, ended(&self.ledger, counted.owner));
        let (due, excused) = self.incidents.observe(entry, failure.first, at, &self.ledger);
        (due, excused.iter().map(|(_, n)| n).sum())
    }

    fn fails(&mut self, account: u32, at: u32, domain: &str) -> (bool, u32) {
        self.failure(account, at, &refusal(domain, ReplyClass::Spam), PROVEN)
    }

    /// As after a kill: only the rows are there.
    fn restart(&mut self) {
        let rows = &mut self.rows;
        self.incidents.take_rows(|(key, value)| match value {
            Some(value) => drop(rows.insert(key, value)),
            None => drop(rows.remove(&key)),
        });
        let mut again = Incidents::new(true);
        assert!(rows.iter().all(|(key, value)| again.restore_row(key, value)) && again.restored());
        assert_eq!((&again.entries, again.count), (&self.incidents.entries, self.incidents.count));
        assert_eq!(again.standing, self.incidents.standing);
        self.incidents = again;
    }

    fn standing(&self, at: u32) -> Vec<String> {
        self.incidents.standing(Time::from_secs(i64::from(at))).map(|one| one.trouble.to_string()).collect()
    }
}

fn refusal(domain: &str, class: ReplyClass) -> Failure<'_> {
    Failure {
        domain: domain.as_bytes(),
        relay: b"127.0.0.1[127.0.0.1]:25",
        class,
        own_address: None,
        deferred: false,
        first: true,
    }
}

#[test]
fn what_fails_for_many_counts_against_nobody_from_the_first_failure_on() {
    let mut host = Host::new(20);
    for account in 0..4 {
        host.sent(account, T + 60, 5);
        assert_eq!((0..3).map(|n| host.fails(account, T + 60 + n, "far.test")).max(), Some((false, 0)), "{account}");
        host.restart();
    }
    assert_eq!(host.fails(4, T + 70, "other.test"), (false, 0));
    assert_eq!(host.fails(4, T + 70, "far.test"), (true, 12), "those before are taken back, and this one never counts");
    assert_eq!(host.standing(T + 70), ["far.test"]);
    let [News { incident, over: false }] = &host.incidents.take_news()[..] else { panic!("one is told") };
    assert_eq!((incident.accounts, incident.active, incident.failures), (5, 20, 13));
    assert_eq!(incident.since, Time::from_secs(i64::from(T + 60)));
    assert_eq!(incident.text(), "mail to far.test fails for 5 of 20 active accounts (13 failures)");
    host.restart();
    assert_eq!(host.fails(9, T + 80, "FAR.test"), (true, 0), "of others too");
    let again = Failure { first: false, ..refusal("far.test", ReplyClass::Spam) };
    assert!(host.failure(9, T + 80, &again, PROVEN).0);
    assert_eq!(host.fails(9, T + 80, "near.test"), (false, 0), "what fails elsewhere counts as ever");
    assert!(host.incidents.take_news().is_empty(), "it is told once");
    assert!(host.incidents.hit(Owner(100), T + 80) && !host.incidents.hit(Owner(111), T + 80));
}

#[test]
fn nobody_makes_one_alone_nor_under_many_names() {
    let mut host = Host::new(8);
    for n in 0..5_000 {
        assert_eq!(host.fails(0, T + n / 10, "far.test"), (false, 0));
        assert_eq!(host.fails(0, T + n / 10, &format!("d{n}.test")), (false, 0), "nor by writing to many");
        let forged = host.failure(10 + n, T + n / 10, &refusal("far.test", ReplyClass::Spam), CLAIMED);
        assert_eq!(forged, (false, 0), "whose it is was only claimed");
    }
    assert!(host.incidents.standing.is_empty() && host.incidents.count <= 5_000 + MOST_OF_ONE);
}

#[test]
fn few_of_many_and_a_small_part_of_much_are_ordinary() {
    let mut host = Host::new(200);
    let failed = (0..39).map(|account| host.fails(account, T + 60, "big.test").0);
    assert!(failed.collect::<Vec<bool>>().iter().all(|due| !due), "39 of 200 are less than a fifth");
    assert!(host.fails(39, T + 60, "big.test").0, "40 are a fifth");

    // Each of them loses one in twenty: lists get old.
    let mut host = Host::new(20);
    for round in 0..20 {
        for account in 0..20 {
            host.fails(account, T + 5 + round * 10, "big.test");
            host.sent(account, T + 5 + round * 10, 19);
            if round == 0 {
                // Until more is known, one failure is all that there is.
                host.incidents.standing.clear();
                host.incidents.take_news();
            }
        }
    }
    assert_eq!(host.standing(T + 300), Vec::<String>::new());
}

#[test]
fn it_is_over_when_many_fail_no_more_although_one_goes_on() {
    let mut host = Host::new(20);
    let due = (0..8).map(|account| host.fails(account, T + 10, "far.test").0).filter(|due| *due).count();
    assert_eq!(due, 4);
    assert_eq!(host.standing(T + 10), ["far.test"]);
    let (mut due, mut told) = (0, Vec::new());
    for n in 0..4_000 {
        told.extend(host.incidents.take_news().into_iter().map(|news| news.over));
        if n % 500 == 0 {
            host.restart();
        }
        due += u32::from(host.fails(0, T + 11 + n, "far.test").0);
    }
    // Half as many accounts confirm it, and they are remembered for the window; then it stands for one window more.
    assert!((WINDOW_SECS..=2 * WINDOW_SECS + LOOK_SECS).contains(&due), "{due}");
    assert_eq!(told, [false, true]);
    host.restart();
    assert!(host.rows.len() < 12, "what is not looked at any more is not kept: {}", host.rows.len());
}

#[test]
fn a_class_needs_half_of_the_accounts() {
    let mut host = Host::new(30);
    let dns = |host: &mut Host, account: u32| {
        let domain = format!("d{account}.test");
        let failure = Failure { deferred: true, ..refusal(&domain, ReplyClass::Dns) };
        host.failure(account, T + 10 + account, &failure, PROVEN)
    };
    let due: Vec<bool> = (0..14).map(|account| dns(&mut host, account).0).collect();
    assert!(due.iter().all(|due| !due));
    assert_eq!(dns(&mut host, 14), (true, 14));
    assert_eq!(host.standing(T + 30), ["dns"]);
    assert!(!host.fails(20, T + 30, "far.test").0, "another class counts");
}

#[test]
fn an_address_of_ours_that_receivers_name_is_told() {
    let mut host = Host::new(3);
    let named = Failure { own_address: "192.0.2.25".parse().ok(), ..refusal("far.test", ReplyClass::Spam) };
    let due = [0, 0, 1].map(|account| host.failure(account, T + 5, &named, PROVEN).0);
    assert_eq!(due, [false, false, true]);
    assert_eq!(host.standing(T + 5), ["192.0.2.25"]);
    let [News { incident, over: false }] = &host.incidents.take_news()[..] else { panic!("one is told") };
    assert_eq!(incident.text(), "receivers refuse this host's address 192.0.2.25 (3 refusals, 2 accounts)");
    host.restart();
    host.incidents.forget(Owner(100));
    host.restart();
    assert_eq!(host.incidents.count, 1, "who is forgotten is not kept");
}

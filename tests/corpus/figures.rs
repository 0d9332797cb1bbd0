//! The figures of the replay contract, in a type of the tests' own: the product's `Counts` is what is being tested.

use std::collections::BTreeMap;

use serde_json::Value;

/// COUNTS of the design: recipients, but for `messages`, and `deferred`, which counts attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    pub messages: u64,
    pub recipients: u64,
    pub sent: u64,
    pub bounced: u64,
    pub expired: u64,
    pub deleted: u64,
    pub unaccounted: u64,
    pub deferred: u64,
    pub queued: u64,
    pub held: u64,
}

impl Figures {
    pub const NAMES: [&'static str; 10] = [
        "messages",
        "recipients",
        "sent",
        "bounced",
        "expired",
        "deleted",
        "unaccounted",
        "deferred",
        "queued",
        "held",
    ];

    pub fn values(&self) -> [u64; 10] {
        [
            self.messages,
            self.recipients,
            self.sent,
            self.bounced,
            self.expired,
            self.deleted,
            self.unaccounted,
            self.deferred,
            self.queued,
            self.held,
        ]
    }

    pub fn from_values(v: [u64; 10]) -> Figures {
        let [messages, recipients, sent, bounced, expired, deleted, unaccounted, deferred, queued, held] = v;
        Figures { messages, recipients, sent, bounced, expired, deleted, unaccounted, deferred, queued, held }
    }

    pub fn add(&mut self, other: &Figures) {
        let (a, b) = (self.values(), other.values());
        *self = Figures::from_values(std::array::from_fn(|i| a[i] + b[i]));
    }

    /// Missing figures are zero.
    pub fn from_json(value: &Value) -> Figures {
        Figures::from_values(Figures::NAMES.map(|name| value.get(name).and_then(Value::as_u64).unwrap_or(0)))
    }

    pub fn is_zero(&self) -> bool {
        *self == Figures::default()
    }

    pub fn balance(&self) -> bool {
        self.recipients == self.sent + self.bounced + self.expired + self.deleted + self.unaccounted + self.queued
            && self.held <= self.queued
    }
}

/// The three parts of a replay's answer that carry figures.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Books {
    pub accounts: BTreeMap<String, Figures>,
    pub unattributed: BTreeMap<String, Figures>,
    /// Only of a replay or an expectation: what it said the totals are.
    pub said: Option<Figures>,
}

impl Books {
    pub fn account(&mut self, name: &str) -> &mut Figures {
        if !self.accounts.contains_key(name) {
            self.accounts.insert(name.to_owned(), Figures::default());
        }
        self.accounts.get_mut(name).expect("just inserted")
    }

    pub fn reason(&mut self, name: &str) -> &mut Figures {
        if !self.unattributed.contains_key(name) {
            self.unattributed.insert(name.to_owned(), Figures::default());
        }
        self.unattributed.get_mut(name).expect("just inserted")
    }

    /// The totals as said, or else the sum of all accounts and all that is unattributed.
    pub fn totals(&self) -> Figures {
        self.said.unwrap_or_else(|| {
            let mut sum = Figures::default();
            self.accounts.values().chain(self.unattributed.values()).for_each(|f| sum.add(f));
            sum
        })
    }

    /// Reads the answer of `replay --format json` (COUNTS per reason in `unattributed_by_reason`), or an expectation (in `unattributed`).
    pub fn from_json(json: &Value) -> Books {
        let part = |name: &str| -> BTreeMap<String, Figures> {
            let rows = json.get(name).and_then(Value::as_object);
            let rows = rows.into_iter().flatten().filter(|(_, v)| v.is_object());
            rows.map(|(k, v)| (k.clone(), Figures::from_json(v))).filter(|(_, f)| !f.is_zero()).collect()
        };
        Books {
            accounts: part("accounts"),
            unattributed: if json["unattributed_by_reason"].is_object() {
                part("unattributed_by_reason")
            } else {
                part("unattributed")
            },
            said: json.get("totals").map(Figures::from_json),
        }
    }

    /// Every difference between `self`, which must hold, and `got`; empty when they agree.
    /// With `listed_only`, accounts that `self` does not name may be anything (the totals still bind them).
    pub fn differences(&self, got: &Books, listed_only: bool) -> Vec<String> {
        let mut out = Vec::new();
        let mut compare = |what: &str, want: &Figures, got: &Figures| {
            for (i, name) in Figures::NAMES.iter().enumerate() {
                let (w, g) = (want.values()[i], got.values()[i]);
                if w != g {
                    out.push(format!("{what}: {name} is {g}, must be {w}"));
                }
            }
        };
        compare("totals", &self.totals(), &got.totals());
        let zero = Figures::default();
        for (kind, mine, theirs) in
            [("account", &self.accounts, &got.accounts), ("unattributed", &self.unattributed, &got.unattributed)]
        {
            let names: std::collections::BTreeSet<&String> = match listed_only {
                true => mine.keys().collect(),
                false => mine.keys().chain(theirs.keys()).collect(),
            };
            for name in names {
                let (w, g) = (mine.get(name).unwrap_or(&zero), theirs.get(name).unwrap_or(&zero));
                compare(&format!("{kind} {name}"), w, g);
            }
        }
        out
    }
}

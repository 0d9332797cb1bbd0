//! The gate's tape, read as far as lines of the log need it.
//!
//! The gate writes down whose a message is before the mail server is told to hold it, and so before the log tells of it. Of
//! mail by SMTP without a login only the gate knows that, from the socket it came by: it is asked for as the line is read,
//! and a message counts for its account from the beginning. What is counted cannot be moved to another one later.

use crate::app::gate::Gate;
use crate::host::tape::{Position, Record};
use crate::mail::{Owner, Place};
use std::collections::BTreeMap;
use std::sync::Arc;

pub struct Ahead {
    gate: Arc<Gate>,
    position: Position,
    records: Vec<Record>,
    owners: BTreeMap<Place, Owner>,
    bad: u64,
    trouble: Option<String>,
}

/// What was read, up to where.
pub(super) struct Heard {
    pub records: Vec<Record>,
    /// Lines that are no records.
    pub bad: u64,
    pub position: Position,
    /// Why there is not more.
    pub trouble: Option<String>,
}

impl Ahead {
    /// `position`: up to there it was remembered before.
    pub fn new(gate: Arc<Gate>, position: Position) -> Ahead {
        let (records, owners) = (Vec::new(), BTreeMap::new());
        Ahead { gate, position, records, owners, bad: 0, trouble: None }
    }

    /// Whose a message is that the gate has held and that is not remembered yet.
    pub fn holder(&mut self, place: &Place) -> Option<Owner> {
        if !self.owners.contains_key(place) {
            self.read();
        }
        self.owners.get(place).copied()
    }

    /// Everything that is on the tape by now, to be remembered.
    pub(super) fn take(&mut self) -> Heard {
        self.read();
        self.owners.clear();
        let (records, bad) = (std::mem::take(&mut self.records), std::mem::take(&mut self.bad));
        Heard { records, bad, position: self.position, trouble: self.trouble.take() }
    }

    fn read(&mut self) {
        loop {
            match self.gate.tape.read(self.position) {
                Ok((_, _, position)) if position == self.position => return,
                Ok((records, bad, position)) => {
                    for record in records.iter().filter(|record| record.lost.is_none()) {
                        self.owners.insert(record.place(), record.owner);
                    }
                    self.records.extend(records);
                    self.bad += bad;
                    self.position = position;
                }
                Err(why) => {
                    self.trouble = Some(why.to_string());
                    return;
                }
            }
        }
    }
}

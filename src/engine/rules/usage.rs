//! What is counted of one subject, in the order of the slots, and when each rule spoke last.

use super::busiest::Busiest;
use super::distinct::Distinct;
use super::history::History;
use super::known::Known;
use super::slots::{Shape, Slot};
use super::window::Window;
use crate::engine::codec::{Reader, Writer};
use thin_vec::ThinVec;

/// Codes of what is remembered for long, in a row: behind those of the shapes.
const KNOWN: u8 = 64;
const HISTORY: u8 = 65;

/// What one slot has counted.
pub enum Cell<'u> {
    Count(&'u mut Window),
    /// Errors, and recipients that ended.
    Ratio(&'u mut Window, &'u mut Window),
    Distinct(&'u mut Distinct),
    /// A number that the books have.
    Level,
    New(&'u mut Window, &'u mut Known),
    Busiest(&'u mut Busiest),
    History(&'u mut Window, &'u mut History),
}

/// See the module. Small: there is one for each account, and what an account has nothing of takes little room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Which of the rules are about the subject: one bit each. Nothing while that is not `known`.
    rules: u64,
    known: bool,
    /// It waits to be stored whole.
    pub waits: bool,
    /// It has changed since the gate was told.
    pub moved: bool,
    /// Up to which record of the store it is whole.
    pub recorded: u64,
    windows: Box<[Window]>,
    distincts: ThinVec<Distinct>,
    /// These come to be when they are needed first.
    known_to: ThinVec<Known>,
    scripts: ThinVec<Busiest>,
    histories: ThinVec<History>,
    /// When rules spoke: the rule's identity, and the second.
    told: ThinVec<(u64, u32)>,
}

impl Usage {
    /// `slots`: those of subjects of its kind.
    pub fn new<'s>(slots: impl Iterator<Item = &'s Slot> + Clone) -> Usage {
        let windows = slots.clone().map(|slot| slot.shape.windows()).sum();
        let distincts = slots.filter(|slot| slot.shape == Shape::Distinct).count();
        Usage {
            rules: 0,
            known: false,
            waits: false,
            moved: false,
            recorded: 0,
            windows: vec![Window::default(); windows].into(),
            distincts: std::iter::repeat_with(Distinct::default).take(distincts).collect(),
            known_to: ThinVec::new(),
            scripts: ThinVec::new(),
            histories: ThinVec::new(),
            told: ThinVec::new(),
        }
    }

    #[inline]
    pub fn cell(&mut self, slot: &Slot) -> Option<Cell<'_>> {
        let (at, more) = (usize::from(slot.place), usize::from(slot.more));
        match slot.shape {
            Shape::Count => self.windows.get_mut(at).map(Cell::Count),
            Shape::Ratio => match self.windows.get_mut(at..)? {
                [errors, ended, ..] => Some(Cell::Ratio(errors, ended)),
                _ => None,
            },
            Shape::Distinct => self.distincts.get_mut(more).map(Cell::Distinct),
            Shape::Level => Some(Cell::Level),
            Shape::New => Some(Cell::New(self.windows.get_mut(at)?, existing(&mut self.known_to, more)?)),
            Shape::Busiest => existing(&mut self.scripts, more).map(Cell::Busiest),
            Shape::History => Some(Cell::History(self.windows.get_mut(at)?, existing(&mut self.histories, more)?)),
        }
    }

    /// What lies there already: nothing comes to be.
    fn cell_if_any(&mut self, slot: &Slot) -> Option<Cell<'_>> {
        let made = match slot.shape {
            Shape::New => self.known_to.len(),
            Shape::Busiest => self.scripts.len(),
            Shape::History => self.histories.len(),
            _ => usize::MAX,
        };
        if usize::from(slot.more) < made { self.cell(slot) } else { None }
    }

    /// Whom it knows, all slots together: bytes, and when that was asked last.
    pub fn memory(&self) -> Option<(usize, u32)> {
        let asked = self.known_to.iter().map(Known::asked).max()?;
        Some((self.known_to.iter().map(Known::bytes).sum(), asked))
    }

    /// It knows nobody any more: as if it had not been heard of.
    pub fn drop_memory(&mut self) {
        self.known_to.iter_mut().for_each(|known| *known = Known::default());
    }

    /// Looks at what the next count will change.
    #[inline]
    pub fn look(&self) -> u64 {
        let known = self.known_to.first().map_or(0, Known::touch);
        self.windows.iter().fold(known, |seen, window| seen ^ window.touch())
    }

    /// Which of the rules are about it, found out when it is asked first.
    pub fn rules(&mut self, find: impl FnOnce() -> u64) -> u64 {
        if !self.known {
            (self.rules, self.known) = (find(), true);
        }
        self.rules
    }

    /// When rules spoke: their identities, and the seconds.
    pub fn spoke(&self) -> Vec<(u64, u32)> {
        self.told.to_vec()
    }

    /// A rule speaks of a subject once in its window.
    pub fn may_tell(&mut self, rule: u64, now: u32, window: u32) -> bool {
        match self.told.iter_mut().find(|(told, _)| *told == rule) {
            // A clock that was set back makes nobody wait for longer.
            Some((_, at)) if now >= *at && now - *at < window => false,
            Some((_, at)) => {
                *at = now;
                true
            }
            None => {
                if self.told.len() == self.told.capacity() {
                    self.told.reserve_exact(1);
                }
                self.told.push((rule, now));
                true
            }
        }
    }

    /// These rules have not spoken.
    pub fn pardon(&mut self, rules: &[u64]) {
        self.told.retain(|(rule, _)| !rules.contains(rule));
    }

    /// Only what the slots can hold again.
    pub fn write<'s>(&mut self, slots: impl Iterator<Item = &'s Slot>, out: &mut Writer) {
        out.u64(self.recorded).u64(self.told.len() as u64);
        for (rule, at) in &self.told {
            out.u64(*rule).u32(*at);
        }
        for slot in slots {
            let mut head = || {
                out.u64(slot.identity).u64(slot.shape as u64);
            };
            match self.cell_if_any(slot) {
                Some(Cell::Count(window)) if !window.is_empty() => {
                    head();
                    write_window(window, out);
                }
                Some(Cell::Ratio(errors, ended)) if !errors.is_empty() || !ended.is_empty() => {
                    head();
                    write_window(errors, out);
                    write_window(ended, out);
                }
                Some(Cell::Distinct(distinct)) if !distinct.is_empty() => {
                    head();
                    let entries = distinct.entries();
                    out.u64(entries.len() as u64);
                    for (hash, bucket) in entries {
                        out.u64(hash).u32(bucket);
                    }
                }
                Some(Cell::New(window, known)) => {
                    if !window.is_empty() {
                        head();
                        write_window(window, out);
                    }
                    if slot.keeps && !known.is_empty() {
                        out.u64(slot.memory).u64(u64::from(KNOWN));
                        known.write(out);
                    }
                }
                Some(Cell::Busiest(busiest)) if !busiest.is_empty() => {
                    head();
                    busiest.write(out, write_window);
                }
                Some(Cell::History(window, history)) => {
                    if !window.is_empty() {
                        head();
                        write_window(window, out);
                    }
                    if slot.keeps && !history.is_empty() {
                        out.u64(slot.memory).u64(u64::from(HISTORY));
                        history.write(out);
                    }
                }
                _ => {}
            }
        }
    }

    /// From what [`write`](Usage::write) wrote. What belongs to a slot that there is no more is left out.
    pub fn read<'s>(slots: impl Iterator<Item = &'s Slot> + Clone, saved: &mut Reader<'_>) -> Option<Usage> {
        let mut usage = Usage::new(slots.clone());
        usage.recorded = saved.u64()?;
        for _ in 0..saved.u64()? {
            usage.told.push((saved.u64()?, saved.u32()?));
        }
        while !saved.is_empty() {
            let (identity, code) = (saved.u64()?, saved.u8()?);
            let keeper = || slots.clone().find(|slot| slot.keeps && slot.memory == identity);
            if code == KNOWN {
                let read = Known::read(saved)?;
                if let Some(Cell::New(_, known)) = keeper().and_then(|slot| usage.cell(slot)) {
                    *known = read;
                }
                continue;
            }
            if code == HISTORY {
                let read = History::read(saved)?;
                if let Some(Cell::History(_, history)) = keeper().and_then(|slot| usage.cell(slot)) {
                    *history = read;
                }
                continue;
            }
            let shape = Shape::from_code(code)?;
            let slot = slots.clone().find(|slot| slot.identity == identity && slot.shape == shape);
            let place = slot.and_then(|slot| usage.cell(slot));
            match shape {
                Shape::Count => {
                    let read = read_window(saved)?;
                    if let Some(Cell::Count(window)) = place {
                        *window = read;
                    }
                }
                Shape::Ratio => {
                    let read = (read_window(saved)?, read_window(saved)?);
                    if let Some(Cell::Ratio(errors, ended)) = place {
                        (*errors, *ended) = read;
                    }
                }
                Shape::Distinct => {
                    let mut entries = Vec::new();
                    for _ in 0..saved.u64()? {
                        entries.push((saved.u64()?, saved.u32()?));
                    }
                    if let Some(Cell::Distinct(distinct)) = place {
                        *distinct = Distinct::from_entries(entries);
                    }
                }
                Shape::Level => {}
                Shape::New => {
                    let read = read_window(saved)?;
                    if let Some(Cell::New(window, _)) = place {
                        *window = read;
                    }
                }
                Shape::Busiest => {
                    let read = Busiest::read(saved, read_window)?;
                    if let Some(Cell::Busiest(busiest)) = place {
                        *busiest = read;
                    }
                }
                Shape::History => {
                    let read = read_window(saved)?;
                    if let Some(Cell::History(window, _)) = place {
                        *window = read;
                    }
                }
            }
        }
        Some(usage)
    }

    /// The same for other slots: what they share with those before is kept.
    pub fn move_to<'s>(
        &mut self,
        before: impl Iterator<Item = &'s Slot> + Clone,
        slots: impl Iterator<Item = &'s Slot> + Clone,
    ) {
        let mut new = Usage::new(slots.clone());
        let keepers = slots.clone().filter(|slot| slot.keeps);
        for slot in slots {
            let old = before.clone().find(|old| old.identity == slot.identity && old.shape == slot.shape);
            let Some(old) = old.and_then(|old| self.cell_if_any(old)) else { continue };
            match (old, new.cell(slot)) {
                (Cell::Count(old), Some(Cell::Count(new))) => std::mem::swap(old, new),
                (Cell::Distinct(old), Some(Cell::Distinct(new))) => std::mem::swap(old, new),
                (Cell::Ratio(errors, ended), Some(Cell::Ratio(new_errors, new_ended))) => {
                    std::mem::swap(errors, new_errors);
                    std::mem::swap(ended, new_ended);
                }
                (Cell::New(window, _), Some(Cell::New(new_window, _))) => std::mem::swap(window, new_window),
                (Cell::Busiest(old), Some(Cell::Busiest(new))) => std::mem::swap(old, new),
                (Cell::History(window, _), Some(Cell::History(new_window, _))) => std::mem::swap(window, new_window),
                _ => {}
            }
        }
        // What is remembered for long stays, also with other windows.
        for slot in keepers {
            let old = before.clone().find(|old| old.keeps && old.memory == slot.memory);
            let Some(old) = old.and_then(|old| self.cell_if_any(old)) else { continue };
            match (old, new.cell(slot)) {
                (Cell::New(_, old), Some(Cell::New(_, new))) => std::mem::swap(old, new),
                (Cell::History(_, old), Some(Cell::History(_, new))) => std::mem::swap(old, new),
                _ => {}
            }
        }
        (self.windows, self.distincts, self.known) = (new.windows, new.distincts, false);
        (self.known_to, self.scripts, self.histories) = (new.known_to, new.scripts, new.histories);
    }
}

/// The one at a place, which comes to be with those before it.
#[inline]
fn existing<T: Default>(list: &mut ThinVec<T>, at: usize) -> Option<&mut T> {
    if at >= list.len() {
        list.reserve_exact(at + 1 - list.len());
        (list.len()..=at).for_each(|_| list.push(T::default()));
    }
    list.get_mut(at)
}

fn write_window(window: &Window, out: &mut Writer) {
    out.u64(window.cells().count() as u64);
    let mut before = 0;
    for (bucket, n) in window.cells() {
        out.u32(bucket.wrapping_sub(before)).u32(n);
        before = bucket;
    }
}

fn read_window(saved: &mut Reader<'_>) -> Option<Window> {
    let mut cells = Vec::new();
    let mut before = 0_u32;
    for _ in 0..saved.u64()? {
        before = before.checked_add(saved.u32()?)?;
        cells.push((before, saved.u32()?));
        if cells.len() > 61 {
            return None;
        }
    }
    Window::from_cells(cells)
}

/// The value of a signal of which `errors` of `ended` are the material: the lower bound of Wilson's interval at 95 %, in
/// tenths of a percent. Of a small sample it is far below what was seen: 5 of 5 are 566.
pub fn lower_bound(errors: u64, ended: u64) -> u64 {
    if ended == 0 {
        return 0;
    }
    const Z: f64 = 1.96;
    let (errors, n) = (errors.min(ended) as f64, ended as f64);
    let share = errors / n;
    let square = Z * Z / n;
    let middle = share + square / 2.0;
    let width = Z * (share * (1.0 - share) / n + square / (4.0 * n)).sqrt();
    ((middle - width) / (1.0 + square) * 1_000.0).max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_sample_proves_little() {
        for (errors, ended, least, most) in [
            (0, 0, 0, 0),
            (5, 5, 560, 570),
            (0, 1_000, 0, 0),
            (30, 100, 210, 225),
            (300, 1_000, 270, 275),
            (9, 3, 430, 440),
        ] {
            let bound = lower_bound(errors, ended);
            assert!((least..=most).contains(&bound), "{errors} of {ended}: {bound}");
        }
    }

    #[test]
    fn what_is_remembered_stays_when_windows_change_and_over_a_restart() {
        use super::super::rule::Rule;
        use super::super::slots::Slots;
        use crate::mail::Signal;
        let rule = |signal, window| Rule::new("r", signal, window, 5);
        let both = |signal| [rule(signal, 3_600), rule(signal, 86_400)];
        let before = Slots::new(&[both(Signal::NewRecipients), both(Signal::AgainstHistory)].concat());
        let after = Slots::new(&[rule(Signal::AgainstHistory, 7_200), rule(Signal::NewRecipients, 60)]);
        let keepers = before.list.iter().map(|slot| slot.keeps).collect::<Vec<_>>();
        assert_eq!((keepers, after.list[1].memory), (vec![true, false, true, false], before.list[0].memory));
        let mut usage = Usage::new(before.those_of(false));
        for slot in before.list.iter().filter(|slot| slot.keeps) {
            match usage.cell(slot) {
                Some(Cell::New(_, known)) => _ = known.add(7, 1_000),
                Some(Cell::History(_, history)) => (0..3).for_each(|_| history.add(1_000)),
                _ => {}
            }
        }
        let mut out = Writer::default();
        usage.write(before.those_of(false), &mut out);
        let mut read = Usage::read(after.those_of(false), &mut Reader::new(&out.bytes)).unwrap();
        usage.move_to(before.those_of(false), after.those_of(false));
        for usage in [&mut usage, &mut read] {
            let mut out = Writer::default();
            usage.write(after.those_of(false), &mut out);
            let is_kept = |one: &[u8]| out.bytes.windows(one.len()).any(|bytes| bytes == one);
            let (mut known, mut history) = (super::super::known::Known::default(), History::default());
            known.add(7, 1_000);
            (0..3).for_each(|_| history.add(1_000));
            let (mut known_row, mut history_row) = (Writer::default(), Writer::default());
            known.write(&mut known_row);
            history.write(&mut history_row);
            assert!(is_kept(&known_row.bytes) && is_kept(&history_row.bytes));
        }
    }

    #[test]
    fn a_rule_speaks_once_in_its_window() {
        let mut usage = Usage::new([].iter());
        let told = [100, 159, 160, 90, 149, 150].map(|now| usage.may_tell(7, now, 60));
        assert_eq!(told, [true, false, true, true, false, true]);
        assert!(usage.may_tell(8, 150, 60));
    }
}

//! What is counted of one subject: a cell for each slot of the rules, and when each rule spoke last.

use super::distinct::Distinct;
use super::slots::{Shape, Slot};
use super::window::Window;
use crate::engine::codec::{Reader, Writer};

/// What one slot has counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    Count(Window),
    /// Errors, and recipients that ended.
    Ratio(Box<(Window, Window)>),
    Distinct(Box<Distinct>),
    /// A number that the books have.
    Level,
}

impl Cell {
    fn new(shape: Shape) -> Cell {
        match shape {
            Shape::Count => Cell::Count(Window::default()),
            Shape::Ratio => Cell::Ratio(Box::default()),
            Shape::Distinct => Cell::Distinct(Box::default()),
            Shape::Level => Cell::Level,
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Cell::Count(window) => window.is_empty(),
            Cell::Ratio(both) => both.0.is_empty() && both.1.is_empty(),
            Cell::Distinct(distinct) => distinct.is_empty(),
            Cell::Level => true,
        }
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Which of the rules are about the subject: one bit each. `None` while that is not known.
    pub rules: Option<u64>,
    /// In the order of the slots.
    pub cells: Box<[Cell]>,
    /// When rules spoke: the rule's identity, and the second.
    pub told: Vec<(u64, u32)>,
    /// Up to which record of the store it is whole.
    pub recorded: u64,
    /// It waits to be stored whole.
    pub waits: bool,
}

impl Usage {
    pub fn new(slots: &[Slot]) -> Usage {
        Usage {
            rules: None,
            cells: slots.iter().map(|slot| Cell::new(slot.shape)).collect(),
            told: Vec::new(),
            recorded: 0,
            waits: false,
        }
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
                super::push_tight(&mut self.told, (rule, now));
                true
            }
        }
    }

    /// Only what the slots can hold again.
    pub fn write(&self, slots: &[Slot], out: &mut Writer) {
        out.u64(self.recorded).u64(self.told.len() as u64);
        for (rule, at) in &self.told {
            out.u64(*rule).u32(*at);
        }
        for (slot, cell) in slots.iter().zip(&self.cells).filter(|(_, cell)| !cell.is_empty()) {
            out.u64(slot.identity).u64(slot.shape as u64);
            match cell {
                Cell::Count(window) => write_window(window, out),
                Cell::Ratio(both) => {
                    write_window(&both.0, out);
                    write_window(&both.1, out);
                }
                Cell::Distinct(distinct) => {
                    let entries = distinct.entries();
                    out.u64(entries.len() as u64);
                    for (hash, bucket) in entries {
                        out.u64(hash).u32(bucket);
                    }
                }
                Cell::Level => {}
            }
        }
    }

    /// From what [`write`](Usage::write) wrote. What belongs to a slot that there is no more is left out.
    pub fn read(slots: &[Slot], saved: &mut Reader<'_>) -> Option<Usage> {
        let mut usage = Usage::new(slots);
        usage.recorded = saved.u64()?;
        for _ in 0..saved.u64()? {
            usage.told.push((saved.u64()?, saved.u32()?));
        }
        while !saved.is_empty() {
            let (identity, shape) = (saved.u64()?, Shape::from_code(saved.u8()?)?);
            let cell = match shape {
                Shape::Count => Cell::Count(read_window(saved)?),
                Shape::Ratio => Cell::Ratio(Box::new((read_window(saved)?, read_window(saved)?))),
                Shape::Distinct => {
                    let mut entries = Vec::new();
                    for _ in 0..saved.u64()? {
                        entries.push((saved.u64()?, saved.u32()?));
                    }
                    Cell::Distinct(Box::new(Distinct::from_entries(entries)))
                }
                Shape::Level => Cell::Level,
            };
            let at = slots.iter().position(|slot| slot.identity == identity && slot.shape == shape);
            if let Some(place) = at.and_then(|at| usage.cells.get_mut(at)) {
                *place = cell;
            }
        }
        Some(usage)
    }

    /// The same for other slots: what they share with those before is kept.
    pub fn move_to(&mut self, before: &[Slot], slots: &[Slot]) {
        let mut old: Vec<Option<Cell>> = std::mem::take(&mut self.cells).into_iter().map(Some).collect();
        let mut take = |slot: &Slot| {
            let at = before.iter().position(|old| old.identity == slot.identity)?;
            old.get_mut(at)?.take()
        };
        self.cells = slots.iter().map(|slot| take(slot).unwrap_or_else(|| Cell::new(slot.shape))).collect();
        self.rules = None;
    }
}

fn write_window(window: &Window, out: &mut Writer) {
    out.u64(window.cells().len() as u64);
    let mut before = 0;
    for (bucket, n) in window.cells() {
        out.u32(bucket.wrapping_sub(before)).u32(*n);
        before = *bucket;
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
    fn a_rule_speaks_once_in_its_window() {
        let mut usage = Usage::new(&[]);
        let told = [100, 159, 160, 90, 149, 150].map(|now| usage.may_tell(7, now, 60));
        assert_eq!(told, [true, false, true, true, false, true]);
        assert!(usage.may_tell(8, 150, 60));
    }
}

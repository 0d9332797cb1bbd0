//! Lines handed on together: whoever reads many at once keeps its code at hand, which one line after the other drives out
//! of the processor's cache.

/// Lines handed on at once.
const MOST: usize = 32;

/// Gathers lines and hands them on in their order.
pub struct Group<'a, 'f> {
    lines: Vec<&'a [u8]>,
    each: &'f mut dyn FnMut(&[&[u8]]),
}

impl<'a, 'f> Group<'a, 'f> {
    pub fn new(each: &'f mut dyn FnMut(&[&[u8]])) -> Group<'a, 'f> {
        Group { lines: Vec::with_capacity(MOST), each }
    }

    #[inline]
    pub fn push(&mut self, line: &'a [u8]) {
        self.lines.push(line);
        if self.lines.len() == MOST {
            self.hand_on();
        }
    }

    /// Hands on what there is.
    pub fn hand_on(&mut self) {
        if !self.lines.is_empty() {
            (self.each)(&self.lines);
            self.lines.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_comes_once_and_in_order() {
        let lines: Vec<Vec<u8>> = (0..100u8).map(|n| vec![n]).collect();
        let (mut got, mut calls) = (Vec::new(), 0);
        let mut each = |lines: &[&[u8]]| {
            calls += 1;
            got.extend(lines.iter().map(|line| line.to_vec()));
        };
        let mut group = Group::new(&mut each);
        for line in &lines {
            group.push(line);
        }
        group.hand_on();
        group.hand_on();
        assert_eq!((got, calls), (lines, 4));
    }
}

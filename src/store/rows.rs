//! Rows of other rooms' state, collected for a batch in two blocks of memory.
//!
//! A busy host changes tens of thousands of rows in a batch: a key and a value of their own for each would be most of what
//! collecting them costs. It knows nothing of what they say.

/// A piece of another room's state: set, or deleted when `value` is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub kind: u8,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// The same, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowRef<'a> {
    pub kind: u8,
    pub key: &'a [u8],
    pub value: Option<&'a [u8]>,
}

/// Changed rows, in the order they came.
#[derive(Debug, Default)]
pub struct Rows {
    /// Keys and values, one after the other.
    bytes: Vec<u8>,
    places: Vec<Place>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    key: usize,
    value: usize,
    kind: u8,
    gone: bool,
}

/// Bytes for which memory is kept: a usual turn has fewer.
const KEPT_BYTES: usize = 1 << 20;
const KEPT_ROWS: usize = 8_192;

impl Rows {
    pub fn push(&mut self, row: Row) {
        self.set(row.kind, &row.key, row.value.as_deref());
    }

    /// `value`: `None` deletes the row.
    pub fn set(&mut self, kind: u8, key: &[u8], value: Option<&[u8]>) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.places.push(Place { key: at, value: at + key.len(), kind, gone: value.is_none() });
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = RowRef<'_>> {
        let ends = self.places.iter().skip(1).map(|next| next.key).chain([self.bytes.len()]);
        self.places.iter().zip(ends).map(|(place, end)| RowRef {
            kind: place.kind,
            key: self.bytes.get(place.key..place.value).unwrap_or(&[]),
            value: if place.gone { None } else { Some(self.bytes.get(place.value..end).unwrap_or(&[])) },
        })
    }

    /// Empties it, keeping memory for a usual turn.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.places.clear();
        self.places.shrink_to(KEPT_ROWS);
    }
}

impl Extend<Row> for Rows {
    fn extend<T: IntoIterator<Item = Row>>(&mut self, rows: T) {
        rows.into_iter().for_each(|row| self.push(row));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_out_as_they_went_in() {
        let all = [
            Row { kind: 1, key: b"a".to_vec(), value: Some(b"one".to_vec()) },
            Row { kind: 2, key: vec![], value: None },
            Row { kind: 1, key: b"a".to_vec(), value: Some(vec![]) },
            Row { kind: 3, key: b"bc".to_vec(), value: None },
        ];
        let mut rows = Rows::default();
        for _ in 0..2 {
            rows.extend(all.clone());
            assert_eq!(rows.len(), 4);
            let out = rows.iter().map(|row| Row {
                kind: row.kind,
                key: row.key.to_vec(),
                value: row.value.map(<[u8]>::to_vec),
            });
            assert_eq!(out.collect::<Vec<_>>(), all);
            rows.clear();
            assert!(rows.is_empty() && rows.iter().next().is_none());
        }
    }
}

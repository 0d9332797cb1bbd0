//! The message index on disk: many records in one row.
//!
//! A row per message would be far too slow for a busy host, so records are packed and written as compressed *chunks*,
//! each with a Bloom filter over its keys. Small batches go to the *tail*, one uncompressed row each; when the tail
//! is long enough it becomes a chunk. All of it happens inside the batch's transaction, so a crash loses nothing.

use rusqlite::{Connection, params};

use super::bloom;
use super::leg::{self, Keys};
use crate::mail::LegFact;

/// A chunk is closed when its records reach this many bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// Batches with less than this go to the tail.
const TAIL_BATCH_BYTES: usize = 32 << 10;
/// The tail becomes a chunk at this many rows.
const TAIL_ROWS: u64 = 256;
/// A chunk holds what ended within a day, in microseconds: whole chunks are deleted, and retention counts in days.
const CHUNK_SPAN: i64 = 86_400_000_000;
/// No chunk is larger than this when unpacked: one closed chunk and one record of the largest size.
const MAX_UNPACKED: usize = 4 << 20;

/// Records collected for a batch, cut into future chunks.
#[derive(Debug, Default)]
pub(super) struct IndexBuffer {
    data: Vec<u8>,
    hashes: Vec<u64>,
    cuts: Vec<Cut>,
    open: Cut,
    records: usize,
}

/// A run of records: where it ends in `data` and `hashes`, and what time it spans.
#[derive(Debug, Clone, Copy, Default)]
struct Cut {
    start: usize,
    end: usize,
    hashes_start: usize,
    hashes_end: usize,
    records: u32,
    first: i64,
    last: i64,
}

impl IndexBuffer {
    pub fn push(&mut self, fact: &LegFact<'_>) {
        let full = self.open.end - self.open.start >= CHUNK_BYTES;
        if full || (self.open.records > 0 && (fact.last.0 - self.open.last).abs() > CHUNK_SPAN) {
            self.cuts.push(self.open);
            let (data, hashes) = (self.data.len(), self.hashes.len());
            self.open = Cut { start: data, hashes_start: hashes, ..Cut::default() };
        }
        leg::encode(fact, &mut self.data);
        leg::push_hashes(fact, &mut self.hashes);
        self.records += 1;
        self.open.span(fact.first.0, fact.last.0);
        self.open.end = self.data.len();
        self.open.hashes_end = self.hashes.len();
    }

    pub fn records(&self) -> usize {
        self.records
    }

    pub fn clear(&mut self) {
        self.data.clear();
        self.hashes.clear();
        self.cuts.clear();
        self.open = Cut::default();
        self.records = 0;
    }
}

impl Cut {
    fn span(&mut self, first: i64, last: i64) {
        let (low, high) = (first.min(last), first.max(last));
        if self.records == 0 {
            (self.first, self.last) = (low, high);
        } else {
            (self.first, self.last) = (self.first.min(low), self.last.max(high));
        }
        self.records += 1;
    }
}

/// What the tables of the index hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct IndexState {
    pub tail_rows: u64,
    pub tail_bytes: u64,
    /// The latest time of the tail's oldest row; 0 without a tail.
    pub tail_since: i64,
    /// Bytes of all chunks, filters included.
    pub chunk_bytes: u64,
}

impl IndexState {
    pub fn read(conn: &Connection) -> rusqlite::Result<IndexState> {
        let (tail_rows, tail_bytes, tail_since): (i64, i64, i64) = conn.query_row(
            "SELECT count(*), coalesce(sum(length(data)), 0), coalesce(min(last_time), 0) FROM message_tail",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        let chunk_bytes: i64 =
            conn.query_row("SELECT coalesce(sum(bytes), 0) FROM message_chunk", [], |row| row.get(0))?;
        Ok(IndexState {
            tail_rows: tail_rows.unsigned_abs(),
            tail_bytes: tail_bytes.unsigned_abs(),
            tail_since,
            chunk_bytes: chunk_bytes.unsigned_abs(),
        })
    }
}

/// Writes the collected records and returns what the tables hold then.
pub(super) fn write(conn: &Connection, buffer: &IndexBuffer, mut state: IndexState) -> rusqlite::Result<IndexState> {
    let mut hashes = Vec::new();
    for cut in buffer.cuts.iter().chain((buffer.open.records > 0).then_some(&buffer.open)) {
        let data = buffer.data.get(cut.start..cut.end).unwrap_or(&[]);
        if data.len() < TAIL_BATCH_BYTES && buffer.cuts.is_empty() {
            if state.tail_rows > 0 && (cut.last - state.tail_since).abs() > CHUNK_SPAN {
                state.close_tail(conn)?;
            }
            if state.tail_rows == 0 {
                state.tail_since = cut.last;
            }
            conn.prepare_cached(
                "INSERT INTO message_tail(first_time, last_time, records, data) VALUES(?1, ?2, ?3, ?4)",
            )?
            .execute(params![cut.first, cut.last, cut.records, data])?;
            state.tail_rows += 1;
            state.tail_bytes += data.len() as u64;
        } else {
            hashes.clear();
            hashes.extend_from_slice(buffer.hashes.get(cut.hashes_start..cut.hashes_end).unwrap_or(&[]));
            state.chunk_bytes += insert(conn, None, data, cut, &mut hashes)?;
        }
    }
    if state.tail_rows >= TAIL_ROWS || state.tail_bytes >= CHUNK_BYTES as u64 {
        state.close_tail(conn)?;
    }
    Ok(state)
}

impl IndexState {
    /// The tail becomes a chunk.
    fn close_tail(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        *self = IndexState { chunk_bytes: self.chunk_bytes + merge_tail(conn)?, ..IndexState::default() };
        Ok(())
    }
}

fn merge_tail(conn: &Connection) -> rusqlite::Result<u64> {
    let mut data = Vec::new();
    {
        let mut statement = conn.prepare_cached("SELECT data FROM message_tail ORDER BY id")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            data.extend_from_slice(row.get_ref(0)?.as_blob()?);
        }
    }
    let bytes = insert_records(conn, None, &data)?;
    conn.prepare_cached("DELETE FROM message_tail")?.execute([])?;
    Ok(bytes)
}

/// Writes unpacked records as one chunk, under its old number when it had one. Unreadable records are left out.
/// Returns the bytes it takes; 0 when there was no record, and then nothing is written.
pub(super) fn insert_records(conn: &Connection, id: Option<i64>, data: &[u8]) -> rusqlite::Result<u64> {
    let mut cut = Cut::default();
    let mut hashes = Vec::new();
    for keys in leg::records(data).filter_map(|packed| packed?.keys()) {
        cut.span(keys.first, keys.last);
        push_hashes(&keys, &mut hashes);
    }
    if cut.records == 0 {
        return Ok(0);
    }
    insert(conn, id, data, &cut, &mut hashes)
}

fn push_hashes(keys: &Keys<'_>, hashes: &mut Vec<u64>) {
    use bloom::Key;
    hashes.push(bloom::owner_hash(keys.owner));
    for id in [keys.id, keys.parent].into_iter().chain(keys.recipients.iter().map(|(_, next)| *next)) {
        if !id.is_empty() {
            hashes.push(bloom::hash(Key::Queue, id));
        }
    }
    if !keys.message_id.is_empty() {
        hashes.push(bloom::hash(Key::MessageId, keys.message_id));
    }
    hashes.extend(keys.recipients.iter().map(|(address, _)| bloom::hash(Key::Recipient, address)));
}

fn insert(conn: &Connection, id: Option<i64>, data: &[u8], cut: &Cut, hashes: &mut Vec<u64>) -> rusqlite::Result<u64> {
    let packed = lz4_flex::block::compress_prepend_size(data);
    let filter = bloom::build(hashes);
    let bytes = (packed.len() + filter.len()) as u64;
    conn.prepare_cached(
        "INSERT INTO message_chunk(id, first_time, last_time, records, bytes, filter, data)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![id, cut.first, cut.last, cut.records, bytes as i64, filter, packed])?;
    Ok(bytes)
}

/// The records of a chunk; `None` when the chunk is damaged or claims an absurd size.
pub(super) fn unpack(data: &[u8]) -> Option<Vec<u8>> {
    let (size, packed) = lz4_flex::block::uncompressed_size(data).ok()?;
    if size > MAX_UNPACKED {
        return None;
    }
    lz4_flex::block::decompress(packed, size).ok()
}

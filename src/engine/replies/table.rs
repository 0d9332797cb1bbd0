//! The built-in rows, and a thrifty way to find the first that matches.
//!
//! Every row begins with one of a few words. One automaton finds these words in a reply in a single pass; a row is then
//! tried only where it could begin. Tried at one place, it needs few states: all rows share one lazily built automaton
//! and one small cache. Matched everywhere at once, the same rows took many times the memory and the time.

use crate::mail::ReplyClass;
use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind, PatternID};
use regex_syntax::hir::literal::{Extractor, Seq};
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};

/// Longest beginning that is looked for: more of a word tells little more.
const BEGINNING: usize = 6;
/// Most beginnings of a row.
const BEGINNINGS: usize = 1_000;
/// States that are kept. Thrown away and built anew when they are too many.
const CACHE_BYTES: usize = 16 << 20;
/// Texts whose row is remembered, and the longest of them: who refuses a lot says the same each time.
const REMEMBERED: usize = 4_096;
const REMEMBERED_BYTES: usize = 512;
/// All rows compiled.
const COMPILED_BYTES: usize = 8 << 20;

/// Class and pattern of every row of the file, the words that several rows share put in.
pub(super) fn rows() -> Vec<(ReplyClass, String)> {
    let lines = include_str!("table.txt").lines().filter(|line| !line.starts_with('#'));
    let (mut shared, mut rows) = (Vec::new(), Vec::new());
    for (name, pattern) in lines.filter_map(|line| line.split_once(' ')) {
        if name.starts_with('%') {
            shared.push((name, pattern));
        } else if let Some(class) = ReplyClass::from_name(name) {
            let put_in = |row: String, (name, words): &(&str, &str)| row.replace(name, words);
            rows.push((class, shared.iter().fold(pattern.trim_start().to_owned(), put_in)));
        }
    }
    rows
}

/// The rows, compiled.
#[derive(Debug)]
pub(super) struct Table {
    beginnings: AhoCorasick,
    /// The rows that begin so, by beginning.
    begun: Vec<Vec<PatternID>>,
    all: DFA,
    pub(super) kept: Mutex<Kept>,
}

#[derive(Debug)]
pub(super) struct Kept {
    pub(super) states: Cache,
    /// By the hash of the text.
    judged: Box<[Option<Judged>]>,
}

#[derive(Debug, Clone)]
struct Judged {
    words: Box<[u8]>,
    row: Option<PatternID>,
}

impl Table {
    /// `None` when a pattern is wrong, or begins with no word.
    pub fn new(rows: &[(ReplyClass, String)]) -> Option<Table> {
        let patterns: Vec<&str> = rows.iter().map(|(_, pattern)| pattern.as_str()).collect();
        let mut words: BTreeMap<Vec<u8>, Vec<PatternID>> = BTreeMap::new();
        for (row, pattern) in patterns.iter().enumerate() {
            for word in beginnings(pattern)?.literals()? {
                words.entry(word.as_bytes().to_vec()).or_default().push(PatternID::new(row).ok()?);
            }
        }
        let beginnings = AhoCorasick::builder().kind(Some(AhoCorasickKind::ContiguousNFA)).build(words.keys()).ok()?;
        let nfa = thompson::Config::new()
            .utf8(false)
            .nfa_size_limit(Some(COMPILED_BYTES))
            .which_captures(thompson::WhichCaptures::None);
        let dfa = DFA::config()
            .match_kind(MatchKind::All)
            .starts_for_each_pattern(true)
            .cache_capacity(CACHE_BYTES)
            .skip_cache_capacity_check(true);
        let all = DFA::builder().configure(dfa).thompson(nfa).syntax(bytes()).build_many(&patterns).ok()?;
        let kept = Kept { states: all.create_cache(), judged: vec![None; REMEMBERED].into() };
        Some(Table { beginnings, begun: words.into_values().collect(), all, kept: Mutex::new(kept) })
    }

    /// The first row that matches anywhere in the words, which are in small letters already.
    pub fn first(&self, words: &[u8]) -> Option<usize> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Kept { states, judged } = &mut *kept;
        let hash = foldhash::fast::FixedState::default().hash_one(words);
        let place = judged.get_mut(hash as usize % REMEMBERED).filter(|_| words.len() <= REMEMBERED_BYTES);
        if let Some(Some(known)) = &place
            && *known.words == *words
        {
            return known.row.map(|row| row.as_usize());
        }
        let row = self.search(words, states);
        if let Some(place) = place {
            *place = Some(Judged { words: words.into(), row });
        }
        row.map(|row| row.as_usize())
    }

    pub(super) fn search(&self, words: &[u8], states: &mut Cache) -> Option<PatternID> {
        let mut best: Option<PatternID> = None;
        for hit in self.beginnings.find_overlapping_iter(words) {
            for row in self.begun.get(hit.pattern().as_usize()).into_iter().flatten() {
                if best.is_some_and(|best| best <= *row) {
                    break;
                }
                let place = Input::new(words).range(hit.start()..).anchored(Anchored::Pattern(*row)).earliest(true);
                if matches!(self.all.try_search_fwd(states, &place), Ok(Some(_))) {
                    best = Some(*row);
                    break;
                }
            }
        }
        best
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.all.pattern_len()
    }
}

/// Replies are bytes, and the words in them are of no known character set.
fn bytes() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false)
}

/// What a match of the pattern begins with: one of finitely many words, none of them empty.
fn beginnings(pattern: &str) -> Option<Seq> {
    let hir = syntax::parse_with(pattern, &bytes()).ok()?;
    let mut words = Extractor::new().limit_total(BEGINNINGS).limit_repeat(2).limit_literal_len(BEGINNING).extract(&hir);
    words.sort();
    words.dedup();
    words.minimize_by_preference();
    let shortest = words.min_literal_len()?;
    (shortest > 0).then_some(words)
}

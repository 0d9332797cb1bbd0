//! YAML as a small tree, read with a budget.
//!
//! Own tree rather than the library's `Value`: it keeps repeated keys (so that each can be reported) and counts nodes
//! while aliases unfold (the library limits alias jumps, not what each of them copies). Never interprets anything.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::problem::Found;

/// One YAML value. Maps keep the order and every repetition of their keys.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Flag(bool),
    Whole(i128),
    Fraction(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// What a person would call this value.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Node::Null => "nothing",
            Node::Flag(_) => "true/false",
            Node::Whole(_) => "a whole number",
            Node::Fraction(_) => "a fractional number",
            Node::Text(_) => "text",
            Node::List(_) => "a list",
            Node::Map(_) => "a section with keys",
        }
    }

    pub(super) fn get(&self, wanted: &str) -> Option<&Node> {
        let Node::Map(entries) = self else { return None };
        entries.iter().find(|(key, _)| key == wanted).map(|(_, node)| node)
    }
}

/// Parses one document of at most `max_nodes` values, aliases unfolded and `<<` merged.
pub(super) fn parse(text: &str, max_nodes: usize) -> Result<Node, Found> {
    if let Some(line) = too_deep(text) {
        let found = Found::new("", format!("this is nested deeper than {MAX_DEPTH} brackets"));
        return Err(Found { at: Some((line, 1)), ..found }.hint("a configuration needs three at most"));
    }
    let budget = Cell::new(max_nodes);
    Seed(&budget).deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|e| {
        // A file that ends too early is reported on the line after its last.
        let at = e.location().map(|l| (l.line().min(text.lines().count().max(1)), l.column()));
        if let Some(line) = at.and_then(|(line, _)| tab_before(text, line)) {
            let found = Found::new("", "YAML does not allow tabs for indentation");
            return Found { at: Some((line, 1)), ..found }
                .hint("indent with spaces; editors can turn the tabs into them");
        }
        let whole = e.to_string();
        // The library appends the place to its message; it is printed in front of it already.
        let message = whole.split(" at line ").next().unwrap_or(&whole).to_owned();
        Found { at, ..Found::new("", format!("this is not readable YAML: {message}")) }
    })
}

/// Brackets in brackets: the parser's time grows with the square of them.
const MAX_DEPTH: usize = 200;

/// The line at which brackets stand too deep in brackets, wherever they stand: text has no such towers.
fn too_deep(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (number, line) in (1usize..).zip(text.lines()) {
        for byte in line.bytes() {
            match byte {
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > MAX_DEPTH {
                return Some(number);
            }
        }
    }
    None
}

/// The line indented by a tab at which reading ended: the parser may have gone on to the next before it stopped, and
/// speaks of tokens and mappings only.
fn tab_before(text: &str, line: usize) -> Option<usize> {
    let by_tab = |line: &&str| {
        let rest = line.trim_start_matches(' ');
        rest.starts_with('\t') && !rest.trim_start().is_empty()
    };
    let near = line.saturating_sub(1).max(1);
    let lines = (1usize..).zip(text.lines()).skip(near - 1).take_while(|(number, _)| *number <= line);
    lines.filter(|(_, line)| by_tab(line)).map(|(number, _)| number).last()
}

#[derive(Clone, Copy)]
struct Seed<'b>(&'b Cell<usize>);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Node, D::Error> {
        let left = self.0.get().checked_sub(1);
        self.0.set(left.ok_or_else(|| de::Error::custom("too many values (aliases count each time they are used)"))?);
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Node;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("plain YAML without tags")
    }
    fn visit_bool<E>(self, v: bool) -> Result<Node, E> {
        Ok(Node::Flag(v))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Node, E> {
        Ok(Node::Whole(i128::from(v)))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Node, E> {
        Ok(Node::Whole(i128::from(v)))
    }
    fn visit_f64<E>(self, v: f64) -> Result<Node, E> {
        Ok(Node::Fraction(v))
    }
    fn visit_str<E>(self, v: &str) -> Result<Node, E> {
        Ok(Node::Text(v.to_owned()))
    }
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Node::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        let mut merged = Vec::new();
        while let Some(key) = entries.next_key_seed(self)? {
            let value = entries.next_value_seed(self)?;
            let key = match key {
                Node::Text(key) => key,
                Node::Whole(n) => n.to_string(),
                Node::Flag(b) => b.to_string(),
                other => return Err(de::Error::custom(format_args!("a key must be text, not {}", other.kind()))),
            };
            match value {
                value if key != "<<" => map.push((key, value)),
                Node::Map(inner) => merged.extend(inner),
                Node::List(maps) => merged.extend(maps.into_iter().flat_map(|m| match m {
                    Node::Map(inner) => inner,
                    _ => Vec::new(),
                })),
                other => return Err(de::Error::custom(format_args!("`<<` needs a section, not {}", other.kind()))),
            }
        }
        // Own keys win over merged ones, earlier merges over later ones.
        let mut seen: std::collections::HashSet<String> =
            if merged.is_empty() { Default::default() } else { map.iter().map(|(k, _)| k.clone()).collect() };
        map.extend(merged.into_iter().filter(|(key, _)| seen.insert(key.clone())));
        Ok(Node::Map(map))
    }
}

//! JSON in which each key is there once. Of a key that is there twice the last one would count, and whoever checked the
//! request on its way may have looked at the first.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// A value, and a key that one of its objects has twice.
#[derive(Debug)]
pub(super) struct Once {
    pub value: Value,
    pub twice: Option<String>,
}

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Once, D::Error> {
        from.deserialize_any(Reading)
    }
}

struct Reading;

fn plain<E>(value: impl Into<Value>) -> Result<Once, E> {
    Ok(Once { value: value.into(), twice: None })
}

impl<'de> Visitor<'de> for Reading {
    type Value = Once;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Once, E> {
        plain(value)
    }

    fn visit_i64<E>(self, value: i64) -> Result<Once, E> {
        plain(value)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Once, E> {
        plain(value)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Once, E> {
        plain(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Once, E> {
        plain(value)
    }

    fn visit_unit<E>(self) -> Result<Once, E> {
        plain(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Once, A::Error> {
        let (mut list, mut twice) = (Vec::new(), None);
        while let Some(one) = seq.next_element::<Once>()? {
            list.push(one.value);
            twice = twice.or(one.twice);
        }
        Ok(Once { value: Value::Array(list), twice })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Once, A::Error> {
        let (mut object, mut twice) = (Map::new(), None);
        while let Some((key, one)) = map.next_entry::<String, Once>()? {
            twice = twice.or(one.twice);
            if object.contains_key(&key) {
                twice = twice.or_else(|| Some(key.clone()));
            }
            object.insert(key, one.value);
        }
        Ok(Once { value: Value::Object(object), twice })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_value_and_names_what_is_there_twice() {
        for (text, twice) in [
            (r#"{"a": 1, "b": [true, null, -2, 1.5, "x\n", 18446744073709551615], "c": {"a": 2}}"#, None),
            (r#"{"a": 1, "b": 2, "a": 1}"#, Some("a")),
            (r#"[{"x": {"a": 1, "\u0061": 2}}]"#, Some("a")),
            (r#"[1, 1]"#, None),
        ] {
            let once: Once = serde_json::from_str(text).unwrap();
            assert_eq!((once.value, once.twice.as_deref()), (serde_json::from_str(text).unwrap(), twice), "{text}");
        }
        assert!(serde_json::from_str::<Once>("{\"a\": }").is_err());
    }
}

//! Compares Redis replies by value, as the JSON that they are like.

use serde_json::{Map, Value};

use super::body::differ;
use super::collect::Collector;
use super::{Opaque, Rules, json};

/// Levels and values of one reply; a larger one is compared as octets.
const MAX_DEPTH: usize = 32;
const MAX_VALUES: usize = 100_000;

/// Compares two replies that differ as octets and are of one type.
pub(super) fn compare(production: &[u8], shadow: &[u8], rules: &Rules, found: &mut Collector<'_>) {
    let text = |reply: &[u8]| {
        let value = Reader { rest: reply, left: MAX_VALUES }.whole()?;
        serde_json::value::to_raw_value(&value).ok()
    };
    let (Some(ours), Some(theirs)) = (text(production), text(shadow)) else {
        found.opaque = Some(Opaque::Malformed);
        return differ(production, shadow, found);
    };
    json::compare(&ours, &theirs, &rules.json, &rules.bounds, found);
}

/// Reads RESP2 and RESP3. Text is taken octet by octet, since it need not be UTF-8.
struct Reader<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Reader<'a> {
    fn whole(mut self) -> Option<Value> {
        let value = self.value(0)?;
        self.rest.is_empty().then_some(value)
    }

    fn line(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.windows(2).position(|pair| pair == b"\r\n")?;
        let line = &self.rest[..end];
        self.rest = &self.rest[end + 2..];
        Some(line)
    }

    fn bulk(&mut self, len: usize) -> Option<&'a [u8]> {
        let (text, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest.strip_prefix(b"\r\n")?;
        Some(text)
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        self.left = self.left.checked_sub(1)?;
        if depth >= MAX_DEPTH {
            return None;
        }
        let (kind, line) = self.line()?.split_first()?;
        let len = || str::from_utf8(line).ok()?.parse::<i64>().ok();
        Some(match *kind {
            b'_' => Value::Null,
            b'$' | b'*' if len()? == -1 => Value::Null,
            b'+' => text(line),
            b'-' => error(line),
            b'$' | b'=' => text(self.bulk(usize::try_from(len()?).ok()?)?),
            b'!' => error(self.bulk(usize::try_from(len()?).ok()?)?),
            b':' => Value::from(len()?),
            b',' | b'(' => number(line),
            b'#' => Value::Bool(line == b"t"),
            b'*' | b'>' | b'~' => {
                let mut values = Vec::new();
                for _ in 0..usize::try_from(len()?).ok()? {
                    values.push(self.value(depth + 1)?);
                }
                if *kind == b'~' {
                    // A set has no order.
                    values.sort_by_cached_key(Value::to_string);
                }
                Value::Array(values)
            }
            b'%' => {
                let mut members = Map::new();
                for _ in 0..usize::try_from(len()?).ok()? {
                    let key = match self.value(depth + 1)? {
                        Value::String(key) => key,
                        other => other.to_string(),
                    };
                    members.insert(key, self.value(depth + 1)?);
                }
                Value::Object(members)
            }
            _ => return None,
        })
    }
}

fn text(octets: &[u8]) -> Value {
    match str::from_utf8(octets) {
        Ok(text) => Value::from(text),
        Err(_) => Value::from(octets.iter().copied().map(char::from).collect::<String>()),
    }
}

/// By convention an error's first word is its kind.
fn error(line: &[u8]) -> Value {
    let mut words = line.splitn(2, |byte| *byte == b' ');
    let mut members = Map::new();
    members.insert("error".into(), text(words.next().unwrap_or_default()));
    members.insert("message".into(), text(words.next().unwrap_or_default()));
    Value::Object(members)
}

/// A number as its digits are, if JSON has such; `inf` and `nan` are text.
fn number(line: &[u8]) -> Value {
    serde_json::from_slice::<serde_json::Number>(line).map_or_else(|_| text(line), Value::Number)
}

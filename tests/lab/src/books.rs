//! The summary, and the identities that must hold in it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// A summary that `shadowtap mirror --summary` wrote.
#[derive(Clone, Debug)]
pub struct Books {
    root: Value,
}

impl Books {
    /// Reads a summary.
    ///
    /// # Errors
    /// When the file is not there or is not JSON.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("read the summary {}", path.display()))?;
        Self::parse(&text)
    }

    /// Parses a summary.
    ///
    /// # Errors
    /// When it is not JSON.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self { root: serde_json::from_str(text).context("parse the summary")? })
    }

    /// The whole, to print.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.root
    }

    fn at(&self, key: &str) -> Option<&Value> {
        key.split('.').try_fold(&self.root, |value, part| value.get(part))
    }

    /// The number at a dotted key such as `flows.skipped.midstream`, 0 when it is not there.
    #[must_use]
    pub fn get(&self, key: &str) -> u64 {
        self.at(key).and_then(Value::as_u64).unwrap_or(0)
    }

    /// The key is there.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.at(key).is_some()
    }

    /// The sum of the numbers below a dotted key such as `flows.skipped`.
    #[must_use]
    pub fn sum(&self, key: &str) -> u64 {
        fn add(value: &Value) -> u64 {
            match value {
                Value::Object(map) => map.values().map(add).sum(),
                other => other.as_u64().unwrap_or(0),
            }
        }
        self.at(key).map_or(0, add)
    }

    /// Every dotted key with its value, without zeros and empty texts.
    #[must_use]
    pub fn flat(&self) -> Vec<(String, String)> {
        fn add(prefix: &str, value: &Value, list: &mut Vec<(String, String)>) {
            match value {
                Value::Object(map) => {
                    for (key, value) in map {
                        let dot = if prefix.is_empty() { "" } else { "." };
                        add(&format!("{prefix}{dot}{key}"), value, list);
                    }
                }
                Value::String(text) => list.push((prefix.to_owned(), text.clone())),
                other => list.push((prefix.to_owned(), other.to_string())),
            }
        }
        let mut list = Vec::new();
        add("", &self.root, &mut list);
        list.retain(|(_, value)| !matches!(value.as_str(), "" | "0" | "0.0"));
        list
    }

    /// Every identity that does not hold, in words. Empty when the books balance.
    #[must_use]
    pub fn imbalances(&self) -> Vec<String> {
        let mut found = Vec::new();
        let required = [
            "packets.captured",
            "packets.lost",
            "flows.seen",
            "flows.mirrored",
            "flows.skipped",
            "flows.aborted",
            "bytes.captured",
            "bytes.delivered",
            "requests.seen",
            "requests.delivered",
            "requests.answered",
            "duration_seconds",
            "version",
        ];
        for key in required {
            if !self.has(key) {
                found.push(format!("{key} is missing"));
            }
        }
        let ended =
            self.get("flows.mirrored") + self.sum("flows.skipped") + self.sum("flows.aborted");
        if self.get("flows.seen") != ended + self.get("flows.open") {
            found.push(format!(
                "flows.seen {} is not mirrored {} + skipped {} + aborted {} + open {}",
                self.get("flows.seen"),
                self.get("flows.mirrored"),
                self.sum("flows.skipped"),
                self.sum("flows.aborted"),
                self.get("flows.open"),
            ));
        }
        if self.get("flows.open") != 0 {
            found.push(format!("flows.open is {} after the drain", self.get("flows.open")));
        }
        let ordered = [
            ("bytes.delivered", "bytes.captured"),
            ("requests.delivered", "requests.seen"),
            ("requests.answered", "requests.delivered"),
        ];
        for (less, more) in ordered {
            if self.get(less) > self.get(more) {
                found.push(format!("{less} {} exceeds {more} {}", self.get(less), self.get(more)));
            }
        }
        found
    }

    /// The books balance.
    ///
    /// # Panics
    /// When they do not; the message holds every imbalance and the whole summary.
    pub fn assert_balanced(&self) {
        let found = self.imbalances();
        assert!(found.is_empty(), "the books do not balance: {found:#?}\n{:#}", self.root);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books(seen: u64, delivered: u64) -> Books {
        let text = format!(
            r#"{{"version":"0.1.0","duration_seconds":1.5,
            "packets":{{"captured":9,"lost":{{"ring_full":1}}}},
            "flows":{{"seen":{seen},"mirrored":3,"skipped":{{"midstream":1,"dry_run":1}},
                "aborted":{{"gap":1}},"open":0}},
            "bytes":{{"captured":100,"delivered":{delivered}}},
            "requests":{{"seen":3,"delivered":3,"answered":3}}}}"#
        );
        Books::parse(&text).unwrap()
    }

    #[test]
    fn balanced_books_have_no_imbalance() {
        books(6, 100).assert_balanced();
        assert_eq!(books(6, 100).sum("flows.skipped"), 2);
        assert!(books(6, 100).flat().contains(&("packets.lost.ring_full".into(), "1".into())));
        assert!(!books(6, 100).flat().iter().any(|(key, _)| key == "flows.open"));
    }

    #[test]
    fn a_flow_in_no_bucket_is_found() {
        assert!(books(7, 100).imbalances()[0].contains("flows.seen 7"));
    }

    #[test]
    fn more_delivered_than_captured_is_found() {
        assert!(books(6, 101).imbalances()[0].contains("bytes.delivered 101"));
    }

    #[test]
    fn a_missing_key_is_found() {
        assert!(Books::parse("{}").unwrap().imbalances().contains(&"flows.seen is missing".into()));
    }
}

//! The summary, and the identities that must hold in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// Each a whole and its parts, as `docs/accounting.md` has them. Added up here a second time: the
/// daemon's own verdict is not taken on trust.
const IDENTITIES: [(&str, &[&str]); 12] = [
    ("packets.selected", &["packets.captured", "packets.lost"]),
    ("packets.captured", &["packets.used", "packets.ignored"]),
    ("replies.captured", &["replies.used", "replies.ignored"]),
    ("responses.selected", &["responses.captured", "responses.lost"]),
    ("responses.captured", &["responses.used", "responses.ignored"]),
    ("exchanges.seen", &["exchanges.paired", "exchanges.unpaired"]),
    ("exchanges.seen", &["exchanges.compared", "exchanges.shed"]),
    ("sent.transmitted", &["sent.packets", "sent.unsent"]),
    ("flows.seen", &["flows.mirrored", "flows.skipped", "flows.aborted", "flows.open"]),
    ("bytes.captured", &["bytes.delivered", "bytes.skipped", "bytes.undelivered", "bytes.open"]),
    (
        "requests.seen",
        &["requests.delivered", "requests.skipped", "requests.undelivered", "requests.open"],
    ),
    ("requests.delivered", &["requests.answered", "requests.unanswered", "requests.waiting"]),
];
/// What is 0 once the mirror has ended.
const ENDED: [&str; 4] = ["flows.open", "bytes.open", "requests.open", "requests.waiting"];

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
        let whole_and_parts =
            IDENTITIES.iter().flat_map(|(whole, parts)| [*whole].into_iter().chain(parts.to_vec()));
        let others = ["duration_seconds", "version", "balanced"];
        let required: BTreeSet<&str> = whole_and_parts.chain(others).collect();
        for key in required {
            if !self.has(key) {
                found.push(format!("{key} is missing"));
            }
        }
        for (whole, parts) in IDENTITIES {
            let sums: Vec<u64> = parts.iter().map(|part| self.sum(part)).collect();
            if self.get(whole) != sums.iter().sum::<u64>() {
                let sums: Vec<String> =
                    parts.iter().zip(sums).map(|(part, sum)| format!("{part} {sum}")).collect();
                found.push(format!("{whole} {} is not {}", self.get(whole), sums.join(" + ")));
            }
        }
        for key in ENDED {
            if self.get(key) != 0 {
                found.push(format!("{key} is {} after the drain", self.get(key)));
            }
        }
        if self.at("balanced").is_some_and(|balanced| balanced != true) {
            found.push(format!("the mirror itself says {}", self.root["imbalance"]));
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
            r#"{{"version":"0.1.0","duration_seconds":1.5,"balanced":true,
            "packets":{{"selected":10,"captured":9,"used":7,"ignored":{{"no_flow":2}},
                "lost":{{"ring_full":1}}}},
            "replies":{{"captured":5,"used":5,"ignored":{{"no_session":0}}}},
            "responses":{{"selected":6,"captured":5,"used":4,"ignored":{{"no_session":1}},
                "lost":{{"ring_full":1}}}},
            "exchanges":{{"seen":7,"paired":4,"unpaired":{{"production":{{"lost":2}},
                "shadow":{{"closed":1}}}},"compared":5,"shed":{{"queue_full":2}}}},
            "sent":{{"transmitted":8,"packets":7,"unsent":{{"buffer_full":1}}}},
            "flows":{{"seen":{seen},"mirrored":3,"skipped":{{"midstream":1,"dry_run":1}},
                "aborted":{{"gap":1}},"open":0}},
            "bytes":{{"captured":105,"delivered":{delivered},"open":0,"skipped":{{"filtered":5}},
                "undelivered":{{"skipped":{{"dry_run":0}},"aborted":{{"gap":10}}}}}},
            "requests":{{"seen":4,"delivered":3,"answered":2,"open":0,"waiting":0,"skipped":{{"filtered":1}},
                "undelivered":{{"aborted":{{"gap":0}}}},"unanswered":{{"closed":1}}}}}}"#
        );
        Books::parse(&text).unwrap()
    }

    #[test]
    fn balanced_books_have_no_imbalance() {
        books(6, 90).assert_balanced();
        assert_eq!(books(6, 90).sum("flows.skipped"), 2);
        assert!(books(6, 90).flat().contains(&("packets.lost.ring_full".into(), "1".into())));
        assert!(!books(6, 90).flat().iter().any(|(key, _)| key == "flows.open"));
    }

    #[test]
    fn a_flow_in_no_bucket_is_found() {
        assert!(books(7, 90).imbalances()[0].contains("flows.seen 7"));
    }

    #[test]
    fn a_byte_in_two_buckets_is_found() {
        let found = books(6, 91).imbalances();
        assert!(found[0].contains("bytes.captured 105 is not bytes.delivered 91"), "{found:?}");
    }

    /// Whichever number of an identity is wrong.
    #[test]
    fn every_identity_is_added_up() {
        for key in IDENTITIES.iter().flat_map(|(whole, parts)| [&[*whole], *parts].concat()) {
            let mut books = books(6, 90);
            let mut value = &mut books.root;
            for part in key.split('.') {
                value = &mut value[part];
            }
            while value.is_object() {
                value = value.as_object_mut().unwrap().values_mut().next().unwrap();
            }
            *value = (value.as_u64().unwrap() + 1).into();
            assert!(!books.imbalances().is_empty(), "{key}");
        }
    }

    #[test]
    fn the_mirrors_own_verdict_counts() {
        let mut books = books(6, 90);
        books.root["balanced"] = false.into();
        books.root["imbalance"] = "flows.seen".into();
        assert!(books.imbalances()[0].contains("flows.seen"));
    }

    #[test]
    fn a_missing_key_is_found() {
        assert!(Books::parse("{}").unwrap().imbalances().contains(&"flows.seen is missing".into()));
    }
}

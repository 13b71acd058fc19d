//! What goes over the socket: a request is one line of JSON, and so is its answer.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The longest line: as many networks as a list may have.
pub const MAX_LINE: u64 = 4 << 20;

/// What is asked for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How the mirror fares.
    Status,
    /// Every setting with its whole value.
    Get,
    /// Change a setting.
    Set {
        /// Its name.
        name: String,
        /// The words behind it.
        to: Vec<String>,
    },
}

/// What comes back.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It was done.
    Ok(Value),
    /// It was not: what is wrong, and the remedy.
    Refused(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_are_as_documented() {
        let parse = |line: &str| serde_json::from_str::<Request>(line);
        assert_eq!(parse(r#"{"do":"status"}"#).expect("good"), Request::Status);
        let set = Request::Set { name: "sample".into(), to: vec!["5%".into()] };
        assert_eq!(parse(r#"{"do":"set","name":"sample","to":["5%"]}"#).expect("good"), set);
        parse(r#"{"do":"dance"}"#).expect_err("unknown");
        parse(r#"{"do":"set","name":"sample"}"#).expect_err("nothing to set it to");
        let line = |answer| serde_json::to_string(&answer).expect("JSON");
        assert_eq!(line(Answer::Ok(json!({"sample": "5%"}))), r#"{"ok":{"sample":"5%"}}"#);
        assert_eq!(line(Answer::Refused("no".into())), r#"{"refused":"no"}"#);
    }
}

//! Whether the files of `contrib/` fit what `shadowtap` writes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// The text of a file below `contrib/`.
///
/// # Errors
/// When it cannot be read.
pub fn read(name: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib").join(name);
    std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// YAML as if it were JSON.
///
/// # Errors
/// When it is not YAML.
pub fn yaml(text: &str) -> Result<Value> {
    serde_saphyr::from_str(text).context("parse YAML")
}

/// Fields of a report's line that an index template has no mapping for, or one of another type.
#[must_use]
pub fn unmapped(template: &Value, line: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    map(&template["template"]["mappings"], line, "", &mut wrong);
    wrong
}

fn map(mapping: &Value, value: &Value, path: &str, wrong: &mut Vec<String>) {
    if mapping.get("enabled") == Some(&Value::Bool(false)) {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match mapping["properties"].get(name) {
                    Some(mapping) => map(mapping, value, &path, wrong),
                    None => wrong.push(format!("{path} has no mapping")),
                }
            }
        }
        Value::Array(values) => {
            for value in values {
                map(mapping, value, path, wrong);
            }
        }
        _ => {
            let kind = mapping["type"].as_str().unwrap_or("object");
            if !fits(kind, value) {
                wrong.push(format!("{path} is {value}, no {kind}"));
            }
        }
    }
}

/// As Elasticsearch's documentation of field types has it.
fn fits(kind: &str, value: &Value) -> bool {
    match kind {
        "keyword" | "wildcard" => value.is_string(),
        "long" => value.is_i64() || value.is_u64(),
        "ip" => value.as_str().is_some_and(|text| text.parse::<IpAddr>().is_ok()),
        "date" => value.as_str().is_some_and(|text| text.ends_with('Z') && text.contains('T')),
        _ => false,
    }
}

/// Whether a report's line has the field at `path`, its parts separated by dots.
#[must_use]
pub fn has_field(line: &Value, path: &str) -> bool {
    path.split('.').try_fold(line, |value, part| value.get(part)).is_some()
}

/// Every query of a Grafana dashboard, its variables put in.
#[must_use]
pub fn queries(dashboard: &Value) -> Vec<String> {
    let targets = dashboard["panels"].as_array().into_iter().flatten();
    let targets = targets.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let variables = dashboard["templating"]["list"].as_array().into_iter().flatten();
    let exprs = targets.filter_map(|target| target["expr"].as_str());
    let definitions = variables
        .filter_map(|variable| variable["definition"].as_str())
        .filter_map(|text| text.strip_prefix("label_values(")?.split(',').next());
    exprs
        .chain(definitions)
        .map(|expr| {
            expr.replace("$__rate_interval", "1m")
                .replace("$__range", "1h")
                .replace("$endpoint", ".*")
        })
        .collect()
}

/// The names of our metrics in a query or an exposition.
#[must_use]
pub fn metric_names(text: &str) -> BTreeSet<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_name(c)).filter(|word| word.starts_with("shadowtap_")).collect()
}

/// The fields that a Logstash pipeline refers to, with dots between their parts.
///
/// # Errors
/// When it lacks a section, or its braces or quotes do not match.
pub fn logstash_fields(text: &str) -> Result<Vec<String>> {
    let code: Vec<&str> =
        text.lines().map(|line| line.split('#').next().unwrap_or_default().trim_end()).collect();
    let code = code.join("\n");
    ensure!(code.matches('"').count().is_multiple_of(2), "quotes do not match");
    for (open, close) in [('{', '}'), ('[', ']')] {
        let mut depth = 0_i32;
        for c in code.chars() {
            depth += i32::from(c == open) - i32::from(c == close);
            ensure!(depth >= 0, "{close} without {open}");
        }
        ensure!(depth == 0, "{open} without {close}");
    }
    for section in ["input {", "filter {", "output {"] {
        if !code.lines().any(|line| line == section) {
            bail!("no section {section}");
        }
    }
    // `[a][b]`, with nothing between and no space within.
    let mut fields = Vec::new();
    let mut rest = code.as_str();
    while let Some(start) = rest.find('[') {
        rest = &rest[start..];
        let mut parts = Vec::new();
        while let Some((name, behind)) = rest.strip_prefix('[').and_then(|it| it.split_once(']')) {
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                break;
            }
            parts.push(name);
            rest = behind;
        }
        if parts.is_empty() {
            rest = &rest[1..];
        } else {
            fields.push(parts.join("."));
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_field_without_its_mapping_is_found() {
        let template = json!({ "template": { "mappings": { "properties": {
            "a": { "properties": { "n": { "type": "long" }, "k": { "type": "keyword" } } },
            "free": { "type": "object", "enabled": false },
        } } } });
        let good = json!({ "a": { "n": -1, "k": ["x", "y"] }, "free": [{ "b": 1 }] });
        assert_eq!(unmapped(&template, &good), Vec::<String>::new());
        let bad = json!({ "a": { "n": "1", "m": 2 }, "b": 3 });
        assert_eq!(
            unmapped(&template, &bad),
            ["a.n is \"1\", no long", "a.m has no mapping", "b has no mapping"]
        );
    }

    #[test]
    fn a_pipelines_fields_are_found() {
        let text = "input {\n}\nfilter {\n if [a][b] != \"x\" { drop { } } # [c]\n}\noutput {\n}\n";
        assert_eq!(logstash_fields(text).unwrap(), ["a.b"]);
        assert!(logstash_fields(&text.replace("drop { }", "drop { ")).is_err());
        assert!(logstash_fields("input {\n}\n").is_err());
    }

    #[test]
    fn names_in_a_query() {
        let query = "sum(rate(shadowtap_a_total{endpoint=~\".*\"}[1m])) / shadowtap_b";
        assert_eq!(metric_names(query), ["shadowtap_a_total", "shadowtap_b"].into());
    }
}

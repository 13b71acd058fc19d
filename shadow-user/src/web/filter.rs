//! Which exchanges are asked for.

use serde::Deserialize;

use super::model::Example;

/// The parts that are given must all hold; an empty one counts as not given.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// An endpoint's whole name.
    pub endpoint: String,
    /// Production's status: `200`, `2xx`, `none` for no answer, or one of these behind a `!`.
    pub production: String,
    /// The shadow's status, likewise.
    pub shadow: String,
    /// A verdict.
    pub verdict: String,
    /// The path of a difference, noise or not.
    pub field: String,
}

impl Filter {
    /// Whether `example` passes; `paths` are of all its differences.
    pub fn passes<'a>(&self, example: &Example, mut paths: impl Iterator<Item = &'a str>) -> bool {
        let is = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        is(&self.endpoint, &example.endpoint)
            && is(&self.verdict, example.verdict)
            && passes(&self.production, &example.production.status)
            && passes(&self.shadow, &example.shadow.status)
            && (self.field.is_empty() || paths.any(|path| path == self.field))
    }
}

/// Whether a status passes.
fn passes(wanted: &str, status: &str) -> bool {
    if let Some(wanted) = wanted.strip_prefix('!') {
        return !passes(wanted, status);
    }
    let is_code = status.len() == 3 && status.bytes().all(|octet| octet.is_ascii_digit());
    match wanted.strip_suffix("xx") {
        Some(class) => is_code && status.get(..1) == Some(class),
        None => wanted.is_empty() || wanted == status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_passes_by_itself_its_class_or_what_it_is_not() {
        for wanted in ["", "200", "2xx", "!500", "!5xx", "!none"] {
            assert!(passes(wanted, "200"), "{wanted}");
        }
        for wanted in ["201", "4xx", "!200", "!2xx", "none"] {
            assert!(!passes(wanted, "200"), "{wanted}");
        }
        assert!(passes("none", "none") && passes("!200", "none") && !passes("2xx", "none"));
    }
}

//! The two text forms of metrics: OpenMetrics 1.0, and Prometheus' own 0.0.4, which whoever does not
//! ask for the other gets, `curl` and `promtool check metrics` among them.

/// A form of metrics.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Exposition {
    /// Prometheus' text format.
    #[default]
    Text,
    /// OpenMetrics.
    OpenMetrics,
}

impl Exposition {
    /// What a request's `Accept` asks for.
    #[must_use]
    pub fn accepted(accept: Option<&str>) -> Self {
        if accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    /// What the answer has as its `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The metrics in this form, from OpenMetrics.
    #[must_use]
    pub fn of(self, open_metrics: String) -> String {
        match self {
            Self::Text => to_text(&open_metrics),
            Self::OpenMetrics => open_metrics,
        }
    }
}

/// The samples are the same; but what is said about a counter names its samples, and there is neither
/// an info, a unit nor an end.
fn to_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    // Its type stands below it.
    let mut help = "";
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest;
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                _ => ("", kind),
            };
            if let Some((_, words)) = help.split_once(' ') {
                text.push_str(&format!("# HELP {name}{suffix} {words}\n"));
            }
            text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_own_format_names_the_samples() {
        let open = "# HELP a_build V.\n# TYPE a_build info\na_build_info{v=\"1\"} 1\n\
                    # HELP a_b Of c.\n# TYPE a_b counter\n# UNIT a_b x\na_b_total{x=\"#\"} 3\n\
                    # HELP a_l L.\n# TYPE a_l gauge\na_l 2\n# EOF\n";
        assert_eq!(
            Exposition::Text.of(open.to_owned()),
            "# HELP a_build_info V.\n# TYPE a_build_info gauge\na_build_info{v=\"1\"} 1\n\
             # HELP a_b_total Of c.\n# TYPE a_b_total counter\na_b_total{x=\"#\"} 3\n\
             # HELP a_l L.\n# TYPE a_l gauge\na_l 2\n"
        );
        assert_eq!(Exposition::OpenMetrics.of(open.to_owned()), open);
    }

    #[test]
    fn only_who_asks_gets_open_metrics() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
        assert_eq!(Exposition::accepted(Some(prometheus)), Exposition::OpenMetrics);
        assert_eq!(Exposition::accepted(Some("*/*")), Exposition::Text);
        assert_eq!(Exposition::accepted(None), Exposition::Text);
    }
}

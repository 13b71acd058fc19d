//! What the mirror claims, beside what client and servers saw.

use shadow_lab::{Books, Entry, Report, check_against_client, compare};

/// Everything that was claimed, beside everything that was seen.
pub struct Reckoning<'a> {
    /// What the client sent and got.
    pub report: &'a Report,
    /// Production's log.
    pub production: &'a [Entry],
    /// The shadow's log.
    pub shadow: &'a [Entry],
    /// The mirror's summary.
    pub books: &'a Books,
}

impl Reckoning<'_> {
    /// Prints the summary and each check; whether all hold.
    pub fn print(&self) -> bool {
        println!("summary of the mirror, without what is zero");
        for (key, value) in self.books.flat() {
            println!("  {key:<34}{value:>16}");
        }
        println!();
        let checks = self.checks();
        for (what, problem) in &checks {
            match problem {
                None => println!("  ok    {what}"),
                Some(problem) => println!("  WRONG {what}: {problem}"),
            }
        }
        let holds = checks.iter().all(|(_, problem)| problem.is_none());
        let shadowed = self.shadow.len();
        println!(
            "\n{}: {} requests answered by production, {shadowed} received by the shadow; \
             latency at the client p50 {:.1?}, p99 {:.1?}",
            if holds { "the books balance" } else { "THE BOOKS DO NOT BALANCE" },
            self.report.completed.len(),
            self.report.latency(50),
            self.report.latency(99),
        );
        holds
    }

    /// What is checked, and what is wrong with it.
    fn checks(&self) -> Vec<(String, Option<String>)> {
        let [seen, delivered, answered] =
            ["seen", "delivered", "answered"].map(|key| self.books.get(&format!("requests.{key}")));
        // What the mirror says it did not deliver may be missing or cut short, and nothing else.
        let admitted = seen.saturating_sub(delivered);
        let mut whole = self.shadow.to_vec();
        if admitted > 0 {
            whole.retain(|entry| !entry.is_cut_short());
        }
        let production = check_against_client(&self.report.completed, self.production);
        let mut shadow = compare(self.production, &whole);
        if shadow.missing.len() as u64 <= admitted {
            shadow.missing.clear();
        }
        let failed = self.report.failures.first().cloned();
        let imbalances = self.books.imbalances();
        let (logged, wanted) = (whole.len() as u64, self.production.len() as u64);
        vec![
            ("production answered every request as it should".into(), failed),
            (
                "production's log has each request exactly once".into(),
                (!production.is_empty()).then(|| production.to_string()),
            ),
            (
                format!("the shadow's log has each exactly once, {admitted} admitted undelivered"),
                (!shadow.is_empty()).then(|| shadow.to_string()),
            ),
            (
                format!("requests.seen is what production's log holds: {wanted}"),
                (seen != wanted).then(|| format!("it is {seen}")),
            ),
            (
                format!(
                    "requests.answered and .delivered are what the shadow's log holds: {logged}"
                ),
                (!(answered..=delivered).contains(&logged))
                    .then(|| format!("they are {answered} and {delivered}")),
            ),
            (
                "every flow, byte and request is in exactly one bucket".into(),
                (!imbalances.is_empty()).then(|| imbalances.join("; ")),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shadow_lab::Completed;
    use std::time::Duration;

    fn entry(id: &str) -> Entry {
        let line = format!(
            r#"{{"id":"{id}","method":"GET","uri":"/","status":200,"request_length":40,
            "response_length":64,"body_sha256":"","completion":"OK","connection":1,"at":0.5}}"#
        );
        Entry::parse(&line).unwrap()
    }

    fn books(seen: u64, delivered: u64) -> Books {
        let text = format!(
            r#"{{"version":"0.1.0","duration_seconds":20.0,"balanced":true,
            "packets":{{"selected":9,"captured":9,"used":9,"ignored":{{}},"lost":{{"ring_full":0}}}},
            "replies":{{"captured":5,"used":5,"ignored":{{}}}},
            "responses":{{"selected":0,"captured":0,"used":0,"ignored":{{}},"lost":{{}}}},
            "exchanges":{{"seen":0,"paired":0,"unpaired":{{}},"compared":0,"shed":{{}}}},
            "sent":{{"transmitted":8,"packets":8,"unsent":{{}}}},
            "flows":{{"seen":1,"mirrored":1,"skipped":{{}},"aborted":{{}},"open":0}},
            "bytes":{{"captured":80,"delivered":80,"open":0,"undelivered":{{}},"skipped":{{}}}},
            "requests":{{"seen":{seen},"delivered":{delivered},"answered":{delivered},"open":0,
                "undelivered":{{"aborted":{undelivered}}},"skipped":{{}},"unanswered":{{}},"waiting":0}}}}"#,
            undelivered = seen - delivered
        );
        Books::parse(&text).unwrap()
    }

    /// What is wrong when production answered `a` and `b`.
    fn problems(shadow: &[Entry], books: &Books) -> Vec<String> {
        let completed = |id: &str| Completed {
            id: id.into(),
            method: "GET",
            uri: "/".into(),
            status: 200,
            body_sha256: None,
            body_len: 0,
            latency: Duration::from_millis(1),
        };
        let report =
            Report { completed: vec![completed("a"), completed("b")], ..Report::default() };
        let production = [entry("a"), entry("b")];
        let reckoning = Reckoning { report: &report, production: &production, shadow, books };
        reckoning.checks().into_iter().filter_map(|(_, problem)| problem).collect()
    }

    #[test]
    fn equal_logs_and_true_claims_hold() {
        let found = problems(&[entry("b"), entry("a")], &books(2, 2));
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn books_that_do_not_balance_are_wrong() {
        let text = books(2, 2).json().to_string().replace("\"used\":9", "\"used\":8");
        let found = problems(&[entry("b"), entry("a")], &Books::parse(&text).unwrap());
        assert!(found[0].contains("packets.captured 9"), "{found:?}");
    }

    #[test]
    fn a_request_that_is_missing_without_admission_is_wrong() {
        let found = problems(&[entry("a")], &books(2, 2));
        assert!(found[0].contains("1 missing (first: b)"), "{found:?}");
        assert!(problems(&[entry("a")], &books(2, 1)).is_empty());
    }

    #[test]
    fn a_claim_beyond_the_log_and_a_repeated_request_are_wrong() {
        let found = problems(&[entry("a"), entry("b"), entry("b")], &books(2, 2));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("1 repeated"), "{found:?}");
    }
}

//! Results of `cargo test`, read from its output and added up.

use std::ops::AddAssign;

/// Lines of what one failed test said that are kept, from the first that says why.
const WORDS: usize = 12;

/// Characters of a line that are kept.
const WIDTH: usize = 400;

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that passed.
    pub passed: u32,
    /// Tests that failed.
    pub failed: u32,
}

impl Tally {
    /// Reads libtest's closing line, `test result: ok. 5 passed; 0 failed; …`; `None` for any other.
    pub fn of_line(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let count = |what: &str| {
            counts.split("; ").find_map(|part| part.strip_suffix(what)?.trim_end().parse().ok())
        };
        Some(Self { passed: count("passed")?, failed: count("failed")? })
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Why tests failed, so that it can be said once more at the end, where it is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    said: Vec<String>,
    /// Lines still to be kept of the test at hand; `None` while it has not said why.
    left: Option<usize>,
    within: bool,
}

impl Failures {
    /// Reads libtest's output of a failed test, from `---- NAME stdout ----` on.
    pub fn line(&mut self, line: &str) {
        if let Some(name) =
            line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"))
        {
            (self.within, self.left) = (true, None);
            self.said.push(format!("{name}:"));
            return;
        }
        if !self.within {
            return;
        }
        // The list of names comes next; a backtrace says nothing more.
        if line == "failures:" || line.starts_with("stack backtrace:") {
            self.within = false;
            return;
        }
        if self.left.is_none() && (line.starts_with("Error: ") || line.contains("panicked at")) {
            self.left = Some(WORDS);
        }
        if let Some(left @ 1..) = &mut self.left {
            *left -= 1;
            self.said.push(format!("    {}", line.chars().take(WIDTH).collect::<String>()));
        }
    }

    /// What was kept, a line each.
    pub fn said(&self) -> &[String] {
        &self.said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closing_line_is_read() {
        let line = "test result: FAILED. 21 passed; 3 failed; 1 ignored; 0 measured; \
                    7 filtered out; finished in 0.03s";
        assert_eq!(Tally::of_line(line), Some(Tally { passed: 21, failed: 3 }));
    }

    #[test]
    fn what_a_failed_test_says_is_kept_without_what_came_before_and_the_backtrace() {
        let mut failures = Failures::default();
        for line in [
            "test one ... FAILED",
            "---- one stdout ----",
            "the log of a server",
            "Error: packets.lost is 4, not 0: {",
            "  \"version\": \"0.1.0\",",
            "",
            "stack backtrace:",
            "   0: anyhow",
            "---- two stdout ----",
            "thread 'two' panicked at tests/two.rs:1:2:",
            "no",
            "failures:",
            "    one",
        ] {
            failures.line(line);
        }
        let said = [
            "one:",
            "    Error: packets.lost is 4, not 0: {",
            "      \"version\": \"0.1.0\",",
            "    ",
            "two:",
            "    thread 'two' panicked at tests/two.rs:1:2:",
            "    no",
        ];
        assert_eq!(failures.said(), said);
    }

    #[test]
    fn other_lines_are_not() {
        for line in [
            "",
            "test result: ok",
            "test books::tests::a_flow ... ok",
            "5 passed; 0 failed",
            "test result: ok. many passed; 0 failed;",
        ] {
            assert_eq!(Tally::of_line(line), None, "{line}");
        }
    }
}

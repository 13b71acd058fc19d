//! Results of `cargo test`, read from its output and added up.

use std::ops::AddAssign;

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

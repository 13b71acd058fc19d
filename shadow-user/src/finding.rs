//! What was looked at on a host, and how it is: one line each, of `shadowtap check` and of
//! `shadowtap route`.

use std::fmt;

use crate::setting::Refusal;

/// What follows from a finding.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// In order.
    Ok,
    /// Good to know.
    Note,
    /// Something will be missing or go wrong, but not everything.
    Warning,
    /// It stands against mirroring.
    Problem,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        })
    }
}

/// One line: what was looked at, how it is and why that matters, and the command that mends it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// What follows from it.
    pub level: Level,
    /// The setting with its value, or what else was looked at.
    pub subject: String,
    /// How it is, and why that matters.
    pub what: String,
    /// What mends it; nothing when it is in order.
    pub remedy: Option<String>,
}

impl Finding {
    /// In order.
    pub fn ok(subject: impl Into<String>, what: impl Into<String>) -> Self {
        Self { level: Level::Ok, subject: subject.into(), what: what.into(), remedy: None }
    }

    /// Good to know, with what can be done about it.
    pub fn note(
        subject: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::problem(subject, what, remedy).at(Level::Note)
    }

    /// Something will be missing or go wrong.
    pub fn warning(
        subject: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::problem(subject, what, remedy).at(Level::Warning)
    }

    /// It stands against mirroring.
    pub fn problem(
        subject: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Refusal::new(subject, what, remedy).into()
    }

    /// The same of another level.
    #[must_use]
    pub fn at(self, level: Level) -> Self {
        Self { level, ..self }
    }

    /// Why the mirror does not start.
    #[must_use]
    pub fn refusal(self) -> Refusal {
        Refusal::new(self.subject, self.what, self.remedy.unwrap_or_default())
    }
}

impl From<Refusal> for Finding {
    fn from(refusal: Refusal) -> Self {
        let Refusal { subject, what, remedy } = refusal;
        Self { level: Level::Problem, subject, what, remedy: Some(remedy) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.level, self.subject, self.what)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_with_its_remedy() {
        let ok = Finding::ok("--iface eth0", "is up");
        assert_eq!(ok.to_string(), "ok: --iface eth0: is up");
        let refusal = Refusal::new("--iface eth0", "is down", "ip link set eth0 up");
        let problem = Finding::from(refusal.clone());
        assert_eq!(problem.to_string(), "problem: --iface eth0: is down; ip link set eth0 up");
        assert_eq!(problem.refusal(), refusal);
        assert!(Level::Warning < Level::Problem && Level::Ok < Level::Warning);
    }
}

//! A finding, and all of them.

use std::fmt;

use serde::Serialize;

/// How bad a finding is. Ordered: the worst is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; every promise holds.
    Note,
    /// A promise holds less often, or at a price.
    Warning,
    /// A promise does not hold.
    Error,
}

/// A promise of `docs/guarantees.md`, by the words of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum Promise {
    /// What was committed survives a power cut.
    #[serde(rename = "`cache_and_store`")]
    Committed,
    /// A flush counts each operation once.
    #[serde(
        rename = "a flush never loses or doubles an operation, accepted before or while it runs"
    )]
    Flushed,
    /// A delayed task counts once.
    #[serde(rename = "a delayed task takes effect once, however often it runs")]
    Delayed,
    /// A read after a write shows it.
    #[serde(rename = "a `get` after a store write returned")]
    Fresh,
    /// The filter hides no row.
    #[serde(rename = "the filter never hides a row")]
    Filtered,
    /// No id is given out twice.
    #[serde(rename = "no id twice over kills and restarts of a real process")]
    Unique,
    /// Calls end in bounded time.
    #[serde(rename = "a full buffer or queue answers `Overloaded` at once")]
    Bounded,
    /// A directory belongs to one engine.
    #[serde(rename = "one engine per directory")]
    Alone,
    /// Writes go on without the remote cache.
    #[serde(
        rename = "with the remote cache away, writes succeed and their invalidations are repaired"
    )]
    Repaired,
}

/// Every promise that a finding can name.
#[cfg(test)]
const PROMISES: [Promise; 9] = [
    Promise::Committed,
    Promise::Flushed,
    Promise::Delayed,
    Promise::Fresh,
    Promise::Filtered,
    Promise::Unique,
    Promise::Bounded,
    Promise::Alone,
    Promise::Repaired,
];

/// Something that was found, what it weakens, and what to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Where: `postgres`, `redis`, `directory`, `sqlite`.
    pub place: &'static str,
    /// What was found.
    pub found: String,
    /// The promise that suffers, if one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weakens: Option<Promise>,
    /// The setting to change, as it is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
}

impl Finding {
    pub(super) fn error(place: &'static str, found: impl Into<String>) -> Self {
        Self::new(Severity::Error, place, found)
    }

    pub(super) fn warning(place: &'static str, found: impl Into<String>) -> Self {
        Self::new(Severity::Warning, place, found)
    }

    pub(super) fn note(place: &'static str, found: impl Into<String>) -> Self {
        Self::new(Severity::Note, place, found)
    }

    fn new(severity: Severity, place: &'static str, found: impl Into<String>) -> Self {
        Self { severity, place, found: found.into(), weakens: None, change: None }
    }

    pub(super) fn weakens(mut self, promise: Promise) -> Self {
        self.weakens = Some(promise);
        self
    }

    pub(super) fn change(mut self, setting: impl Into<String>) -> Self {
        self.change = Some(setting.into());
        self
    }
}

/// All findings, the worst first, and what was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Diagnosis {
    /// What was looked at, in one line each.
    pub looked_at: Vec<String>,
    /// What was found.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// Whether a promise does not hold.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    pub(super) fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    pub(super) fn looked_at(&mut self, line: impl Into<String>) {
        self.looked_at.push(line.into());
    }

    pub(super) fn sort(&mut self) {
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    }
}

impl Promise {
    /// The words by which its row in `docs/guarantees.md` is found.
    pub fn words(self) -> String {
        let text = serde_json::to_value(self).ok();
        text.as_ref().and_then(|text| text.as_str()).unwrap_or_default().to_owned()
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<7}  {}: {}", self.severity, self.place, self.found)?;
        if let Some(promise) = self.weakens {
            write!(f, "\n         weakens: {} (docs/guarantees.md)", promise.words())?;
        }
        if let Some(change) = &self.change {
            write!(f, "\n         change:  {change}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.looked_at {
            writeln!(f, "looked at {line}")?;
        }
        if self.findings.is_empty() {
            return write!(f, "nothing to complain about");
        }
        for (index, finding) in self.findings.iter().enumerate() {
            write!(f, "{}{finding}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_promise_that_a_finding_names_is_a_row_of_the_guarantees() {
        let text = include_str!("../../../../docs/guarantees.md");
        let rows = || text.lines().filter(|line| line.starts_with("| "));
        for promise in PROMISES {
            let words = promise.words();
            assert!(!words.is_empty());
            assert!(rows().any(|row| row.contains(&words)), "no row says: {words}");
        }
    }

    #[test]
    fn a_finding_says_what_it_weakens_and_what_to_change() {
        let mut diagnosis = Diagnosis::default();
        diagnosis.looked_at("PostgreSQL 15.18");
        diagnosis.add(Finding::note("postgres", "a note"));
        let found = Finding::error("postgres", "fsync is off");
        diagnosis.add(found.weakens(Promise::Committed).change("fsync = on"));
        diagnosis.sort();
        assert!(diagnosis.has_errors());
        assert_eq!(
            diagnosis.to_string(),
            "looked at PostgreSQL 15.18\n\
             error    postgres: fsync is off\n         \
             weakens: `cache_and_store` (docs/guarantees.md)\n         \
             change:  fsync = on\n\
             note     postgres: a note"
        );
        let json = serde_json::to_value(&diagnosis).unwrap();
        assert_eq!(json["findings"][0]["severity"], "error");
        assert_eq!(json["findings"][0]["weakens"], "`cache_and_store`");
        assert!(json["findings"][1].get("change").is_none());
        assert_eq!(Diagnosis::default().to_string(), "nothing to complain about");
    }
}

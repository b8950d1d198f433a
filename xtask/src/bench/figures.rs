//! Figures, as the targets write them down: `benches/figures.rs` is the other side.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// The samples of one way to do something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Figure {
    pub(super) target: String,
    pub(super) case: String,
    /// Where on an axis, if the case was measured at several points.
    pub(super) axis: Option<Axis>,
    pub(super) who: String,
    pub(super) unit: Unit,
    pub(super) samples: Vec<f64>,
    /// The n-th sample was taken beside the n-th of the others of its case.
    #[serde(default = "in_turns")]
    pub(super) in_turns: bool,
}

fn in_turns() -> bool {
    true
}

/// A point of an axis.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Axis {
    pub(super) name: String,
    pub(super) point: u64,
}

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Unit {
    #[serde(rename = "per second")]
    PerSecond,
    #[serde(rename = "ns")]
    Nanoseconds,
    #[serde(rename = "%")]
    Percent,
    #[serde(rename = "allocations")]
    Allocations,
    #[serde(rename = "bytes")]
    Bytes,
    #[serde(rename = "bytes held")]
    Held,
    #[serde(rename = "% wrong")]
    Wrong,
    #[serde(rename = "instructions")]
    Instructions,
}

/// What was not measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LeftOut {
    pub(super) target: String,
    pub(super) left_out: String,
    pub(super) why: String,
}

impl Figure {
    /// The case with its point, as a person says it.
    pub(super) fn title(&self) -> String {
        match &self.axis {
            Some(Axis { name, point }) => format!("{}, {point} {name}", self.case),
            None => self.case.clone(),
        }
    }

    /// Whether the other is of the same case at the same point.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        (&self.target, &self.case, &self.axis, self.unit)
            == (&other.target, &other.case, &other.axis, other.unit)
    }
}

/// Reads what a target wrote: one figure, or one thing left out, a line.
///
/// # Errors
/// If a line is neither.
pub(super) fn read(text: &str) -> Result<(Vec<Figure>, Vec<LeftOut>)> {
    let (mut figures, mut left_out) = (Vec::new(), Vec::new());
    for line in text.lines() {
        if let Ok(figure) = serde_json::from_str(line) {
            figures.push(figure);
        } else {
            let none = || format!("a target wrote what is no figure: {line}");
            left_out.push(serde_json::from_str(line).with_context(none)?);
        }
    }
    Ok((figures, left_out))
}

#[cfg(test)]
pub(super) fn figure(case: &str, who: &str, unit: Unit, samples: &[f64]) -> Figure {
    let (target, case, who) = ("wal".into(), case.into(), who.into());
    Figure { target, case, axis: None, who, unit, samples: samples.to_vec(), in_turns: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_and_what_was_left_out_are_read() {
        let text = concat!(
            r#"{"target":"wal","case":"append","axis":{"name":"writers","point":16},"who":"zmsg","unit":"per second","samples":[1.5,2.0]}"#,
            "\n",
            r#"{"target":"wal","left_out":"okaywal","why":"it is away"}"#,
        );
        let (figures, left_out) = read(text).unwrap();
        assert_eq!(figures[0].title(), "append, 16 writers");
        assert!(figures[0].in_turns);
        assert_eq!(figures[0].samples, [1.5, 2.0]);
        assert_eq!(left_out[0].left_out, "okaywal");
        let error = read("nonsense").unwrap_err().to_string();
        assert!(error.contains("nonsense"), "{error}");
    }
}

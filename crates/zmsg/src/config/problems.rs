//! All problems of a configuration in one answer.

use zmsg_core::{Error, Result};

/// What is wrong so far.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<String>);

impl Problems {
    pub(crate) fn add(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }

    /// Notes the problem if `wrong`.
    pub(crate) fn check(&mut self, wrong: bool, problem: impl FnOnce() -> String) {
        if wrong {
            self.0.push(problem());
        }
    }

    pub(crate) fn into_result(self) -> Result<()> {
        match self.0.as_slice() {
            [] => Ok(()),
            [one] => Err(Error::invalid_config(format!("invalid configuration: {one}"))),
            many => Err(Error::invalid_config(format!(
                "invalid configuration, {} problems: {}",
                many.len(),
                many.join("; ")
            ))),
        }
    }
}

//! Relational stores behind one trait, and the migration runner.

mod function;
mod store;

pub use function::ScalarFunction;
pub use store::{Expect, Otherwise, Outcome, SqlStore, Step, StepError};

//! The backends, each signing the conformance suite.

mod file;
mod fixed;
mod memory;
mod sql;

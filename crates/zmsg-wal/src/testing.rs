//! For tests: file systems that fail, and a log that breaks its rules.

pub use crate::sabotage::Sabotage;

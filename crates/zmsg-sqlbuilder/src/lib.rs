//! Builders that make statements and foldable operations; pure text, no I/O.

mod dialect;

pub use dialect::Dialect;

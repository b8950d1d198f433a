//! Scalar functions that an embedded database borrows from Rust.

use zmsg_core::{Result, Value};

/// A deterministic scalar function, registered under a name on every connection of an embedded
/// store. Its errors come back from the statement that called it as `InvalidData`.
#[derive(Debug, Clone, Copy)]
pub struct ScalarFunction {
    /// The name in SQL.
    pub name: &'static str,
    /// How many arguments it takes.
    pub arguments: usize,
    /// The function.
    pub call: fn(&[Value]) -> Result<Value>,
}

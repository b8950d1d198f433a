//! Operations on a number.

use zmsg_core::{CounterOp, Error, Number, OpKind};

use crate::op::{OpBuilder, Target};

/// A counter in a column of a table; both names are used exactly as given, `schema.table`
/// included.
pub fn counter(table: impl AsRef<str>, column: impl AsRef<str>) -> Counter {
    Counter(Target::new(table, column))
}

/// A column that holds a number. NULL counts as 0.
///
/// Arithmetic is unbounded until the result is stored: only that must fit the column. Floats
/// are for float columns, and must be finite.
#[derive(Debug, Clone)]
#[must_use = "name an operation on the counter"]
pub struct Counter(pub(crate) Target);

impl Counter {
    /// Adds.
    pub fn inc(self, by: impl Into<Number>) -> OpBuilder {
        self.step(by.into(), CounterOp::Inc)
    }

    /// Subtracts.
    pub fn dec(self, by: impl Into<Number>) -> OpBuilder {
        self.step(by.into(), CounterOp::Dec)
    }

    /// Multiplies.
    #[expect(clippy::should_implement_trait, reason = "named as the operation is")]
    pub fn mul(self, by: impl Into<Number>) -> OpBuilder {
        self.step(by.into(), CounterOp::Mul)
    }

    /// Replaces the value.
    pub fn set(self, to: impl Into<Number>) -> OpBuilder {
        self.step(to.into(), CounterOp::Set)
    }

    /// Sets the value to zero.
    pub fn clean(self) -> OpBuilder {
        self.0.op(OpKind::Counter(CounterOp::Clean))
    }

    fn step(self, number: Number, step: fn(Number) -> CounterOp) -> OpBuilder {
        let mut builder = self.0.op(OpKind::Counter(step(number)));
        if let Number::Float(float) = number
            && !float.is_finite()
        {
            builder.note(
                Error::invalid_input("a counter takes finite numbers only")
                    .with_context("found", float),
            );
        }
        builder
    }
}

//! Operations on a JSON array.

use serde_json::Value as Json;
use zmsg_core::{OpKind, SliceOp};

use crate::op::{OpBuilder, Target};

/// A slice in a column of a table; both names are used exactly as given, `schema.table`
/// included.
pub fn slice(table: impl AsRef<str>, column: impl AsRef<str>) -> Slice {
    Slice(Target::new(table, column))
}

/// A column that holds a JSON array. NULL counts as empty.
#[derive(Debug, Clone)]
#[must_use = "name an operation on the slice"]
pub struct Slice(pub(crate) Target);

impl Slice {
    /// Appends a value, also if it is there already.
    #[expect(clippy::should_implement_trait, reason = "named as the operation is")]
    pub fn add(self, value: impl Into<Json>) -> OpBuilder {
        self.add_all([value])
    }

    /// Appends values in their order.
    pub fn add_all<V: Into<Json>>(self, values: impl IntoIterator<Item = V>) -> OpBuilder {
        let values = values.into_iter().map(Into::into).collect();
        self.0.op(OpKind::Slice(SliceOp::Add(values)))
    }

    /// Removes every element equal to the value; numbers are compared by value.
    pub fn del(self, value: impl Into<Json>) -> OpBuilder {
        self.del_all([value])
    }

    /// Removes every element equal to one of the values.
    pub fn del_all<V: Into<Json>>(self, values: impl IntoIterator<Item = V>) -> OpBuilder {
        let values = values.into_iter().map(Into::into).collect();
        self.0.op(OpKind::Slice(SliceOp::Del(values)))
    }

    /// Removes every element.
    pub fn clean(self) -> OpBuilder {
        self.0.op(OpKind::Slice(SliceOp::Clean))
    }
}

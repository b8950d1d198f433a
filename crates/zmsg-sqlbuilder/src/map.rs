//! Operations on a JSON object.

use serde_json::Value as Json;
use zmsg_core::{MapOp, OpKind};

use crate::op::{OpBuilder, Target};

/// A map in a column of a table; both names are used exactly as given, `schema.table` included.
pub fn map(table: impl AsRef<str>, column: impl AsRef<str>) -> Map {
    Map(Target::new(table, column))
}

/// A column that holds a JSON object. NULL counts as empty.
#[derive(Debug, Clone)]
#[must_use = "name an operation on the map"]
pub struct Map(pub(crate) Target);

impl Map {
    /// Sets a key to a value, whole: what was there is replaced, not merged.
    pub fn set(self, key: impl Into<String>, value: impl Into<Json>) -> OpBuilder {
        self.0.op(OpKind::Map(MapOp::Set(key.into(), value.into())))
    }

    /// Removes a key.
    pub fn del(self, key: impl Into<String>) -> OpBuilder {
        self.0.op(OpKind::Map(MapOp::Del(key.into())))
    }

    /// Merges a patch into the whole value at every depth (RFC 7396): objects merge, `null`
    /// removes, everything else replaces.
    pub fn merge(self, patch: impl Into<Json>) -> OpBuilder {
        self.0.op(OpKind::Merge(patch.into()))
    }

    /// Removes every key.
    pub fn clean(self) -> OpBuilder {
        self.0.op(OpKind::Map(MapOp::Clean))
    }
}

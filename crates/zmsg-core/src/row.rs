//! One row of a result.

use std::sync::Arc;

use crate::{Error, ErrorKind, Result, Value};

/// A row: column names, shared by all rows of a result, and their values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    columns: Arc<[String]>,
    values: Vec<Value>,
}

impl Row {
    /// A row; `columns` and `values` have the same length.
    pub fn new(columns: Arc<[String]>, values: Vec<Value>) -> Self {
        debug_assert_eq!(columns.len(), values.len());
        Self { columns, values }
    }

    /// The names of the columns, in order.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The values, in the order of the columns.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The value of a column by name, or `None` if there is no such column.
    pub fn get(&self, column: &str) -> Option<&Value> {
        let index = self.columns.iter().position(|name| name == column)?;
        self.values.get(index)
    }

    /// The value at a position.
    ///
    /// # Errors
    /// `Unexpected` if the row is shorter.
    pub fn at(&self, index: usize) -> Result<&Value> {
        self.values.get(index).ok_or_else(|| {
            Error::new(ErrorKind::Unexpected, "the row has fewer columns than asked for")
                .with_context("column", index)
                .with_context("columns", self.values.len())
        })
    }

    /// The integer at a position.
    ///
    /// # Errors
    /// `Unexpected` if the row is shorter or the value is not an integer.
    pub fn int(&self, index: usize) -> Result<i64> {
        self.at(index)?.as_int().ok_or_else(|| self.not_a("an integer", index))
    }

    /// The text at a position.
    ///
    /// # Errors
    /// `Unexpected` if the row is shorter or the value is not text.
    pub fn text(&self, index: usize) -> Result<&str> {
        self.at(index)?.as_text().ok_or_else(|| self.not_a("text", index))
    }

    /// The bytes at a position.
    ///
    /// # Errors
    /// `Unexpected` if the row is shorter or the value is not bytes.
    pub fn bytes(&self, index: usize) -> Result<&bytes::Bytes> {
        match self.at(index)? {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(self.not_a("bytes", index)),
        }
    }

    fn not_a(&self, wanted: &str, index: usize) -> Error {
        Error::new(ErrorKind::Unexpected, format!("a column is not {wanted}"))
            .with_context("column", self.columns.get(index).map_or("?", String::as_str))
            .with_context("value", format!("{:?}", self.values.get(index)))
    }
}

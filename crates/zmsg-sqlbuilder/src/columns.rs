//! What can be given as a list of columns.

use zmsg_core::{Error, Ident, Result};

/// Names of columns: one name, or an array, a slice or a vector of them.
pub trait IntoColumns {
    /// The names, in order, not yet validated.
    fn into_columns(self) -> Vec<String>;
}

impl IntoColumns for &str {
    fn into_columns(self) -> Vec<String> {
        vec![self.to_owned()]
    }
}

impl IntoColumns for String {
    fn into_columns(self) -> Vec<String> {
        vec![self]
    }
}

impl IntoColumns for &String {
    fn into_columns(self) -> Vec<String> {
        vec![self.clone()]
    }
}

impl<T: AsRef<str>> IntoColumns for &[T] {
    fn into_columns(self) -> Vec<String> {
        self.iter().map(|name| name.as_ref().to_owned()).collect()
    }
}

impl<T: AsRef<str>, const N: usize> IntoColumns for [T; N] {
    fn into_columns(self) -> Vec<String> {
        self.as_slice().into_columns()
    }
}

impl<T: AsRef<str>, const N: usize> IntoColumns for &[T; N] {
    fn into_columns(self) -> Vec<String> {
        self.as_slice().into_columns()
    }
}

impl<T: AsRef<str>> IntoColumns for Vec<T> {
    fn into_columns(self) -> Vec<String> {
        self.as_slice().into_columns()
    }
}

/// Validates names: at least one, each an identifier, none twice. `what` is the call they were
/// given to.
pub(crate) fn validated(names: &[String], what: &'static str) -> Result<Vec<Ident>> {
    let refused = |problem: &'static str| Error::invalid_input(problem).with_context("call", what);
    let columns: Vec<Ident> = names
        .iter()
        .map(Ident::new)
        .collect::<Result<_>>()
        .map_err(|error| error.with_context("call", what))?;
    if columns.is_empty() {
        return Err(refused("name at least one column"));
    }
    let twice = (1..columns.len()).find(|at| columns[..*at].contains(&columns[*at]));
    match twice {
        Some(at) => Err(refused("a column is named twice").with_context("column", &columns[at])),
        None => Ok(columns),
    }
}

/// Writes the names quoted and separated by commas, each as `write` has it.
pub(crate) fn write_list(out: &mut String, columns: &[Ident], write: impl Fn(&mut String, &Ident)) {
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write(out, column);
    }
}

//! Names of tables and columns: validated here, quoted by the SQL builder.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The name of a column, or one part of the name of a table.
///
/// 1 to 63 bytes without NUL: PostgreSQL cuts longer names silently, which could make two names
/// one. Anything else is legal and always written quoted, so a name is used exactly as given,
/// case included.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ident(Arc<str>);

impl Ident {
    /// The longest identifier, in bytes.
    pub const BYTES_MAX: usize = 63;

    /// Validates a name.
    ///
    /// # Errors
    /// `InvalidInput` for an empty name, one over 63 bytes, or one with NUL.
    pub fn new(name: impl AsRef<str>) -> Result<Self> {
        let name = name.as_ref();
        let problem = if name.is_empty() {
            "an identifier must not be empty"
        } else if name.len() > Self::BYTES_MAX {
            "an identifier has at most 63 bytes"
        } else if name.contains('\0') {
            "an identifier must not contain NUL"
        } else {
            return Ok(Self(Arc::from(name)));
        };
        let shown: String = name.chars().take(70).flat_map(char::escape_debug).collect();
        Err(Error::invalid_input(problem).with_context("identifier", shown))
    }

    /// The name as given, unquoted.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Writes the name in double quotes, with those inside doubled: the only way a name
    /// becomes part of a statement, on PostgreSQL and SQLite alike.
    pub fn write_quoted(&self, out: &mut String) {
        out.push('"');
        for c in self.0.chars() {
            if c == '"' {
                out.push('"');
            }
            out.push(c);
        }
        out.push('"');
    }
}

impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl TryFrom<String> for Ident {
    type Error = Error;
    fn try_from(name: String) -> Result<Self> {
        Self::new(name)
    }
}

impl From<Ident> for String {
    fn from(ident: Ident) -> Self {
        ident.0.as_ref().to_owned()
    }
}

/// The name of a table: `table` or `schema.table`, each part an [`Ident`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableName {
    schema: Option<Ident>,
    name: Ident,
}

impl TableName {
    /// Parses `table` or `schema.table`.
    ///
    /// # Errors
    /// `InvalidInput` if a part is not an identifier or there are more than two.
    pub fn new(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        let mut parts = text.split('.');
        let first = Ident::new(parts.next().unwrap_or_default())?;
        let Some(second) = parts.next() else {
            return Ok(Self { schema: None, name: first });
        };
        if parts.next().is_some() {
            return Err(Error::invalid_input("a table is named `table` or `schema.table`")
                .with_context("table", text.escape_debug()));
        }
        Ok(Self { schema: Some(first), name: Ident::new(second)? })
    }

    /// The table's own name, without the schema.
    pub fn name(&self) -> &Ident {
        &self.name
    }

    /// The schema, if one was given.
    pub fn schema(&self) -> Option<&Ident> {
        self.schema.as_ref()
    }

    /// Writes the name quoted, part by part.
    pub fn write_quoted(&self, out: &mut String) {
        if let Some(schema) = &self.schema {
            schema.write_quoted(out);
            out.push('.');
        }
        self.name.write_quoted(out);
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_identifiers_come_out_quoted_or_refused() {
        for refused in ["", "a\0b", &"x".repeat(64), &"é".repeat(32)] {
            assert!(Ident::new(refused).is_err(), "{refused:?}");
        }
        for (name, quoted) in [
            ("id", r#""id""#),
            (r#"a"b"#, r#""a""b""#),
            (r#"x"; DROP TABLE t; --"#, r#""x""; DROP TABLE t; --""#),
            ("$$", r#""$$""#),
            ("/* c */", r#""/* c */""#),
            ("列", r#""列""#),
        ] {
            let mut out = String::new();
            Ident::new(name).unwrap().write_quoted(&mut out);
            assert_eq!(out, quoted);
        }
    }

    #[test]
    fn a_table_may_have_a_schema() {
        let mut out = String::new();
        TableName::new("app.feeds").unwrap().write_quoted(&mut out);
        assert_eq!(out, r#""app"."feeds""#);
        assert!(TableName::new("a.b.c").is_err());
        assert!(TableName::new("a.").is_err());
    }
}

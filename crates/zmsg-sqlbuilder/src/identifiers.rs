//! The names that a text mentions.

use zmsg_core::{Error, Result};

use crate::Dialect;
use crate::lexer::Lexer;
use crate::token::{Kind, Token, excerpt};

/// The names in a SQL text, outside strings and comments, in order and with repetitions: without
/// quotes in lower case, as the databases compare them, and in quotes as written.
///
/// Keywords and the names of functions and types are among them: the answer is for asking
/// whether a text mentions a column or a table, where "maybe" may be said too often and "no"
/// never wrongly.
///
/// # Errors
/// `InvalidInput` for a string, identifier or comment that is not closed, for NUL, and for
/// `U&".."`, whose escapes could spell any name.
pub fn identifiers(text: &str) -> Result<Vec<String>> {
    let tokens = Lexer::significant(text, Dialect::Postgres)?;
    tokens.iter().filter_map(name).collect()
}

fn name(token: &Token<'_>) -> Option<Result<String>> {
    match token.kind {
        Kind::Word => Some(Ok(token.text.to_ascii_lowercase())),
        Kind::Quoted => Some(unquoted(token)),
        _ => None,
    }
}

fn unquoted(token: &Token<'_>) -> Result<String> {
    let inner = token.text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    inner.map(|inner| inner.replace("\"\"", "\"")).ok_or_else(|| {
        Error::invalid_input("write the identifier without U& escapes")
            .with_context("found", excerpt(token.text))
    })
}

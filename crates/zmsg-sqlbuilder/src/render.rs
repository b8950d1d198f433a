//! Portable text to the text of a dialect.

use std::borrow::Cow;

use zmsg_core::{Error, Result};

use crate::Dialect;
use crate::lexer::{Lexer, is_word_byte};
use crate::token::{Kind, Token, excerpt};

/// Writes a portable text for a dialect: `?` becomes `$1`, `$2`, … on PostgreSQL and stays on
/// SQLite; `??` becomes a literal `?`.
///
/// A `?` inside a string, a quoted identifier or a comment is text. Outside, one that directly
/// follows an operand (a name, a literal, a bind, a closing bracket) is the jsonb operator, as
/// are `?|` and `?&` there; every other one is a bind. Where that guess would be wrong, `??`
/// writes an operator and `(?)` a bind.
///
/// # Errors
/// `InvalidInput` if placeholders and binds differ in number, if there are more binds than the
/// dialect takes, for a string, identifier or comment that is not closed, for NUL, for
/// parameters in a database's own spelling (`$1`, `:name`), and on SQLite for a `?` operator or a
/// comment within a comment, which SQLite would read otherwise.
pub fn render(text: &str, binds: usize, dialect: Dialect) -> Result<Cow<'_, str>> {
    check_limit(binds, dialect)?;
    let mut rewritten = Rewritten { text, copied: 0, out: String::new() };
    let mut placeholders = 0;
    for token in Lexer::new(text, dialect)? {
        let token = token?;
        match (token.kind, dialect) {
            (Kind::Bind, Dialect::Sqlite) => placeholders += 1,
            (Kind::Bind, Dialect::Postgres) => {
                placeholders += 1;
                rewritten.bind(&token, placeholders);
            }
            (Kind::Escaped, Dialect::Postgres) => rewritten.replace(&token, "?"),
            (Kind::Param, _) => return Err(own_parameter(&token)),
            (Kind::Escaped | Kind::Question, Dialect::Sqlite) => return Err(no_operator(&token)),
            (Kind::Comment, Dialect::Sqlite) => check_comment(&token)?,
            _ => {}
        }
    }
    check_count(text, placeholders, binds)?;
    Ok(rewritten.finish())
}

/// Refuses a number of placeholders other than the number of binds.
pub(crate) fn check_count(text: &str, placeholders: usize, binds: usize) -> Result<()> {
    if placeholders == binds {
        return Ok(());
    }
    let message = format!(
        "the text has {placeholders} placeholders and {binds} binds; \
         write `??` for the operator and `(?)` for a bind where `?` is misread"
    );
    Err(Error::invalid_input(message).with_context("text", excerpt(text)))
}

/// The error for a parameter that is not written `?`.
pub(crate) fn own_parameter(token: &Token<'_>) -> Error {
    Error::invalid_input("binds are written `?` on every database")
        .with_context("found", excerpt(token.text))
        .with_context("byte", token.start)
}

/// The text with some tokens replaced; borrowed while none is.
struct Rewritten<'a> {
    text: &'a str,
    copied: usize,
    out: String,
}

impl<'a> Rewritten<'a> {
    fn replace(&mut self, token: &Token<'_>, with: &str) {
        self.out.push_str(&self.text[self.copied..token.start]);
        self.out.push_str(with);
        self.copied = token.end();
    }

    /// `LIMIT?` must not become the identifier `LIMIT$1`, nor `?OR` the junk `$1OR`.
    fn bind(&mut self, token: &Token<'_>, number: usize) {
        let bytes = self.text.as_bytes();
        let glued_before = token.start > 0 && is_word_byte(bytes[token.start - 1]);
        let glued_after = bytes.get(token.end()).is_some_and(|byte| is_word_byte(*byte));
        let before = if glued_before { " " } else { "" };
        let after = if glued_after { " " } else { "" };
        self.replace(token, &format!("{before}${number}{after}"));
    }

    fn finish(mut self) -> Cow<'a, str> {
        if self.copied == 0 {
            return Cow::Borrowed(self.text);
        }
        self.out.push_str(&self.text[self.copied..]);
        Cow::Owned(self.out)
    }
}

fn check_limit(binds: usize, dialect: Dialect) -> Result<()> {
    if binds <= dialect.binds_max() {
        return Ok(());
    }
    Err(Error::invalid_input("a statement has too many binds; split it")
        .with_context("binds", binds)
        .with_context("binds_max", dialect.binds_max()))
}

fn check_comment(token: &Token<'_>) -> Result<()> {
    if !token.text.starts_with("/*") || !token.text[2..].contains("/*") {
        return Ok(());
    }
    Err(Error::invalid_input("SQLite does not nest comments; remove the inner one")
        .with_context("comment", excerpt(token.text))
        .with_context("byte", token.start))
}

fn no_operator(token: &Token<'_>) -> Error {
    Error::invalid_input("SQLite has no operator with a question mark, and a bind cannot follow an operand; use its JSON functions, or write `(?)` for a bind")
        .with_context("found", excerpt(token.text))
        .with_context("byte", token.start)
}

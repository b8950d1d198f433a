//! Scripts of several statements, split.

use zmsg_core::{Error, Result};

use crate::Dialect;
use crate::lexer::Lexer;
use crate::token::{Kind, Token, excerpt};

/// Splits a migration script into its statements, without their semicolons.
///
/// A semicolon inside a string, a comment, brackets, the body of a SQLite trigger
/// (`BEGIN …; END`) or of a PostgreSQL function (`BEGIN ATOMIC …; END`) ends nothing. Comments
/// within a statement stay; those between statements are dropped, and empty statements are
/// skipped.
///
/// # Errors
/// `InvalidInput` for a string, identifier, comment or body that is not closed, and for NUL.
pub fn split_script(script: &str, dialect: Dialect) -> Result<Vec<String>> {
    let tokens = Lexer::significant(script, dialect)?;
    let statements = split(&tokens)?;
    Ok(statements.iter().map(|statement| span(script, statement).to_owned()).collect())
}

/// Splits significant tokens into statements, none of them empty.
pub(crate) fn split<'t, 'a>(tokens: &'t [Token<'a>]) -> Result<Vec<&'t [Token<'a>]>> {
    let mut statements = Vec::new();
    let mut start = 0;
    let mut scope = Scope::default();
    for (index, token) in tokens.iter().enumerate() {
        if token.kind == Kind::Semicolon && scope.ends_here(&tokens[start..index]) {
            statements.push(&tokens[start..index]);
            start = index + 1;
            scope = Scope::default();
        } else {
            scope.follow(&tokens[start..index], token, tokens.get(index + 1));
        }
    }
    if !scope.ends_here(&tokens[start..]) && scope.body != Body::None {
        return Err(unclosed(&tokens[start]));
    }
    statements.push(&tokens[start..]);
    statements.retain(|statement| !statement.is_empty());
    Ok(statements)
}

/// The text from the first token to the last.
fn span<'a>(text: &'a str, tokens: &[Token<'_>]) -> &'a str {
    match (tokens.first(), tokens.last()) {
        (Some(first), Some(last)) => &text[first.start..last.end()],
        _ => "",
    }
}

/// Where in a statement the splitter is.
#[derive(Debug, Default)]
struct Scope {
    brackets: usize,
    body: Body,
}

/// The body with statements of its own that is open.
#[derive(Debug, Default, PartialEq, Eq)]
enum Body {
    #[default]
    None,
    /// Of a SQLite trigger: it ends with an `END` that follows a semicolon.
    Trigger,
    /// Of a PostgreSQL function, with the `CASE`s and bodies that are open in it.
    Atomic(usize),
}

impl Scope {
    /// Whether a semicolon after these tokens ends the statement.
    fn ends_here(&self, statement: &[Token<'_>]) -> bool {
        match self.body {
            Body::None => self.brackets == 0,
            Body::Atomic(open) => open == 0,
            Body::Trigger => match statement {
                [.., before, last] => before.kind == Kind::Semicolon && last.is_word("end"),
                _ => false,
            },
        }
    }

    fn follow(&mut self, before: &[Token<'_>], token: &Token<'_>, next: Option<&Token<'_>>) {
        match (&mut self.body, token.kind) {
            (_, Kind::Open) => self.brackets += 1,
            (_, Kind::Close) => self.brackets = self.brackets.saturating_sub(1),
            (Body::None, Kind::Word) if token.is_word("begin") => {
                self.body = body_of(before, next);
            }
            (Body::Atomic(open), Kind::Word) if token.is_any(&["begin", "case"]) => *open += 1,
            (Body::Atomic(open), Kind::Word) if token.is_word("end") => {
                *open = open.saturating_sub(1);
            }
            _ => {}
        }
    }
}

/// The body that `BEGIN` opens after these tokens.
fn body_of(before: &[Token<'_>], next: Option<&Token<'_>>) -> Body {
    let creates = before.first().is_some_and(|token| token.is_word("create"));
    let trigger = before.iter().take(3).any(|token| token.is_word("trigger"));
    match next {
        Some(next) if creates && next.is_word("atomic") => Body::Atomic(1),
        _ if creates && trigger => Body::Trigger,
        _ => Body::None,
    }
}

fn unclosed(first: &Token<'_>) -> Error {
    Error::invalid_input("the script ends inside a BEGIN … END body")
        .with_context("statement", excerpt(first.text))
        .with_context("byte", first.start)
}

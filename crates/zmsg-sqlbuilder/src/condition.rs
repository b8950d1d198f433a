//! The condition of an operation as text and binds.

use zmsg_core::{Condition, Error, Ident, Result, Value};

use crate::Dialect;
use crate::lexer::Lexer;
use crate::render::{check_count, own_parameter};
use crate::token::{Kind, Token, excerpt};

/// Writes a condition as portable text without `WHERE`, and its binds in order.
///
/// Equalities become `"a" = ? AND "b" = ?`, a SQL condition comes out in parentheses, and all
/// rows are `1 = 1`. What comes out can be joined with other conditions by `AND`.
///
/// # Errors
/// `InvalidInput` for no equality at all, one with NULL, and a SQL condition that is empty, is
/// not one expression (a semicolon, brackets that do not match, something not closed) or has
/// another number of placeholders than binds.
pub fn condition(condition: &Condition) -> Result<(String, Vec<Value>)> {
    match condition {
        Condition::Eq(equalities) => {
            let values = equalities.iter().map(|(_, value)| value.clone()).collect();
            Ok((equal(equalities)?, values))
        }
        Condition::Sql { text, binds } => {
            Ok((format!("({})", expression(text, binds.len())?), binds.clone()))
        }
        Condition::AllRows => Ok(("1 = 1".to_owned(), Vec::new())),
    }
}

fn equal(equalities: &[(Ident, Value)]) -> Result<String> {
    if equalities.is_empty() {
        return Err(Error::invalid_input("a condition names at least one column"));
    }
    let mut text = String::new();
    for (column, value) in equalities {
        if value.is_null() {
            return Err(equals_null(column));
        }
        if !text.is_empty() {
            text.push_str(" AND ");
        }
        column.write_quoted(&mut text);
        text.push_str(" = ?");
    }
    Ok(text)
}

/// The error for `column = NULL`, which no row meets.
pub(crate) fn equals_null(column: &Ident) -> Error {
    let mut quoted = String::new();
    column.write_quoted(&mut quoted);
    Error::invalid_input(format!("no row equals NULL; use where_sql(\"{quoted} IS NULL\", ())"))
}

/// Checks that the text is one expression with this many binds, and cuts off what surrounds it:
/// a line comment at its end would swallow the closing parenthesis.
pub(crate) fn expression(text: &str, binds: usize) -> Result<&str> {
    let tokens = Lexer::significant(text, Dialect::Postgres)?;
    let refused = |problem: &'static str| {
        Err(Error::invalid_input(problem).with_context("condition", excerpt(text)))
    };
    let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else {
        return refused("the condition is empty; use all_rows() to mean every row");
    };
    if first.is_word("where") {
        return refused("a condition is written without WHERE");
    }
    if tokens.iter().any(|token| token.kind == Kind::Semicolon) {
        return refused("a condition is one expression; remove the semicolon");
    }
    if !brackets_match(&tokens) {
        return refused("the brackets of the condition do not match");
    }
    if let Some(param) = tokens.iter().find(|token| token.kind == Kind::Param) {
        return Err(own_parameter(param));
    }
    let placeholders = tokens.iter().filter(|token| token.kind == Kind::Bind).count();
    check_count(text, placeholders, binds)?;
    Ok(&text[first.start..last.end()])
}

fn brackets_match(tokens: &[Token<'_>]) -> bool {
    let mut open = Vec::new();
    tokens.iter().all(|token| match (token.kind, token.text) {
        (Kind::Open, bracket) => {
            open.push(bracket);
            true
        }
        (Kind::Close, ")") => open.pop() == Some("("),
        (Kind::Close, _) => open.pop() == Some("["),
        _ => true,
    }) && open.is_empty()
}

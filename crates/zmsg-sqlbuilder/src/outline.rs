//! The words of a statement that say what it does.

use zmsg_core::Result;

use crate::Dialect;
use crate::lexer::Lexer;
use crate::token::Kind;

/// The keywords and unquoted names of a text that stand outside of brackets, strings and
/// comments, in lower case and in order.
///
/// The first one names the command; of a statement that begins with `WITH`, the first of
/// `select`, `insert`, `update`, `delete` and `merge` does, since the common table expressions
/// stand in brackets.
///
/// # Errors
/// `InvalidInput` for a string, identifier or comment that is not closed, and for NUL.
pub fn outline(text: &str, dialect: Dialect) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut depth = 0_usize;
    for token in Lexer::new(text, dialect)? {
        let token = token?;
        match token.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Word if depth == 0 => words.push(token.text.to_ascii_lowercase()),
            _ => {}
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_brackets_strings_and_comments_is_left_out() {
        let text = "/* DELETE */ WITH \"Select\" AS (INSERT INTO b VALUES ('x') RETURNING *) \
                    UPDATE c SET d = 'delete' -- more\n WHERE e IN (SELECT 1)";
        let words = outline(text, Dialect::Postgres).unwrap();
        assert_eq!(words, ["with", "as", "update", "c", "set", "d", "where", "e", "in"]);
        assert!(outline(" -- nothing\n", Dialect::Postgres).unwrap().is_empty());
        assert!(outline("SELECT 'open", Dialect::Postgres).is_err());
    }
}

//! A text cut where its binds stand.

use zmsg_core::Result;

use crate::Dialect;
use crate::lexer::Lexer;
use crate::render::{check_count, own_parameter};
use crate::token::Kind;

/// The pieces of a portable text before, between and behind its binds, one more than there are
/// binds, for whoever writes the placeholders himself. `??` is a literal `?` in them; a space
/// keeps a word and a bind that touch each other apart.
///
/// # Errors
/// As for [`render`](crate::render), except that the number of binds has no limit here.
pub fn pieces(text: &str, binds: usize, dialect: Dialect) -> Result<Vec<String>> {
    let mut pieces = vec![String::new()];
    let mut after_bind = false;
    for token in Lexer::new(text, dialect)? {
        let token = token?;
        if token.kind == Kind::Param {
            return Err(own_parameter(&token));
        }
        let count = pieces.len();
        let piece = &mut pieces[count - 1];
        if token.kind == Kind::Bind {
            piece.push(' ');
            pieces.push(String::new());
            after_bind = true;
            continue;
        }
        if after_bind && token.is_significant() {
            piece.push(' ');
        }
        after_bind = false;
        piece.push_str(if token.kind == Kind::Escaped { "?" } else { token.text });
    }
    check_count(text, pieces.len() - 1, binds)?;
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_its_binds_and_nowhere_else() {
        let cut = |text, binds| pieces(text, binds, Dialect::Postgres);
        let found = cut("SELECT '?' WHERE a ?? 'k' AND b=?LIMIT? -- ?", 2).unwrap();
        assert_eq!(found, ["SELECT '?' WHERE a ? 'k' AND b= ", " LIMIT ", " -- ?"]);
        assert_eq!(cut("SELECT 1", 0).unwrap(), ["SELECT 1"]);
        assert!(cut("SELECT ?", 2).is_err() && cut("SELECT $1", 0).is_err());
    }
}

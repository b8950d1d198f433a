//! The lexer: where strings, comments, identifiers and binds begin and end.
//!
//! The rules are those of the databases' own scanners: PostgreSQL, "Lexical Structure" (4.1), and
//! SQLite's tokenizer. They differ in comments (SQLite does not nest them), in dollar quotes and
//! backslash strings (PostgreSQL only), and in `[..]` and backquotes (SQLite only).

use zmsg_core::{Error, Result};

use crate::Dialect;
use crate::keyword::expects_operand;
use crate::token::{Kind, Token, excerpt};

/// Reads a text token by token; the tokens put together are the text.
#[derive(Debug)]
pub(crate) struct Lexer<'a> {
    text: &'a str,
    dialect: Dialect,
    at: usize,
    /// The last significant token.
    previous: &'a str,
    /// Whether that token ended an operand. In valid SQL no bind follows an operand directly, so
    /// a `?` there is an operator.
    after_operand: bool,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str, dialect: Dialect) -> Result<Self> {
        if let Some(at) = text.bytes().position(|byte| byte == 0) {
            return Err(Error::invalid_input("a statement must not contain NUL")
                .with_context("byte", at)
                .with_context("text", excerpt(text)));
        }
        Ok(Self { text, dialect, at: 0, previous: "", after_operand: false })
    }

    /// The tokens without white space and comments.
    pub(crate) fn significant(text: &'a str, dialect: Dialect) -> Result<Vec<Token<'a>>> {
        Self::new(text, dialect)?
            .filter(|token| token.as_ref().map_or(true, Token::is_significant))
            .collect()
    }

    fn measure(&self, rest: &[u8]) -> Result<(Kind, usize)> {
        let second = rest.get(1).copied().unwrap_or_default();
        let sqlite = self.dialect == Dialect::Sqlite;
        Ok(match rest[0] {
            byte if is_space(byte) => (Kind::Space, run(rest, is_space)),
            b'-' if second == b'-' => (Kind::Comment, self.line_comment(rest)),
            b'/' if second == b'*' => (Kind::Comment, self.block_comment(rest)?),
            b'\'' => (Kind::Literal, self.closed(quoted(rest, 1, b'\''), "string")?),
            b'"' => (Kind::Quoted, self.closed(quoted(rest, 1, b'"'), "quoted identifier")?),
            b'`' if sqlite => {
                (Kind::Quoted, self.closed(quoted(rest, 1, b'`'), "quoted identifier")?)
            }
            b'[' if sqlite => (Kind::Quoted, self.closed(find(rest, b"]"), "quoted identifier")?),
            b'?' => self.question(rest),
            b'$' => self.dollar(rest)?,
            b':' | b'@' if sqlite && is_word_byte(second) => {
                (Kind::Param, 1 + run(&rest[1..], is_word_byte))
            }
            b'@' if second == b'?' && self.after_operand => (Kind::Question, 2),
            b'(' | b'[' => (Kind::Open, 1),
            b')' | b']' => (Kind::Close, 1),
            b';' => (Kind::Semicolon, 1),
            b'.' if second.is_ascii_digit() => (Kind::Number, number(rest)),
            byte if byte.is_ascii_digit() => (Kind::Number, number(rest)),
            byte if is_word_byte(byte) => self.word(rest)?,
            byte if is_operator(byte) => (Kind::Symbol, operator(rest)),
            _ => (Kind::Symbol, 1),
        })
    }

    fn question(&self, rest: &[u8]) -> (Kind, usize) {
        match rest.get(1) {
            Some(b'?') => (Kind::Escaped, 2),
            Some(b'|' | b'&') if self.after_operand => (Kind::Question, 2),
            _ if self.after_operand => (Kind::Question, 1),
            Some(b'0'..=b'9') => (Kind::Param, 1 + run(&rest[1..], |b| b.is_ascii_digit())),
            _ => (Kind::Bind, 1),
        }
    }

    /// `$1`, `$tag$ … $tag$`, or SQLite's `$name`.
    fn dollar(&self, rest: &[u8]) -> Result<(Kind, usize)> {
        let name = run(&rest[1..], is_word_byte);
        if self.dialect == Dialect::Sqlite {
            return Ok(if name > 0 { (Kind::Param, 1 + name) } else { (Kind::Symbol, 1) });
        }
        let digits = run(&rest[1..], |byte| byte.is_ascii_digit());
        if digits > 0 {
            return Ok((Kind::Param, 1 + digits));
        }
        let tag = run(&rest[1..], |byte| is_word_byte(byte) && byte != b'$');
        if rest.get(1 + tag) != Some(&b'$') {
            return Ok((Kind::Symbol, 1));
        }
        let opening = &rest[..tag + 2];
        let body = self.closed(find(&rest[opening.len()..], opening), "dollar-quoted string")?;
        Ok((Kind::Literal, opening.len() + body))
    }

    /// A word, or a string with a prefix: `E'..'`, `U&'..'`, `U&".."`, `X'..'`, `B'..'`, `N'..'`.
    fn word(&self, rest: &[u8]) -> Result<(Kind, usize)> {
        let length = run(rest, is_word_byte);
        let postgres = self.dialect == Dialect::Postgres;
        let prefix = if length == 1 { rest[0].to_ascii_lowercase() } else { 0 };
        match (prefix, rest.get(1), rest.get(2)) {
            (b'e', Some(b'\''), _) if postgres => {
                Ok((Kind::Literal, self.closed(backslash_string(rest), "string")?))
            }
            (b'u', Some(b'&'), Some(b'\'')) if postgres => {
                Ok((Kind::Literal, self.closed(quoted(rest, 3, b'\''), "string")?))
            }
            (b'u', Some(b'&'), Some(b'"')) if postgres => {
                Ok((Kind::Quoted, self.closed(quoted(rest, 3, b'"'), "quoted identifier")?))
            }
            (b'x', Some(b'\''), _) | (b'b' | b'n', Some(b'\''), _)
                if postgres || prefix == b'x' =>
            {
                Ok((Kind::Literal, self.closed(quoted(rest, 2, b'\''), "string")?))
            }
            _ => Ok((Kind::Word, length)),
        }
    }

    fn line_comment(&self, rest: &[u8]) -> usize {
        // A carriage return alone ends the line on PostgreSQL only.
        let postgres = self.dialect == Dialect::Postgres;
        run(rest, |byte| byte != b'\n' && !(postgres && byte == b'\r'))
    }

    fn block_comment(&self, rest: &[u8]) -> Result<usize> {
        let mut depth = 1;
        let mut at = 2;
        while depth > 0 {
            match rest.get(at..at + 2) {
                Some(b"*/") => (depth, at) = (depth - 1, at + 2),
                Some(b"/*") if self.dialect == Dialect::Postgres => {
                    (depth, at) = (depth + 1, at + 2);
                }
                Some(_) => at += 1,
                None => return self.closed(None, "comment"),
            }
        }
        Ok(at)
    }

    fn closed(&self, length: Option<usize>, what: &'static str) -> Result<usize> {
        length.ok_or_else(|| {
            Error::invalid_input(format!("a {what} is not closed"))
                .with_context("byte", self.at)
                .with_context("text", excerpt(&self.text[self.at..]))
        })
    }

    /// Remembers what the next `?` has to know.
    fn remember(&mut self, token: &Token<'a>) {
        self.after_operand = match token.kind {
            Kind::Space | Kind::Comment => return,
            Kind::Word => !expects_operand(token.text, self.previous, self.after_operand),
            Kind::Quoted | Kind::Literal | Kind::Number => true,
            Kind::Bind | Kind::Param | Kind::Close => true,
            Kind::Escaped | Kind::Question | Kind::Open | Kind::Semicolon => false,
            // `OPERATOR(schema.?)`: what follows a dot is a name.
            Kind::Symbol => token.text == ".",
        };
        self.previous = token.text;
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Result<Token<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.text.as_bytes()[self.at..];
        if rest.is_empty() {
            return None;
        }
        let scanned = self.measure(rest).map(|(kind, length)| {
            let text = &self.text[self.at..self.at + length];
            Token { kind, text, start: self.at }
        });
        match &scanned {
            Ok(token) => {
                self.at = token.end();
                self.remember(token);
            }
            Err(_) => self.at = self.text.len(),
        }
        Some(scanned)
    }
}

/// A byte that may stand inside an identifier without quotes.
pub(crate) fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

fn is_operator(byte: u8) -> bool {
    b"+-*/<>=~!@#%^&|".contains(&byte)
}

fn run(bytes: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|byte| !belongs(*byte)).unwrap_or(bytes.len())
}

/// The bytes up to and with `end`.
fn find(bytes: &[u8], end: &[u8]) -> Option<usize> {
    bytes.windows(end.len()).position(|window| window == end).map(|at| at + end.len())
}

/// The bytes up to and with the closing quote, where a doubled quote stands for itself.
fn quoted(bytes: &[u8], from: usize, quote: u8) -> Option<usize> {
    let mut at = from;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == quote)? + 1;
        if bytes.get(at) != Some(&quote) {
            return Some(at);
        }
        at += 1;
    }
}

/// The bytes of `E'..'` with what continues it on later lines, where backslashes count as well.
fn backslash_string(bytes: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        match bytes.get(at)? {
            b'\\' => at += 2,
            b'\'' if bytes.get(at + 1) == Some(&b'\'') => at += 2,
            b'\'' => match continuation(&bytes[at + 1..]) {
                Some(next) => at += 1 + next,
                None => return Some(at + 1),
            },
            _ => at += 1,
        }
    }
}

/// The bytes up to and with a quote that comes after at least one new line.
fn continuation(bytes: &[u8]) -> Option<usize> {
    let space = run(bytes, is_space);
    let line_ends = bytes[..space].iter().any(|byte| matches!(byte, b'\n' | b'\r'));
    let continues = bytes.get(space) == Some(&b'\'') && line_ends;
    continues.then_some(space + 1)
}

fn number(bytes: &[u8]) -> usize {
    let mut at = 0;
    let hex = matches!(bytes, [b'0', b'x' | b'X', ..]);
    while let Some(byte) = bytes.get(at) {
        let sign = matches!(byte, b'+' | b'-') && !hex && matches!(bytes[at - 1], b'e' | b'E');
        if !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_') || sign) {
            break;
        }
        at += 1;
    }
    at
}

fn operator(bytes: &[u8]) -> usize {
    let comment = |at: usize| matches!(bytes.get(at..at + 2), Some(b"--" | b"/*"));
    (1..bytes.len()).find(|at| !is_operator(bytes[*at]) || comment(*at)).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        let tokens = Lexer::significant(text, Dialect::Postgres).unwrap();
        tokens.iter().map(|token| token.kind).collect()
    }

    #[test]
    fn tokens_have_the_kinds_of_the_grammar() {
        use Kind::*;
        for (text, expected) in [
            ("a_1$ \"b\" 'c' $$d$$", vec![Word, Quoted, Literal, Literal]),
            ("E'\\'' U&'a' U&\"a\" x'0'", vec![Literal, Literal, Quoted, Literal]),
            ("1.5e-3 .5 0xE -1", vec![Number, Number, Number, Symbol, Number]),
            ("? ? ?? $1 ?|", vec![Bind, Question, Escaped, Param, Question]),
            ("(a[1]);", vec![Open, Word, Open, Number, Close, Close, Semicolon]),
            ("a->>'b'--c\n::d", vec![Word, Symbol, Literal, Symbol, Symbol, Word]),
        ] {
            assert_eq!(kinds(text), expected, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn the_tokens_put_together_are_the_text(text in "[a-eE'\"$?;/*\\\\\\-\\[\\] \né1]{0,30}") {
            for dialect in [Dialect::Postgres, Dialect::Sqlite] {
                let tokens: Result<Vec<_>> = Lexer::new(&text, dialect).unwrap().collect();
                if let Ok(tokens) = tokens {
                    let together: String = tokens.iter().map(|token| token.text).collect();
                    prop_assert_eq!(&together, &text);
                }
            }
        }
    }
}

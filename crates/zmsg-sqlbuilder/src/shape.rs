//! The shape of a statement: its verb, its clauses, and what is refused of it.

use zmsg_core::{Error, Result};

use crate::Dialect;
use crate::lexer::Lexer;
use crate::render::{check_count, own_parameter};
use crate::script::split;
use crate::token::{Kind, Token, excerpt};

/// One statement, read as far as its clauses.
#[derive(Debug)]
pub(crate) struct Shape<'a> {
    text: &'a str,
    tokens: Vec<Token<'a>>,
    /// How many brackets are open around each token.
    depths: Vec<usize>,
    /// Where the verb stands, behind `WITH` and `EXPLAIN`.
    verb: usize,
}

/// The verbs that can follow `WITH …`.
const MAIN: &[&str] =
    &["select", "insert", "update", "delete", "values", "merge", "replace", "table"];

/// The verbs whose rows `RETURNING` gives.
const WRITES: &[&str] = &["insert", "update", "delete", "merge", "replace"];

const TRANSACTION: &str =
    "transaction control is refused: each write is a transaction of its own; leave it out";
const SESSION: &str = "what changes a session is refused, because connections are shared; \
     use SET LOCAL, or configure the store";
const NOTIFICATION: &str = "notifications are refused on shared connections; use the message bus";
const FILES: &str = "the files of a database are chosen when the store is opened";

/// What is refused by its first word, and the way out.
const REFUSED: &[(&str, &str)] = &[
    ("begin", TRANSACTION),
    ("start", TRANSACTION),
    ("commit", TRANSACTION),
    ("end", TRANSACTION),
    ("rollback", TRANSACTION),
    ("savepoint", TRANSACTION),
    ("release", TRANSACTION),
    ("abort", TRANSACTION),
    ("prepare", "preparing is refused: statements are prepared and committed by the store"),
    ("deallocate", SESSION),
    ("set", SESSION),
    ("reset", SESSION),
    ("discard", SESSION),
    ("load", SESSION),
    ("listen", NOTIFICATION),
    ("notify", NOTIFICATION),
    ("unlisten", NOTIFICATION),
    ("copy", "COPY is refused: it speaks a protocol of its own; insert rows with binds"),
    ("attach", FILES),
    ("detach", FILES),
    ("vacuum", "VACUUM cannot run in a transaction; run it from a maintenance tool"),
    ("pragma", "pragmas are set when the store is opened; see its configuration"),
    ("do", "anonymous code is refused; create a function in a migration and call it"),
];

impl<'a> Shape<'a> {
    /// Reads a text that has to be one statement with this many binds, in portable form.
    pub(crate) fn read(text: &'a str, binds: usize) -> Result<Self> {
        let all = Lexer::significant(text, Dialect::Postgres)?;
        let statements = split(&all)?;
        let tokens = match statements.as_slice() {
            [] => return Err(Error::invalid_input("the statement is empty")),
            [one] => one.to_vec(),
            [_, second, ..] => return Err(several(statements.len(), &second[0])),
        };
        if let Some(param) = tokens.iter().find(|token| token.kind == Kind::Param) {
            return Err(own_parameter(param));
        }
        let placeholders = tokens.iter().filter(|token| token.kind == Kind::Bind).count();
        check_count(text, placeholders, binds)?;
        let depths = depths(&tokens);
        let verb = verb(&tokens, &depths);
        Ok(Self { text, tokens, depths, verb })
    }

    /// The text up to the last token, without what trails it: a line comment there would swallow
    /// a clause that is appended.
    pub(crate) fn head(&self) -> &'a str {
        &self.text[..self.tokens.last().map_or(0, Token::end)]
    }

    /// The verb, for the text of an error.
    pub(crate) fn verb(&self) -> &'a str {
        self.tokens[self.verb].text
    }

    pub(crate) fn is_insert(&self) -> bool {
        self.tokens[self.verb].is_word("insert")
    }

    pub(crate) fn writes(&self) -> bool {
        self.tokens[self.verb].is_any(WRITES)
    }

    pub(crate) fn has_returning(&self) -> bool {
        self.writes() && self.clause(self.verb, &["returning"]).is_some()
    }

    pub(crate) fn has_on_conflict(&self) -> bool {
        let verb = self.verb;
        self.clauses(verb, &["on"])
            .any(|at| self.tokens.get(at + 1).is_some_and(|next| next.is_word("conflict")))
    }

    /// Whether running it gives rows.
    pub(crate) fn returns_rows(&self) -> bool {
        let first = self.tokens.iter().find(|token| token.kind != Kind::Open);
        first.is_some_and(|first| first.is_any(&["explain", "show"]))
            || self.tokens[self.verb].is_any(&["select", "values", "table"])
            || self.has_returning()
    }

    /// Whether `ON CONFLICT` after it would be read as the condition of a join: an insert from a
    /// select that ends with its `FROM` (SQLite, "Parsing Ambiguity" of UPSERT).
    pub(crate) fn ends_in_from(&self) -> bool {
        const AFTER_FROM: &[&str] =
            &["where", "group", "having", "window", "order", "limit", "offset", "fetch", "for"];
        let distinct = |at: usize| self.tokens[at - 1].is_word("distinct");
        let from = self.clauses(self.verb, &["from"]).filter(|at| !distinct(*at)).last();
        from.is_some_and(|from| self.clause(from, AFTER_FROM).is_none())
    }

    /// Refuses what does not belong into a single write.
    pub(crate) fn check_verb(&self) -> Result<()> {
        let first = &self.tokens[self.verb];
        let local = self.tokens.get(self.verb + 1).is_some_and(|next| next.is_word("local"));
        if first.is_word("set") && local {
            return Ok(());
        }
        match REFUSED.iter().find(|(word, _)| first.is_word(word)) {
            Some((_, problem)) => {
                Err(Error::invalid_input(*problem).with_context("found", first.text))
            }
            None => Ok(()),
        }
    }

    /// Refuses an `UPDATE` or `DELETE` without `WHERE`, inside `WITH` as well.
    pub(crate) fn check_conditions(&self) -> Result<()> {
        if self.tokens[self.verb].is_word("create") {
            return Ok(());
        }
        let unconditional = (0..self.tokens.len())
            .find(|at| self.changes_rows(*at) && self.clause(*at, &["where"]).is_none());
        match unconditional {
            Some(at) => Err(Error::invalid_input(
                "an UPDATE or DELETE without WHERE changes every row; \
                 add a condition, or call all_rows() if that is meant",
            )
            .with_context("found", self.tokens[at].text)
            .with_context("byte", self.tokens[at].start)),
            None => Ok(()),
        }
    }

    /// Whether an `UPDATE` or `DELETE` statement begins here: as the verb, or in brackets.
    fn changes_rows(&self, at: usize) -> bool {
        let in_brackets = at > 0 && self.tokens[at - 1].kind == Kind::Open;
        let Some(next) = self.tokens.get(at + 1) else { return false };
        let token = &self.tokens[at];
        let begins = token.is_word("update") && matches!(next.kind, Kind::Word | Kind::Quoted)
            || token.is_word("delete") && next.is_word("from");
        begins && (at == self.verb || in_brackets)
    }

    /// The first of these keywords after `from`, in the same brackets.
    fn clause(&self, from: usize, words: &[&str]) -> Option<usize> {
        self.clauses(from, words).next()
    }

    fn clauses(&self, from: usize, words: &[&str]) -> impl Iterator<Item = usize> {
        let depth = self.depths[from];
        (from + 1..self.tokens.len())
            .take_while(move |at| self.depths[*at] >= depth)
            .filter(move |at| self.depths[*at] == depth && self.tokens[*at].is_any(words))
    }
}

fn depths(tokens: &[Token<'_>]) -> Vec<usize> {
    let mut depth = 0_usize;
    let around = |token: &Token<'_>| match token.kind {
        Kind::Open => {
            depth += 1;
            depth - 1
        }
        Kind::Close => {
            depth = depth.saturating_sub(1);
            depth
        }
        _ => depth,
    };
    tokens.iter().map(around).collect()
}

fn verb(tokens: &[Token<'_>], depths: &[usize]) -> usize {
    let mut at = first_not(tokens, 0, |token| token.kind == Kind::Open);
    if tokens[at].is_word("explain") {
        let depth = depths[at];
        at = (at + 1..tokens.len())
            .find(|at| {
                depths[*at] == depth && tokens[*at].kind == Kind::Word && !option(&tokens[*at])
            })
            .unwrap_or(at);
    }
    if !tokens[at].is_word("with") {
        return at;
    }
    // The name of a common table expression may be a verb: names follow WITH or a comma.
    let named = |before: &Token<'_>| before.is_any(&["with", "recursive"]) || before.text == ",";
    (at + 1..tokens.len())
        .find(|i| depths[*i] == depths[at] && tokens[*i].is_any(MAIN) && !named(&tokens[*i - 1]))
        .unwrap_or(at)
}

fn first_not(tokens: &[Token<'_>], from: usize, skip: impl Fn(&Token<'_>) -> bool) -> usize {
    (from..tokens.len()).find(|at| !skip(&tokens[*at])).unwrap_or(tokens.len() - 1)
}

/// An option of `EXPLAIN`.
fn option(token: &Token<'_>) -> bool {
    token.is_any(&["analyze", "analyse", "verbose", "query", "plan"])
}

fn several(count: usize, second: &Token<'_>) -> Error {
    Error::invalid_input(format!(
        "the text has {count} statements; write them one by one, or put them into a migration"
    ))
    .with_context("second", excerpt(second.text))
    .with_context("byte", second.start)
}

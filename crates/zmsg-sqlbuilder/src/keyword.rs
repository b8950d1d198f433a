//! The keywords after which an operand follows, and so a bind may.

/// Keywords that are reserved on PostgreSQL or SQLite: never the name of a column unquoted.
const RESERVED: &[&str] = &[
    "all",
    "and",
    "any",
    "asymmetric",
    "between",
    "both",
    "case",
    "default",
    "distinct",
    "else",
    "except",
    "for",
    "from",
    "having",
    "ilike",
    "in",
    "intersect",
    "is",
    "leading",
    "like",
    "limit",
    "not",
    "offset",
    "on",
    "or",
    "placing",
    "returning",
    "select",
    "similar",
    "some",
    "symmetric",
    "then",
    "to",
    "trailing",
    "union",
    "using",
    "values",
    "variadic",
    "when",
    "where",
];

/// Words that are operators between two operands, and else may name a column.
const INFIX: &[&str] =
    &["escape", "glob", "groups", "match", "overlaps", "range", "regexp", "rows"];

/// Whether an operand follows `word`.
///
/// A word that is not reserved may name a column, so its place decides: `x GLOB ?` binds, while
/// `WHERE glob ? 'key'` asks a column whether it has a key. `previous` is the significant token
/// before `word`, and `after_operand` tells whether that token ended an operand.
pub(crate) fn expects_operand(word: &str, previous: &str, after_operand: bool) -> bool {
    let among = |words: &[&str]| words.iter().any(|known| word.eq_ignore_ascii_case(known));
    let follows = |words: &[&str]| words.iter().any(|known| previous.eq_ignore_ascii_case(known));
    among(RESERVED)
        || among(INFIX) && (after_operand || follows(&["not"]))
        || among(&["by"]) && follows(&["order", "group", "partition"])
        || among(&["first", "next"]) && follows(&["fetch"])
        || among(&["zone"]) && follows(&["time"])
}

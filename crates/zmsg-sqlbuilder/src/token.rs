//! One token of a SQL text.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// White space.
    Space,
    /// `-- …` or `/* … */`.
    Comment,
    /// A keyword or an identifier without quotes.
    Word,
    /// An identifier in quotes.
    Quoted,
    /// A string or bit-string literal of any spelling, dollar quotes included.
    Literal,
    /// A number.
    Number,
    /// `?` that stands for a bind.
    Bind,
    /// `??`, which stands for a literal question mark.
    Escaped,
    /// An operator that contains a question mark: `?`, `?|`, `?&`, `@?`.
    Question,
    /// A parameter in a database's own spelling: `$1`, `?1`, `:name`.
    Param,
    /// `(` or `[`.
    Open,
    /// `)` or `]`.
    Close,
    /// `;`
    Semicolon,
    /// Any other operator or punctuation.
    Symbol,
}

/// A token: its kind and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
    /// The byte of the text at which it begins.
    pub(crate) start: usize,
}

impl Token<'_> {
    /// The byte of the text after its last.
    pub(crate) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// False for white space and comments.
    pub(crate) fn is_significant(&self) -> bool {
        !matches!(self.kind, Kind::Space | Kind::Comment)
    }

    /// Whether it is this keyword or unquoted identifier, in any case.
    pub(crate) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }

    /// Whether it is one of these keywords, in any case.
    pub(crate) fn is_any(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.is_word(word))
    }
}

/// The first characters of a text for an error, with what would disturb a terminal escaped.
pub(crate) fn excerpt(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().take(80) {
        match c {
            '\'' | '"' | '\\' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}

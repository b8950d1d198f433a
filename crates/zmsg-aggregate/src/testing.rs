//! For tests and fuzzers: the decoder of the journal by itself.

pub use crate::journal::check_journal_record;

//! A pattern in a stream that arrives in pieces.

/// Finds a pattern also where it lies across two pieces.
#[derive(Debug, Default)]
pub(super) struct Search {
    tail: Vec<u8>,
}

impl Search {
    /// Whether the pattern ends in this piece of the stream.
    pub(super) fn ends_in(&mut self, piece: &[u8], pattern: &[u8]) -> bool {
        if pattern.is_empty() {
            return !piece.is_empty();
        }
        self.tail.extend_from_slice(piece);
        let found = self.tail.windows(pattern.len()).any(|window| window == pattern);
        // What could still be the beginning of the pattern; after a find, nothing.
        let keep = if found { 0 } else { self.tail.len().min(pattern.len() - 1) };
        self.tail.drain(..self.tail.len() - keep);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_found_whole_split_and_once() {
        let mut search = Search::default();
        assert!(search.ends_in(b"Q..COMMIT\0", b"COMMIT"));
        assert!(!search.ends_in(b"..COM", b"COMMIT"));
        assert!(!search.ends_in(b"M", b"COMMIT"));
        assert!(search.ends_in(b"IT\0", b"COMMIT"));
        assert!(!search.ends_in(b"\0", b"COMMIT"));
        assert!(!search.ends_in(b"MIT", b"COMMIT"));
    }
}

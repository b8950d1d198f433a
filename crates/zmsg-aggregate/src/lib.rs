//! The algebra of foldable operations, the sharded buffer, and its flusher.

//! A storage engine for messages, feeds and counters.

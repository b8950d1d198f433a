//! Task queues: delay, retries, dead letters; in memory and in SQL.

-- Folds are applied by functions that SQLite borrows from Rust on every connection: there is
-- nothing to create here. On PostgreSQL the step of this number creates them.
SELECT 1;

-- The tables of the task queue are there since the step before this one. On PostgreSQL the step
-- of this number creates them.
SELECT 1;

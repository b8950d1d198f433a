-- Nothing was created.
SELECT 1;

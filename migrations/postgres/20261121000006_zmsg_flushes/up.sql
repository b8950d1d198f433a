-- Which cache keys the last flushes of an engine have to take out of the cache that nodes share,
-- written in the transaction of the flush: if the engine is killed before it has done so, others
-- do. A slot is used again when that is done, so a row is updated in place.
CREATE TABLE zmsg_flushes (
  member uuid   NOT NULL,  -- the engine, as in zmsg_members
  slot   bigint NOT NULL,
  seq    bigint NOT NULL,  -- which flush of the engine it was
  keys   bytea  NOT NULL,
  PRIMARY KEY (member, slot)
) WITH (fillfactor = 50);

-- Compressing them would cost a flush more than writing them.
ALTER TABLE zmsg_flushes ALTER COLUMN keys SET STORAGE EXTERNAL;

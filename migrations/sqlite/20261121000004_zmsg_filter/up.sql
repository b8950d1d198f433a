-- What the nodes agree on about a membership filter that they share. Every change but `beat` raises
-- `version`; a write commits only if the version that its keys were added under still holds.
CREATE TABLE zmsg_filter_state (
  name     TEXT    PRIMARY KEY,
  version  INTEGER NOT NULL,
  trusted  TEXT,                      -- the generation whose "absent" counts
  building TEXT,                      -- the generation that is being filled
  retiring TEXT,                      -- one that a reader may trust for the rest of its lease
  settled  INTEGER NOT NULL,          -- 0 until no reader trusts a generation that was dropped
  cause    TEXT    NOT NULL,          -- why nothing is trusted
  covers   TEXT    NOT NULL,          -- what the trusted generation was seeded from, a line each
  beat     INTEGER NOT NULL           -- grows while the builder lives
) STRICT, WITHOUT ROWID;

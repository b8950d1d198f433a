-- What the nodes agree on about a membership filter that they share. Every change but `beat` raises
-- `version`; a write commits only if the version that its keys were added under still holds.
CREATE TABLE zmsg_filter_state (
  name     text    PRIMARY KEY,
  version  bigint  NOT NULL,
  trusted  text,                      -- the generation whose "absent" counts
  building text,                      -- the generation that is being filled
  retiring text,                      -- one that a reader may trust for the rest of its lease
  settled  boolean NOT NULL,          -- false until no reader trusts a generation that was dropped
  cause    text    NOT NULL,          -- why nothing is trusted
  covers   text    NOT NULL,          -- what the trusted generation was seeded from, a line each
  beat     bigint  NOT NULL           -- grows while the builder lives
);

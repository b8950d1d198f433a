CREATE TABLE messages (
  id           TEXT PRIMARY KEY,
  conversation TEXT NOT NULL,
  src          INTEGER NOT NULL,
  dst          INTEGER NOT NULL,
  sent_at      INTEGER NOT NULL,
  body         TEXT NOT NULL,
  read         INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE users (
  id       INTEGER PRIMARY KEY,
  sent     INTEGER NOT NULL DEFAULT 0,
  received INTEGER NOT NULL DEFAULT 0,
  unread   INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE conversations (
  id           TEXT PRIMARY KEY,
  messages     INTEGER NOT NULL DEFAULT 0,
  participants TEXT,
  last         TEXT
);

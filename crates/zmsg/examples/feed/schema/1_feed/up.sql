CREATE TABLE messages (
  id           TEXT PRIMARY KEY,
  conversation TEXT NOT NULL,
  src          BIGINT  NOT NULL,
  dst          BIGINT  NOT NULL,
  sent_at      BIGINT  NOT NULL,
  body         TEXT NOT NULL,
  read         BIGINT  NOT NULL DEFAULT 0
);

CREATE TABLE users (
  id       BIGINT PRIMARY KEY,
  sent     BIGINT  NOT NULL DEFAULT 0,
  received BIGINT  NOT NULL DEFAULT 0,
  unread   BIGINT  NOT NULL DEFAULT 0
);

CREATE TABLE conversations (
  id           TEXT PRIMARY KEY,
  messages     BIGINT  NOT NULL DEFAULT 0,
  participants TEXT,
  last         TEXT
);

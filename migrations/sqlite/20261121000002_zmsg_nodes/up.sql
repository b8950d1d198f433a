-- The leases of node numbers, by the clock of this machine. Times are milliseconds since the
-- Unix epoch.

-- The layout of a cluster's ids, as epoch/time bits/node bits/sequence bits: ids of two layouts
-- can be equal.
CREATE TABLE zmsg_node_layout (
  cluster TEXT PRIMARY KEY,
  layout  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- One row for each node of a cluster, made with its layout and never deleted: a ceiling that was
-- promised and forgotten is an id made twice. A node is free from lease_until_ms on; epoch and
-- owner tell its leases apart; holder is for people.
CREATE TABLE zmsg_node (
  cluster        TEXT    NOT NULL REFERENCES zmsg_node_layout (cluster),
  node           INTEGER NOT NULL CHECK (node >= 0),
  epoch          INTEGER NOT NULL DEFAULT 0 CHECK (epoch >= 0),
  owner          BLOB,
  holder         TEXT,
  acquired_ms    INTEGER NOT NULL DEFAULT 0,
  lease_until_ms INTEGER NOT NULL DEFAULT 0,
  ceiling_ms     INTEGER NOT NULL DEFAULT 0 CHECK (ceiling_ms >= 0),
  PRIMARY KEY (cluster, node)
) STRICT, WITHOUT ROWID;

-- The leases of node numbers, by the clock of this database. Times are milliseconds since the
-- Unix epoch.

-- The layout of a cluster's ids, as epoch/time bits/node bits/sequence bits: ids of two layouts
-- can be equal.
CREATE TABLE zmsg_node_layout (
  cluster text PRIMARY KEY,
  layout  text NOT NULL
);

-- One row for each node of a cluster, made with its layout and never deleted: a ceiling that was
-- promised and forgotten is an id made twice. A node is free from lease_until_ms on; epoch and
-- owner tell its leases apart; holder is for people.
CREATE TABLE zmsg_node (
  cluster        text    NOT NULL REFERENCES zmsg_node_layout (cluster),
  node           integer NOT NULL CHECK (node >= 0),
  epoch          bigint  NOT NULL DEFAULT 0 CHECK (epoch >= 0),
  owner          uuid,
  holder         text,
  acquired_ms    bigint  NOT NULL DEFAULT 0,
  lease_until_ms bigint  NOT NULL DEFAULT 0,
  ceiling_ms     bigint  NOT NULL DEFAULT 0 CHECK (ceiling_ms >= 0),
  PRIMARY KEY (cluster, node)
) WITH (fillfactor = 50);

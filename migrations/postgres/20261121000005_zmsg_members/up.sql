-- The engines that are open on this database, and what each of them shares with the others in
-- Redis: an engine that shares something else is refused while they are open. Times are
-- milliseconds since the Unix epoch by the clock of this server. A row counts until
-- lease_until_ms; holder is for people.
CREATE TABLE zmsg_members (
  id             uuid   PRIMARY KEY,
  holder         text   NOT NULL,
  cache          text   NOT NULL,  -- 'none', 'redis NAMESPACE', or 'own': one that the caller brought
  filter         text   NOT NULL,  -- 'none', 'local', 'redis NAMESPACE', or 'own'
  since_ms       bigint NOT NULL,
  lease_until_ms bigint NOT NULL,
  marks          bigint NOT NULL   -- how often it has put its mark into its Redis
) WITH (fillfactor = 50);

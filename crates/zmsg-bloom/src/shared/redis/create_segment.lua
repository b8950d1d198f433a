-- KEYS: the segment. ARGV: the sentinel's position.
-- The sentinel is the last bit, so that the string has its full length from the start.
redis.call('SETBIT', KEYS[1], ARGV[1], 1)
return identity

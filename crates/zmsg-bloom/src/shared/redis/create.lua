-- KEYS: the generation, the list of generations. ARGV: its layout, its name.
redis.call('HSET', KEYS[1], 'layout', ARGV[1], 'ones', 0)
redis.call('SADD', KEYS[2], ARGV[2])
return identity

-- KEYS: the generation. ARGV: layout, identity.
if identity == ARGV[2] and redis.call('HGET', KEYS[1], 'layout') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'retired', 1)
end
return 1

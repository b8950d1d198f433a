-- KEYS: the generation, all its segments. ARGV: layout, identity, the sentinel's position.
-- Gives the number of bits that are set, or -1 if it is not here, whole.
if identity ~= ARGV[2] or redis.call('HGET', KEYS[1], 'layout') ~= ARGV[1] then
  return -1
end
for segment = 2, #KEYS do
  if redis.call('GETBIT', KEYS[segment], ARGV[3]) == 0 then
    return -1
  end
end
return tonumber(redis.call('HGET', KEYS[1], 'ones'))

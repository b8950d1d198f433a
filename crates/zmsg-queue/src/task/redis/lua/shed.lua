-- Takes tasks out of a closed set that cannot be aggregated: those that are gone, and those that cannot be read,
-- which are dead letters then.
-- KEYS: set, sets, archived, grouped, then the task of each.
-- ARGV: now or nothing; then of each its id and its message.
local set, sets, archived, grouped = unpack(KEYS, 1, 4)
local now = moment(ARGV[1])
for at = 5, #KEYS do
  local id, message = ARGV[(at - 4) * 2], ARGV[(at - 4) * 2 + 1]
  if redis.call('ZREM', set, id) == 1 then
    redis.call('ZREM', grouped, id)
    -- Somebody may have enqueued another task of its id.
    if redis.call('HGET', KEYS[at], 'state') == 'aggregating' then
      redis.call('ZADD', archived, math.floor(now / 1000), id)
      redis.call('HSET', KEYS[at], 'msg', message, 'state', 'archived', 'zmsg_died', now)
    end
  end
end
if redis.call('EXISTS', set) == 0 then
  redis.call('ZREM', sets, set)
end
return redis.call('ZCARD', archived)

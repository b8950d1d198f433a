-- Makes a task a dead letter. KEYS: task, active, lease, held, until, archived, then the numbers of
-- processed and failed tasks, each in all and on this day.
-- ARGV: now or nothing, id, attempt, message, how long the number of a day is kept.
-- Answers: how many dead letters there are; 0 if the task is no longer ours.
local task, active, leases, held, until_set, archived = unpack(KEYS, 1, 6)
local now, id = tonumber(ARGV[1]), ARGV[2]
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local found = redis.call('HMGET', task, 'state', 'zmsg_attempt', 'pending_since')
if found[1] ~= 'active' or found[2] ~= ARGV[3] or not found[3] then
  return 0
end
redis.call('LREM', active, 1, id)
redis.call('ZREM', leases, id)
redis.call('ZREM', held, id)
redis.call('ZREM', until_set, id)
redis.call('ZADD', archived, math.floor(now / 1000), id)
redis.call('HSET', task, 'msg', ARGV[4], 'state', 'archived', 'zmsg_died', now)
redis.call('HDEL', task, 'pending_since')
for at = 7, 9, 2 do
  redis.call('INCR', KEYS[at])
  if redis.call('INCR', KEYS[at + 1]) == 1 then
    redis.call('EXPIRE', KEYS[at + 1], ARGV[5])
  end
end
return redis.call('ZCARD', archived)

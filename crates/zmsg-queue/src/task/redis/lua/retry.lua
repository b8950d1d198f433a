-- Gives a task back. KEYS: task, active, lease, held, until, pending, retry or scheduled, due, then the
-- numbers of processed and failed tasks, each in all and on this day.
-- ARGV: now or nothing, id, attempt, message, pause until it is due, the state that waits, whether it
-- counts as a failure, how long the number of a day is kept.
local task, active, leases, held, until_set, pending, waiting, due_set = unpack(KEYS, 1, 8)
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
local due = math.max(0, now + tonumber(ARGV[5]))
redis.call('ZADD', due_set, due, id)
if due <= now then
  -- Where the oldest are: it has waited before.
  redis.call('RPUSH', pending, id)
  redis.call('HSET', task, 'msg', ARGV[4], 'state', 'pending', 'pending_since', string.format('%.0f000000', now))
else
  redis.call('ZADD', waiting, math.ceil(due / 1000), id)
  redis.call('HSET', task, 'msg', ARGV[4], 'state', ARGV[6])
  redis.call('HDEL', task, 'pending_since')
end
if ARGV[7] == '1' then
  for at = 9, 11, 2 do
    redis.call('INCR', KEYS[at])
    if redis.call('INCR', KEYS[at + 1]) == 1 then
      redis.call('EXPIRE', KEYS[at + 1], ARGV[8])
    end
  end
end
return 1

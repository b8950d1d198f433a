-- Gives a task back. KEYS: task, active, lease, held, until, pending, retry or scheduled, due, then the
-- numbers of processed and failed tasks, each in all and on this day.
-- ARGV: now or nothing, id, attempt, message, pause until it is due, the state that waits, whether it
-- counts as a failure, how long the number of a day is kept, whether it has a place in a lane.
local task, active, leases, held, until_set, pending, waiting, due_set = unpack(KEYS, 1, 8)
local now, id = moment(ARGV[1]), ARGV[2]
if not holds(task, ARGV[3]) then
  return 0
end
let_go(id, active, leases, held, until_set)
local due = math.max(0, now + tonumber(ARGV[5]))
redis.call('ZADD', due_set, due, id)
if ARGV[9] == '1' then
  redis.call('ZADD', waiting, NEVER, id)
  redis.call('HSET', task, 'msg', ARGV[4], 'state', ARGV[6])
elseif due <= now then
  -- Where the oldest are: it has waited before.
  redis.call('RPUSH', pending, id)
  redis.call('HSET', task, 'msg', ARGV[4], 'state', 'pending', 'pending_since', nanoseconds(now))
else
  redis.call('ZADD', waiting, math.ceil(due / 1000), id)
  redis.call('HSET', task, 'msg', ARGV[4], 'state', ARGV[6])
  redis.call('HDEL', task, 'pending_since')
end
if ARGV[7] == '1' then
  count_pairs(9, 12, ARGV[8], 1)
end
return 1

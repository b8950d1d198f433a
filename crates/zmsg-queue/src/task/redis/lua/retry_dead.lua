-- Brings a dead letter back, due now. KEYS: task, archived, pending, active, scheduled, retry, due.
-- ARGV: now or nothing, id, message, how many may be live. Answers 1; 0 if there is none, -1 if it is full.
local task, archived, pending, active, scheduled, retry, due_set = unpack(KEYS)
local now, id = moment(ARGV[1]), ARGV[2]
if redis.call('HGET', task, 'state') ~= 'archived' then
  return 0
end
local live = live_in(pending, active, scheduled, retry)
if live >= tonumber(ARGV[4]) then
  return -1
end
redis.call('ZREM', archived, id)
redis.call('LPUSH', pending, id)
redis.call('ZADD', due_set, now, id)
redis.call('HSET', task, 'msg', ARGV[3], 'state', 'pending', 'zmsg_lost', 0,
  'pending_since', nanoseconds(now))
redis.call('HDEL', task, 'zmsg_died')
return 1

-- Brings a dead letter back, due now. KEYS: task, archived, pending, active, scheduled, retry, due, grouped; then of a
-- task of a lane the lane, behind, lanes, numbers.
-- ARGV: now or nothing, id, message, how many may be live. Answers 1; 0 if there is none, -1 if it is full.
local task, archived, pending, active, scheduled, retry, due_set, grouped = unpack(KEYS)
local now, id = moment(ARGV[1]), ARGV[2]
if redis.call('HGET', task, 'state') ~= 'archived' then
  return 0
end
local live = live_in(pending, active, scheduled, retry, grouped)
if live >= tonumber(ARGV[4]) then
  return -1
end
redis.call('ZREM', archived, id)
redis.call('HSET', task, 'msg', ARGV[3], 'zmsg_lost', 0)
-- By hand, it runs without the others of its group.
redis.call('HDEL', task, 'zmsg_died', 'group')
if #KEYS > 8 then
  local lane, behind, lanes, numbers = unpack(KEYS, 9, 12)
  redis.call('ZADD', scheduled, NEVER, id)
  redis.call('HSET', task, 'state', 'scheduled')
  come_back(id, task, now, lane, behind, due_set, lanes, numbers)
else
  redis.call('LPUSH', pending, id)
  redis.call('ZADD', due_set, now, id)
  redis.call('HSET', task, 'state', 'pending', 'pending_since', nanoseconds(now))
end
return 1

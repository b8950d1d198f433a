-- Lets a task be due now. ARGV besides: its message if it is to change, how many may be live.
-- Answers 1; 0 if it stands elsewhere by now, -1 if it is full.
local is_dead = state == 'archived' or state == 'completed'
if is_dead and live_in(pending, active, scheduled, retry, grouped) >= tonumber(ARGV[5]) then
  return -1
end
if not lift() then
  return 0
end
-- By hand, it runs without the others of its group.
redis.call('HDEL', task, 'group')
if not lane then
  redis.call('LPUSH', pending, id)
  redis.call('ZADD', due_set, now, id)
  redis.call('HSET', task, 'state', 'pending', 'pending_since', nanoseconds(now))
else
  redis.call('ZADD', scheduled, NEVER, id)
  redis.call('HSET', task, 'state', 'scheduled')
  come_back(id, task, now, lane, behind, due_set, lanes, numbers)
end
if ARGV[4] ~= '' then
  redis.call('HSET', task, 'msg', ARGV[4])
end
if is_dead then
  redis.call('HSET', task, 'zmsg_lost', 0)
  redis.call('HDEL', task, 'zmsg_died')
end
return 1

-- Forgets a task. KEYS: task, active, lease, held, until, processed, processed on this day.
-- ARGV: id, attempt, how long the number of a day is kept.
-- Answers: 1 and the key of its lock against doubles, which may be empty; 0 if it is no longer ours.
local task, active, leases, held, until_set, processed, processed_today = unpack(KEYS)
local id = ARGV[1]
local found = redis.call('HMGET', task, 'state', 'zmsg_attempt', 'unique_key', 'pending_since')
if found[1] ~= 'active' or found[2] ~= ARGV[2] or not found[4] then
  return { 0, '' }
end
redis.call('LREM', active, 1, id)
redis.call('ZREM', leases, id)
redis.call('ZREM', held, id)
redis.call('ZREM', until_set, id)
redis.call('DEL', task)
redis.call('INCR', processed)
if redis.call('INCR', processed_today) == 1 then
  redis.call('EXPIRE', processed_today, ARGV[3])
end
return { 1, found[3] or '' }

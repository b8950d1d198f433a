-- Takes tasks in, all or none.
-- KEYS: pending, active, scheduled, retry, due, then the task of each.
-- ARGV: now or nothing, how many may be live; then of each task its id, message, and pause until it is due.
-- Answers: how many were live; then of each task 1 if it is new, 0 if it was there. Nothing but -1 if it is full.
local pending, active, scheduled, retry, due_set = unpack(KEYS, 1, 5)
local now = moment(ARGV[1])
local live = live_in(pending, active, scheduled, retry)
local answer, seen, new = { live }, {}, 0
for at = 6, #KEYS do
  if seen[KEYS[at]] or redis.call('EXISTS', KEYS[at]) == 1 then
    answer[#answer + 1] = 0
  else
    seen[KEYS[at]] = true
    new = new + 1
    answer[#answer + 1] = 1
  end
end
if new > 0 and live + new > tonumber(ARGV[2]) then
  return { -1 }
end
for at = 6, #KEYS do
  if answer[at - 4] == 1 then
    local first = 3 + (at - 6) * 3
    local id, due = ARGV[first], math.max(0, now + tonumber(ARGV[first + 2]))
    redis.call('HSET', KEYS[at], 'msg', ARGV[first + 1], 'zmsg_created', now, 'zmsg_attempt', 0)
    if due <= now then
      redis.call('LPUSH', pending, id)
      redis.call('HSET', KEYS[at], 'state', 'pending', 'pending_since', nanoseconds(now))
    else
      -- Whole seconds, later rather than earlier: others read this set.
      redis.call('ZADD', scheduled, math.ceil(due / 1000), id)
      redis.call('HSET', KEYS[at], 'state', 'scheduled')
    end
    redis.call('ZADD', due_set, due, id)
  end
end
return answer

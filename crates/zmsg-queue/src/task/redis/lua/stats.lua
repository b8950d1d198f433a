-- Counts of a queue. KEYS: pending, active, scheduled, retry, archived, due, until, paused.
-- ARGV: now or nothing. Answers: waiting, due, leased, dead, now, 1 if it is paused, then the first moment
-- at which there is something to lease, if there is any.
local pending, active, scheduled, retry, archived, due_set, until_set, paused = unpack(KEYS)
local now = moment(ARGV[1])
local first
local function earlier(moment)
  if moment and (not first or tonumber(moment) < first) then
    first = tonumber(moment)
  end
end
local function first_of(set)
  return redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')[2]
end
earlier(first_of(due_set))
earlier(first_of(until_set))
-- Tasks of others, which nobody has looked at yet.
local waiting = redis.call('LLEN', pending)
if waiting > 0 and (not first or first > now) then
  first = now
end
for _, set in ipairs({ scheduled, retry }) do
  waiting = waiting + redis.call('ZCARD', set)
  local at = first_of(set)
  if at and tonumber(at) < NEVER then
    earlier(at * 1000)
  end
end
local due = redis.call('ZCOUNT', due_set, '-inf', now) + redis.call('ZCOUNT', until_set, '-inf', now)
return { waiting, due, redis.call('LLEN', active), redis.call('ZCARD', archived), now,
  redis.call('EXISTS', paused), first and math.floor(first) }

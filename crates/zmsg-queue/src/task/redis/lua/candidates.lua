-- Which tasks may be leased now, in the order of due time and id. Makes tasks of others known.
-- KEYS: pending, active, scheduled, retry, lease, due, held, until, behind, paused. ARGV: now or nothing, how many.
local pending, _, scheduled, retry, leases, due_set, held, until_set, behind, paused = unpack(KEYS)
if redis.call('EXISTS', paused) == 1 then
  return {}
end
local now, max = moment(ARGV[1]), tonumber(ARGV[2])
-- What others enqueued, or moved here before its time because a person said so.
local tail = redis.call('LRANGE', pending, -max, -1)
for at = #tail, 1, -1 do
  local due = redis.call('ZSCORE', due_set, tail[at])
  local known = due or redis.call('ZSCORE', held, tail[at]) or redis.call('ZSCORE', behind, tail[at])
  if not known or (due and tonumber(due) > now) then
    redis.call('ZADD', due_set, now - 1 + (#tail - at) / 1000, tail[at])
  end
end
local waiting = redis.call('LLEN', pending) + redis.call('ZCARD', scheduled) + redis.call('ZCARD', retry)
if waiting ~= redis.call('ZCARD', due_set) + redis.call('ZCARD', behind) then
  for _, set in ipairs({ scheduled, retry }) do
    local found = redis.call('ZRANGEBYSCORE', set, '-inf', now / 1000, 'WITHSCORES', 'LIMIT', 0, max)
    for at = 1, #found, 2 do
      if not redis.call('ZSCORE', due_set, found[at]) and not redis.call('ZSCORE', held, found[at]) then
        redis.call('ZADD', due_set, found[at + 1] * 1000, found[at])
      end
    end
  end
end
local ready = {}
local found = redis.call('ZRANGEBYSCORE', due_set, '-inf', now, 'WITHSCORES', 'LIMIT', 0, max)
for at = 1, #found, 2 do
  ready[#ready + 1] = { tonumber(found[at + 1]), found[at] }
end
-- Leases of ours that ran out, by when their tasks were due.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', until_set, '-inf', now, 'LIMIT', 0, 1000)) do
  ready[#ready + 1] = { tonumber(redis.call('ZSCORE', held, id) or now), id }
end
-- Leases of others, which count in seconds and are given some time by their own.
local gone = redis.call('ZRANGEBYSCORE', leases, '-inf', now / 1000 - 30, 'WITHSCORES', 'LIMIT', 0, max)
for at = 1, #gone, 2 do
  if not redis.call('ZSCORE', until_set, gone[at]) then
    ready[#ready + 1] = { gone[at + 1] * 1000, gone[at] }
  end
end
table.sort(ready, function(one, other)
  if one[1] ~= other[1] then
    return one[1] < other[1]
  end
  return one[2] < other[2]
end)
local ids = {}
for at = 1, math.min(max, #ready) do
  ids[at] = ready[at][2]
end
return ids

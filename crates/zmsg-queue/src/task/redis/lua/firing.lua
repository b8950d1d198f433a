-- Takes in the task of a firing, unless its entry has fired at this moment or later.
-- KEYS and ARGV: those of `enqueue` for one task; then the firings of the queue; then the entry, the moment, how
-- early it may come, for how long it is remembered, and of how many entries.
-- Answers what `enqueue` does; or -2 if it comes too early, -3 if it has fired, -4 if there are too many entries.
local firings = table.remove(KEYS)
local entries_max = tonumber(table.remove(ARGV))
local kept = tonumber(table.remove(ARGV))
local early = tonumber(table.remove(ARGV))
local fires_at = table.remove(ARGV)
local entry = table.remove(ARGV)
if tonumber(fires_at) > moment(ARGV[1]) + early then
  return { -2 }
end
local last = redis.call('ZSCORE', firings, entry)
if last and tonumber(last) >= tonumber(fires_at) then
  return { -3 }
end
if not last then
  local old = string.format('(%.0f', tonumber(fires_at) - kept)
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', firings, '-inf', old, 'LIMIT', 0, 100)) do
    redis.call('ZREM', firings, name)
  end
  if redis.call('ZCARD', firings) >= entries_max then
    return { -4 }
  end
end
local answer = take_in(KEYS, ARGV)
if answer[1] ~= -1 then
  redis.call('ZADD', firings, fires_at, entry)
end
return answer

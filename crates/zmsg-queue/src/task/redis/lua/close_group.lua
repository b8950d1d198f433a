-- Takes the first members out of a group that is to be closed, into a set of their own.
-- KEYS: group, set, sets, groups.
-- ARGV: now or nothing, the name of the group, how many an aggregate may have, the grace, how long the first
-- may wait, or nothing, and for how long the set is closed.
-- Answers of each member its id and the second in which it joined.
local members, set, sets, groups = unpack(KEYS)
local now, size_max = moment(ARGV[1]), tonumber(ARGV[3])
if redis.call('EXISTS', set) == 1 then
  -- The client of a cluster may send a call twice.
  return redis.call('ZRANGE', set, 0, -1, 'WITHSCORES')
end
local size = redis.call('ZCARD', members)
if size == 0 then
  redis.call('SREM', groups, ARGV[2])
  return {}
end
local function waited(place)
  return now - redis.call('ZRANGE', members, place, place, 'WITHSCORES')[2] * 1000
end
local is_ripe = size >= size_max or waited(-1) >= tonumber(ARGV[4])
  or (ARGV[5] ~= '' and waited(0) >= tonumber(ARGV[5]))
if not is_ripe then
  return {}
end
local first = redis.call('ZRANGE', members, 0, size_max - 1, 'WITHSCORES')
for at = 1, #first, 2 do
  redis.call('ZADD', set, first[at + 1], first[at])
  redis.call('ZREM', members, first[at])
end
redis.call('ZADD', sets, math.ceil((now + tonumber(ARGV[6])) / 1000), set)
if size <= size_max then
  redis.call('SREM', groups, ARGV[2])
end
return first

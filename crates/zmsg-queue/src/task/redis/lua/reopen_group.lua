-- Puts members of a set back into their group, in their old places.
-- KEYS: set, sets, group, groups. ARGV: now or nothing, the name of the group, how many at most, whether only if
-- its deadline has passed.
-- Answers 0 if all are back, 1 if there are more of them; -1 if the set is not there, or not overdue.
local set, sets, members, groups = unpack(KEYS)
local deadline = redis.call('ZSCORE', sets, set)
if not deadline or (ARGV[4] == '1' and deadline * 1000 > moment(ARGV[1])) then
  return -1
end
local first = redis.call('ZRANGE', set, 0, ARGV[3] - 1, 'WITHSCORES')
for at = 1, #first, 2 do
  redis.call('ZADD', members, first[at + 1], first[at])
  redis.call('ZREM', set, first[at])
end
if #first > 0 then
  -- The name went when the group was closed.
  redis.call('SADD', groups, ARGV[2])
end
if redis.call('EXISTS', set) == 1 then
  return 1
end
redis.call('ZREM', sets, set)
return 0

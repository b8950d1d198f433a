-- Puts an aggregate in the place of the members of a set, behind the function that takes it in.
-- KEYS: set, sets, grouped, the task of each member; then those of the intake.
-- ARGV: how many members, the name of the set, the id of each; then those of the intake.
-- Answers 1 if it is done, by this call or an earlier one; 0 if the set is no longer closed; 2 if the id of the
-- aggregate is taken, 3 if another has its lock.
local count = tonumber(ARGV[1])
local set, sets, grouped = unpack(KEYS, 1, 3)

local function rest(all, from)
  local part = {}
  for at = from, #all do
    part[#part + 1] = all[at]
  end
  return part
end

local keys, args = rest(KEYS, 4 + count), rest(ARGV, 3 + count)
local aggregate = keys[6]
if not redis.call('ZSCORE', sets, set) then
  return redis.call('HGET', aggregate, 'zmsg_set') == ARGV[2] and 1 or 0
end
if redis.call('ZCARD', set) ~= count then
  return 0
end
for at = 1, count do
  if not redis.call('ZSCORE', set, ARGV[2 + at]) then
    return 0
  end
end
local accepted = take_in(keys, args)[3]
if accepted ~= 1 then
  return accepted == 2 and 3 or 2
end
redis.call('HSET', aggregate, 'zmsg_set', ARGV[2])
for at = 1, count do
  if redis.call('HGET', KEYS[3 + at], 'state') == 'aggregating' then
    redis.call('DEL', KEYS[3 + at])
  end
  redis.call('ZREM', grouped, ARGV[2 + at])
end
redis.call('DEL', set)
redis.call('ZREM', sets, set)
return 1

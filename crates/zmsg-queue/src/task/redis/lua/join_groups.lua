-- Lets tasks join their groups whose time has come.
-- KEYS: scheduled, retry, due, groups, grouped, then of each its task and its group.
-- ARGV: now or nothing; then of each its id and its group. Answers how many joined.
local scheduled, retry, due_set, groups, grouped = unpack(KEYS, 1, 5)
local now, joined = moment(ARGV[1]), 0
local sets = { scheduled = scheduled, retry = retry }
for at = 6, #KEYS, 2 do
  local task, members, id, group = KEYS[at], KEYS[at + 1], ARGV[at - 4], ARGV[at - 3]
  local state, of = unpack(redis.call('HMGET', task, 'state', 'group'))
  local set = of == group and sets[state]
  local score, due = set and redis.call('ZSCORE', set, id), redis.call('ZSCORE', due_set, id)
  if (state == 'pending' or sets[state]) and (not set or (due and tonumber(due) > now)) then
    -- Somebody has run it by hand since it was seen, or put it off: its place is its own.
  elseif score and due and tonumber(score) > math.ceil(due / 1000) then
    -- Another worker has put it off.
    redis.call('ZADD', due_set, score * 1000, id)
  else
    redis.call('ZREM', due_set, id)
    if score and redis.call('ZREM', set, id) == 1 then
      redis.call('HSET', task, 'state', 'aggregating')
      join_group(id, group, now, members, groups, grouped)
      joined = joined + 1
    end
  end
end
return joined

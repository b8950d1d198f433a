-- Drops what has outlived its task. KEYS: due, completed, names, groups, grouped, then the task of each.
-- ARGV: now or nothing; then of each its id, and its name among the tasks whose ids are none of ours.
-- Answers how many entries there were.
local due_set, completed, names, groups, grouped = unpack(KEYS, 1, 5)
local now, dropped = moment(ARGV[1]), 0
for at = 6, #KEYS do
  local id, name = ARGV[(at - 5) * 2], ARGV[(at - 5) * 2 + 1]
  local state, group = unpack(redis.call('HMGET', KEYS[at], 'state', 'group'))
  if state ~= 'pending' and state ~= 'scheduled' and state ~= 'retry' then
    -- A worker of others has it, or had it.
    dropped = dropped + redis.call('ZREM', due_set, id)
  end
  if state ~= 'aggregating' then
    dropped = dropped + redis.call('ZREM', grouped, id)
  else
    note_grouped(id, group, now, groups, grouped)
  end
  local until_s = redis.call('ZSCORE', completed, id)
  if until_s and tonumber(until_s) <= now / 1000 then
    redis.call('ZREM', completed, id)
    if state == 'completed' then
      redis.call('DEL', KEYS[at])
      redis.call('HDEL', names, name)
    end
    dropped = dropped + 1
  end
end
return dropped

-- Drops what has outlived its task. KEYS: due, completed, names, then the task of each.
-- ARGV: now or nothing; then of each its id, and its name among the tasks whose ids are none of ours.
-- Answers how many entries there were.
local due_set, completed, names = unpack(KEYS, 1, 3)
local now, dropped = moment(ARGV[1]), 0
for at = 4, #KEYS do
  local id, name = ARGV[(at - 3) * 2], ARGV[(at - 3) * 2 + 1]
  local state = redis.call('HGET', KEYS[at], 'state')
  if state ~= 'pending' and state ~= 'scheduled' and state ~= 'retry' then
    -- A worker of others has it, or had it.
    dropped = dropped + redis.call('ZREM', due_set, id)
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

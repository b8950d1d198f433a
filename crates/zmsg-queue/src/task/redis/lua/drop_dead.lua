-- Forgets dead letters. KEYS: archived, names, then the task of each. ARGV: for each its id and its name
-- among the tasks whose ids are none of ours. Answers how many there were.
local archived, names = KEYS[1], KEYS[2]
local dropped = 0
for at = 3, #KEYS do
  local id, name = ARGV[(at - 3) * 2 + 1], ARGV[(at - 3) * 2 + 2]
  if redis.call('HGET', KEYS[at], 'state') == 'archived' then
    redis.call('ZREM', archived, id)
    redis.call('DEL', KEYS[at])
    redis.call('HDEL', names, name)
    dropped = dropped + 1
  end
end
return dropped

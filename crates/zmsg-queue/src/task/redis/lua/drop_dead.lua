-- Forgets dead letters. KEYS: archived, names, behind, due, lanes, then of each its task and its lane.
-- ARGV: for each its id, its name among the tasks whose ids are none of ours, and whether it is in a lane.
-- Answers how many there were.
local archived, names, behind, due_set, lanes = unpack(KEYS, 1, 5)
local dropped = 0
for at = 6, #KEYS, 2 do
  local first = (at - 6) / 2 * 3
  local id, name, in_lane = ARGV[first + 1], ARGV[first + 2], ARGV[first + 3]
  if redis.call('HGET', KEYS[at], 'state') == 'archived' then
    redis.call('ZREM', archived, id)
    redis.call('DEL', KEYS[at])
    redis.call('HDEL', names, name)
    if in_lane == '1' then
      leave_lane(id, KEYS[at + 1], behind, due_set, lanes)
    end
    dropped = dropped + 1
  end
end
return dropped

-- Takes a task that is gone out of its lane. KEYS: task, lane, behind, due, lanes. ARGV: id.
-- Answers whether it was gone: nobody waits for one that is a dead letter and is to be skipped either.
local state, skips = unpack(redis.call('HMGET', KEYS[1], 'state', 'zmsg_skips'))
if state and not (state == 'archived' and skips == '1') then
  return 0
end
leave_lane(ARGV[1], unpack(KEYS, 2, 5))
return 1

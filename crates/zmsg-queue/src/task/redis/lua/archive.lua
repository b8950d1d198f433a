-- Makes a task that no worker holds a dead letter. ARGV besides: its message if it is to change.
-- Answers how many dead letters there are; 0 if it stands elsewhere by now.
if not lift() then
  return 0
end
redis.call('ZADD', archived, math.floor(now / 1000), id)
redis.call('HSET', task, 'state', 'archived', 'zmsg_died', now)
redis.call('HDEL', task, 'pending_since')
if ARGV[4] ~= '' then
  redis.call('HSET', task, 'msg', ARGV[4])
end
if lane and redis.call('HGET', task, 'zmsg_skips') == '1' then
  leave_lane(id, lane, behind, due_set, lanes)
elseif lane then
  redis.call('ZREM', behind, id)
end
return redis.call('ZCARD', archived)

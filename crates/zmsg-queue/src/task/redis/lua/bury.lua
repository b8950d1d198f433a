-- Makes a task a dead letter. KEYS: task, active, lease, held, until, archived, then the numbers of
-- processed and failed tasks, each in all and on this day; then of a task of a lane the lane, behind, due, lanes.
-- ARGV: now or nothing, id, attempt, message, how long the number of a day is kept.
-- Answers: how many dead letters there are; 0 if the task is no longer ours.
local task, active, leases, held, until_set, archived = unpack(KEYS, 1, 6)
local now, id = moment(ARGV[1]), ARGV[2]
if not holds(task, ARGV[3]) then
  return 0
end
let_go(id, active, leases, held, until_set)
redis.call('ZADD', archived, math.floor(now / 1000), id)
redis.call('HSET', task, 'msg', ARGV[4], 'state', 'archived', 'zmsg_died', now)
redis.call('HDEL', task, 'pending_since')
count_pairs(7, 10, ARGV[5], 1)
if #KEYS > 10 and redis.call('HGET', task, 'zmsg_skips') == '1' then
  leave_lane(id, unpack(KEYS, 11, 14))
end
return redis.call('ZCARD', archived)

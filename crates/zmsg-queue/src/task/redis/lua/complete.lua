-- Ends a task that is done and is kept or has a place in a lane. KEYS: task, active, lease, held, until, processed, processed on this day,
-- completed; then of a task of a lane the lane, behind, due, lanes.
-- ARGV: id, attempt, how long the number of a day is kept; then, of one that is kept, its message and the
-- second until when. Others are forgotten.
-- Answers: 1 and the key of its lock against doubles, which may be empty; 0 if it is no longer ours.
local task, active, leases, held, until_set = unpack(KEYS, 1, 5)
local is_held, lock = holds(task, ARGV[2])
if not is_held then
  return { 0, '' }
end
let_go(ARGV[1], active, leases, held, until_set)
if ARGV[4] == '' then
  redis.call('DEL', task)
else
  redis.call('ZADD', KEYS[8], ARGV[5], ARGV[1])
  redis.call('HSET', task, 'msg', ARGV[4], 'state', 'completed')
  redis.call('HDEL', task, 'pending_since', 'unique_key')
end
count_pairs(6, 7, ARGV[3], 1)
if #KEYS > 8 then
  leave_lane(ARGV[1], unpack(KEYS, 9, 12))
end
return { 1, lock or '' }

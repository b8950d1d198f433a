-- Forgets a task. KEYS: task, active, lease, held, until, processed, processed on this day; then
-- of a task of a lane the lane, behind, due, lanes.
-- ARGV: id, attempt, how long the number of a day is kept.
-- Answers: 1 and the key of its lock against doubles, which may be empty; 0 if it is no longer ours.
local task, active, leases, held, until_set = unpack(KEYS, 1, 5)
if not holds(task, ARGV[2]) then
  return { 0, '' }
end
local lock = redis.call('HGET', task, 'unique_key')
let_go(ARGV[1], active, leases, held, until_set)
redis.call('DEL', task)
count_pairs(6, 7, ARGV[3])
if #KEYS > 7 then
  leave_lane(ARGV[1], unpack(KEYS, 8, 11))
end
return { 1, lock or '' }

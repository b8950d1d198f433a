-- Forgets a task that no worker holds.
-- Answers: 1 and the key of its lock against doubles, which may be empty; 0 if it stands elsewhere by now.
if not lift() then
  return { 0, '' }
end
local lock = redis.call('HGET', task, 'unique_key')
redis.call('DEL', task)
if lane then
  leave_lane(id, lane, behind, due_set, lanes)
end
return { 1, lock or '' }

-- Ends tasks that are done and that nobody keeps. KEYS: active, lease, held, until, processed, processed on this
-- day, then the task of each. ARGV: how long the number of a day is kept; then of each its id and attempt.
-- Answers of each: 1 and the key of its lock against doubles, which may be empty; 0 if it is no longer ours; 2 if
-- it cannot be read, and nothing has happened to it.
local active, leases, held, until_set = unpack(KEYS, 1, 4)
local answer, ids, tasks, seen = {}, {}, {}, {}
for at = 7, #KEYS do
  local task, id, attempt = KEYS[at], ARGV[2 * at - 12], ARGV[2 * at - 11]
  local found = redis.pcall('HMGET', task, 'state', 'zmsg_attempt', 'pending_since', 'unique_key')
  local ours, lock = is_held(found, attempt)
  if found.err then
    answer[#answer + 1] = { 2, '' }
  elseif ours and not seen[task] then
    seen[task] = true
    ids[#ids + 1], tasks[#tasks + 1] = id, task
    answer[#answer + 1] = { 1, lock or '' }
  else
    answer[#answer + 1] = { 0, '' }
  end
end
if #ids == 0 then
  return answer
end
-- First what a user may have no right to: where it is refused, no task has gone.
count_pairs(5, 6, ARGV[1], #ids)
for _, id in ipairs(ids) do
  redis.call('LREM', active, 1, id)
end
for _, set in ipairs({ leases, held, until_set }) do
  redis.call('ZREM', set, unpack(ids))
end
redis.call('DEL', unpack(tasks))
return answer

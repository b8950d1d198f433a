-- Ends tasks that are done and that nobody keeps. KEYS: active, lease, held, until, processed, processed on this
-- day, then the task of each. ARGV: how long the number of a day is kept; then of each its id and attempt.
-- Answers of each: 1 and the key of its lock against doubles, which may be empty; 0 if it is no longer ours.
local active, leases, held, until_set = unpack(KEYS, 1, 4)
local answer, ids, tasks, seen = {}, {}, {}, {}
-- All is looked at before anything changes: of a call that fails here nothing has happened.
for at = 7, #KEYS do
  local task, id, attempt = KEYS[at], ARGV[2 * at - 12], ARGV[2 * at - 11]
  local is_held, lock = holds(task, attempt)
  if is_held and not seen[task] then
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
for _, id in ipairs(ids) do
  redis.call('LREM', active, 1, id)
end
for _, set in ipairs({ leases, held, until_set }) do
  redis.call('ZREM', set, unpack(ids))
end
redis.call('DEL', unpack(tasks))
count_pairs(5, 6, ARGV[1], #ids)
return answer

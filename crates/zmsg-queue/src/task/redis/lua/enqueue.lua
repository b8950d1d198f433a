-- Takes tasks in, all or none.
-- KEYS: pending, active, scheduled, retry, due, then the task of each; then, if some have lanes or are
-- unique, behind, lanes, numbers, and of each its lane and its lock; then, if some have groups, groups, and of
-- each its group; and grouped.
-- ARGV: now or nothing, how many may be live; then of each task its id, message, pause until it is due, and
-- what it says of itself, in JSON or nothing.
-- Answers: how many were live and how many of them we know to wait; then of each task 1 if it is new, 0 if it
-- was there, 2 if another has its lock. Nothing but -1 if it is full.
local pending, active, scheduled, retry, due_set = unpack(KEYS, 1, 5)
local now = moment(ARGV[1])
local grouped = KEYS[#KEYS]
local live = live_in(pending, active, scheduled, retry, grouped)
local count = (#ARGV - 2) / 4
local answer, seen, said, new = { live, redis.call('ZCARD', due_set) }, {}, {}, 0
for at = 1, count do
  local task, lock = KEYS[5 + at], KEYS[8 + count + at * 2]
  said[at] = ARGV[2 + at * 4] ~= '' and cjson.decode(ARGV[2 + at * 4]) or {}
  if seen[task] or redis.call('EXISTS', task) == 1 then
    answer[at + 2] = 0
  elseif said[at].unique and (seen[lock] or redis.call('EXISTS', lock) == 1) then
    answer[at + 2] = 2
  else
    seen[task] = true
    if said[at].unique then
      seen[lock] = true
    end
    new = new + 1
    answer[at + 2] = 1
  end
end
if new > 0 and live + new > tonumber(ARGV[2]) then
  return { -1 }
end

-- What a task says of itself, as fields of its hash; whether it has a lane.
local function say(at, task, id, due, said)
  if said.unique then
    local lock = KEYS[8 + count + at * 2]
    redis.call('SET', lock, id, 'PX', string.format('%.0f', math.max(due - now, 0) + said.unique))
    redis.call('HSET', task, 'unique_key', lock)
  end
  if said.timeout then
    redis.call('HSET', task, 'zmsg_timeout', said.timeout)
  end
  if said.deadline then
    redis.call('HSET', task, 'zmsg_deadline', now + said.deadline)
  end
  if said.group then
    redis.call('HSET', task, 'group', said.group)
  end
  if not said.lane then
    return false
  end
  local behind, lanes, numbers = unpack(KEYS, 6 + count, 8 + count)
  local number = next_number(numbers, now)
  redis.call('HSET', task, 'zmsg_lane', said.lane, 'zmsg_skips', said.skips, 'zmsg_number', number)
  redis.call('HSET', lanes, id, said.lane)
  join_lane(id, due, number, KEYS[7 + count + at * 2], behind, due_set)
  return true
end

for at = 1, count do
  if answer[at + 2] == 1 then
    local task, first = KEYS[5 + at], 3 + (at - 1) * 4
    local id, due = ARGV[first], math.max(0, now + tonumber(ARGV[first + 2]))
    redis.call('HSET', task, 'msg', ARGV[first + 1], 'zmsg_created', now, 'zmsg_attempt', 0)
    if say(at, task, id, due, said[at]) then
      redis.call('ZADD', scheduled, NEVER, id)
      redis.call('HSET', task, 'state', 'scheduled')
    elseif said[at].group and due <= now then
      local groups = #KEYS - 1 - count
      join_group(id, said[at].group, now, KEYS[groups + at], KEYS[groups], grouped)
      redis.call('HSET', task, 'state', 'aggregating')
    elseif due <= now then
      redis.call('LPUSH', pending, id)
      redis.call('HSET', task, 'state', 'pending', 'pending_since', nanoseconds(now))
      redis.call('ZADD', due_set, due, id)
    else
      -- Whole seconds, later rather than earlier: others read this set.
      redis.call('ZADD', scheduled, math.ceil(due / 1000), id)
      redis.call('HSET', task, 'state', 'scheduled')
      redis.call('ZADD', due_set, due, id)
    end
  end
end
return answer

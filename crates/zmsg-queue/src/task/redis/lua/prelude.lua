-- What scripts begin with.

-- The moment in milliseconds: the caller's, or the server's if the caller brings none.
local function moment(given)
  if given ~= '' then
    return tonumber(given)
  end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function nanoseconds(now)
  return string.format('%.0f000000', now)
end

-- How many tasks wait or are leased, those that zmsg has put into groups among them.
local function live_in(pending, active, scheduled, retry, grouped)
  return redis.call('LLEN', pending) + redis.call('LLEN', active)
    + redis.call('ZCARD', scheduled) + redis.call('ZCARD', retry) + redis.call('ZCARD', grouped)
end

-- Puts a task into its group. Whole seconds, later rather than earlier: others read these sets.
local function join_group(id, group, now, members, groups, grouped)
  redis.call('ZADD', members, math.ceil(now / 1000), id)
  redis.call('SADD', groups, group)
  redis.call('ZADD', grouped, now, id)
end

-- Puts the name of a group where aggregators look, and a task of it where it is counted: a worker of others
-- has moved it there, and does neither.
local function note_grouped(id, group, now, groups, grouped)
  if group and group ~= '' then
    redis.call('SADD', groups, group)
    redis.call('ZADD', grouped, 'NX', now, id)
  end
end

-- Whether this attempt holds a task whose hash has these, and the key of the task's lock against doubles, if it has
-- one. A worker of others takes `pending_since` away when it takes a task.
local function is_held(found, attempt)
  return found[1] == 'active' and found[2] == attempt and found[3], found[4]
end

local function holds(task, attempt)
  return is_held(redis.call('HMGET', task, 'state', 'zmsg_attempt', 'pending_since', 'unique_key'), attempt)
end

-- Takes a task from its worker.
local function let_go(id, active, leases, held, until_set)
  redis.call('LREM', active, 1, id)
  redis.call('ZREM', leases, id)
  redis.call('ZREM', held, id)
  redis.call('ZREM', until_set, id)
end

-- Where asynq shows what waits in a lane: at the end of time, so that its workers leave it alone.
local NEVER = 253402300799

-- The place of a task that joins a lane: above all others, also of a Redis that has forgotten them.
local function next_number(numbers, now)
  local number = math.max(tonumber(redis.call('GET', numbers) or 0) + 1, now)
  redis.call('SET', numbers, string.format('%.0f', number))
  return number
end

-- Gives a task the last place of its lane; whether it is the only one.
local function join_lane(id, due, number, lane, behind, due_set)
  redis.call('ZADD', lane, number, id)
  if redis.call('ZCARD', lane) == 1 then
    redis.call('ZADD', due_set, due, id)
  else
    redis.call('ZADD', behind, due, id)
  end
end

-- Gives a task its place again: the one that it has, or the last.
local function come_back(id, task, now, lane, behind, due_set, lanes, numbers)
  if redis.call('ZRANGE', lane, 0, 0)[1] == id then
    redis.call('ZADD', due_set, now, id)
  elseif redis.call('ZSCORE', lane, id) then
    redis.call('ZADD', behind, now, id)
  else
    local number = next_number(numbers, now)
    redis.call('HSET', task, 'zmsg_number', number)
    redis.call('HSET', lanes, id, redis.call('HGET', task, 'zmsg_lane'))
    join_lane(id, now, number, lane, behind, due_set)
  end
end

-- Takes a task out of its lane, and lets the next one come forward.
local function leave_lane(id, lane, behind, due_set, lanes)
  redis.call('ZREM', lane, id)
  redis.call('ZREM', behind, id)
  redis.call('HDEL', lanes, id)
  local next = redis.call('ZRANGE', lane, 0, 0)[1]
  local due = next and redis.call('ZSCORE', behind, next)
  if due then
    redis.call('ZREM', behind, next)
    redis.call('ZADD', due_set, due, next)
  end
end

-- So many more, in all and on this day, of what pairs of keys count from `first` to `last`.
local function count_pairs(first, last, kept_for, more)
  for at = first, last, 2 do
    redis.call('INCRBY', KEYS[at], more)
    if redis.call('INCRBY', KEYS[at + 1], more) == more then
      redis.call('EXPIRE', KEYS[at + 1], kept_for)
    end
  end
end

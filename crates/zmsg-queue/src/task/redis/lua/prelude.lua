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

-- How many tasks wait or are leased.
local function live_in(pending, active, scheduled, retry)
  return redis.call('LLEN', pending) + redis.call('LLEN', active)
    + redis.call('ZCARD', scheduled) + redis.call('ZCARD', retry)
end

-- Whether this attempt holds a task. A worker of others takes `pending_since` away when it takes one.
local function holds(task, attempt)
  local found = redis.call('HMGET', task, 'state', 'zmsg_attempt', 'pending_since')
  return found[1] == 'active' and found[2] == attempt and found[3]
end

-- Takes a task from its worker.
local function let_go(id, active, leases, held, until_set)
  redis.call('LREM', active, 1, id)
  redis.call('ZREM', leases, id)
  redis.call('ZREM', held, id)
  redis.call('ZREM', until_set, id)
end

-- One more, in all and on this day, of what pairs of keys count from `first` to the last.
local function count_from(first, kept_for)
  for at = first, #KEYS, 2 do
    redis.call('INCR', KEYS[at])
    if redis.call('INCR', KEYS[at + 1]) == 1 then
      redis.call('EXPIRE', KEYS[at + 1], kept_for)
    end
  end
end

-- Leases those of these tasks that still can be.
-- KEYS: pending, active, scheduled, retry, lease, due, held, until, behind, lanes,
-- groups, grouped, then the task of each.
-- ARGV: now or nothing, the length of a lease, how many at most, a token of this call; then the id of each.
-- Answers of each: its id, message, attempt, leases that ran out, when it was enqueued, the end of the lease;
-- then its time-out, deadline, lane and place there, or nothing. Behind them those that are gone from lanes, and
-- those that are to join groups, each with its group.
local pending, active, scheduled, retry, leases, due_set, held, until_set, behind, lanes,
  groups, grouped = unpack(KEYS, 1, 12)
local now = moment(ARGV[1])
local ends, max = now + tonumber(ARGV[2]), tonumber(ARGV[3])

-- Whether a task that a worker has was left by it.
local function is_left(id)
  local until_ms = redis.call('ZSCORE', until_set, id)
  if until_ms then
    return tonumber(until_ms) <= now
  end
  local until_s = redis.call('ZSCORE', leases, id)
  return until_s and tonumber(until_s) <= now / 1000 - 30
end

-- Takes a task that waits for its time.
local function take_timed(set, id, lane)
  if lane then
    return redis.call('ZREM', set, id) == 1
  end
  local at, due = redis.call('ZSCORE', set, id), redis.call('ZSCORE', due_set, id)
  if at and due and tonumber(at) > math.ceil(due / 1000) then
    -- Another worker has put it off.
    redis.call('ZADD', due_set, at * 1000, id)
    return false
  end
  return redis.call('ZREM', set, id) == 1
end

local answer, gone, joining = {}, {}, {}
for at = 13, #KEYS do
  if #answer == max then
    break
  end
  local task, id = KEYS[at], ARGV[at - 8]
  local state, message, attempt, lost, created, since, call, timeout, deadline, lane, number, skips,
    group = unpack(
    redis.call('HMGET', task, 'state', 'msg', 'zmsg_attempt', 'zmsg_lost', 'zmsg_created', 'pending_since',
      'zmsg_call', 'zmsg_timeout', 'zmsg_deadline', 'zmsg_lane', 'zmsg_number', 'zmsg_skips', 'group'))
  local ours, step = false, 1
  lost = tonumber(lost or 0)
  if lane and redis.call('ZSCORE', behind, id) then
    -- Others of its lane are before it.
    redis.call('ZREM', due_set, id)
  elseif state == 'pending' then
    -- From the end where the oldest are.
    ours = redis.call('LREM', pending, -1, id) == 1
  elseif group and group ~= '' and (state == 'scheduled' or state == 'retry') then
    joining[#joining + 1] = { id, group }
  elseif state == 'scheduled' then
    ours = take_timed(scheduled, id, lane)
  elseif state == 'retry' then
    ours = take_timed(retry, id, lane)
  elseif state == 'active' and since and call == ARGV[4] then
    -- The client of a cluster may send a call twice.
    ours, step = true, 0
  elseif state == 'active' and is_left(id) then
    ours = true
    lost = lost + 1
  end
  if ours and message then
    local due = redis.call('ZSCORE', due_set, id) or redis.call('ZSCORE', held, id) or now
    attempt = tonumber(attempt or 0) + step
    if state ~= 'active' then
      redis.call('LPUSH', active, id)
    end
    redis.call('ZREM', due_set, id)
    redis.call('ZADD', held, due, id)
    redis.call('ZADD', until_set, ends, id)
    -- asynq gives tasks whose leases have run out to its own workers.
    redis.call('ZADD', leases, lane and NEVER or math.ceil(ends / 1000), id)
    -- A worker of others takes `pending_since` away when it takes a task: with it, the task is ours.
    redis.call('HSET', task, 'state', 'active', 'zmsg_attempt', attempt, 'zmsg_lost', lost,
      'pending_since', since or nanoseconds(now), 'zmsg_call', ARGV[4])
    answer[#answer + 1] = { id, message, attempt, lost, tonumber(created or now), ends,
      timeout or '', deadline or '', lane or '', number or '' }
  elseif state == 'active' then
    -- A worker of others has it.
    redis.call('ZREM', due_set, id)
  elseif state ~= 'scheduled' and state ~= 'retry' then
    -- It is gone, or dead: somebody else has seen to it.
    redis.call('ZREM', due_set, id)
    redis.call('ZREM', held, id)
    redis.call('ZREM', until_set, id)
    if state == 'aggregating' then
      note_grouped(id, group, now, groups, grouped)
    end
    if redis.call('HGET', lanes, id) and (not state or (state == 'archived' and skips == '1')) then
      gone[#gone + 1] = id
    end
  end
end
return { answer, gone, joining }

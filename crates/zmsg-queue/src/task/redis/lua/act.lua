-- What acts on one task begin with. KEYS: task, pending, active, scheduled, retry, archived, completed,
-- lease, due, held, until, grouped; then of a task of a lane the lane, behind, lanes, numbers, or of one that
-- stands in a group the group and the names of groups.
-- ARGV: now or nothing, id, the state in which it was seen.
local task, pending, active, scheduled, retry, archived, completed, leases, due_set, held, until_set,
  grouped, lane, behind, lanes, numbers = unpack(KEYS)
local now, id, state = moment(ARGV[1]), ARGV[2], ARGV[3]
local members, groups
if state == 'aggregating' then
  members, groups, lane, behind = lane, behind, nil, nil
end
local places = { scheduled = scheduled, retry = retry, archived = archived, completed = completed }

-- Whether its worker has left it.
local function is_left()
  local until_ms = redis.call('ZSCORE', until_set, id)
  if until_ms then
    return tonumber(until_ms) <= now
  end
  local until_s = redis.call('ZSCORE', leases, id)
  return until_s and tonumber(until_s) <= now / 1000 - 30
end

-- Takes it from where it stands. False if it stands elsewhere by now, or a worker holds it.
local function lift()
  if redis.call('HGET', task, 'state') ~= state then
    return false
  end
  if state == 'pending' then
    redis.call('LREM', pending, -1, id)
  elseif places[state] then
    redis.call('ZREM', places[state], id)
  elseif state == 'active' and is_left() then
    let_go(id, active, leases, held, until_set)
    redis.call('HINCRBY', task, 'zmsg_lost', 1)
  elseif members and redis.call('ZREM', members, id) == 1 then
    redis.call('ZREM', grouped, id)
    if redis.call('ZCARD', members) == 0 then
      redis.call('SREM', groups, redis.call('HGET', task, 'group'))
    end
  else
    return false
  end
  redis.call('ZREM', due_set, id)
  return true
end


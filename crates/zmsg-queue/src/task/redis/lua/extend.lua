-- Lets a lease end later. KEYS: task, lease, until. ARGV: now or nothing, id, attempt, for how long.
local task, leases, until_set = unpack(KEYS)
local now, id = tonumber(ARGV[1]), ARGV[2]
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local held = redis.call('HMGET', task, 'state', 'zmsg_attempt', 'pending_since')
if held[1] ~= 'active' or held[2] ~= ARGV[3] or not held[3] then
  return 0
end
local ends = now + tonumber(ARGV[4])
redis.call('ZADD', until_set, ends, id)
redis.call('ZADD', leases, math.ceil(ends / 1000), id)
return 1

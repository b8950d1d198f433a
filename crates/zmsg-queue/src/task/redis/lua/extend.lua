-- Lets a lease end later. KEYS: task, lease, until. ARGV: now or nothing, id, attempt, for how long.
local task, leases, until_set = unpack(KEYS)
local now, id = moment(ARGV[1]), ARGV[2]
if not holds(task, ARGV[3]) then
  return 0
end
local ends = now + tonumber(ARGV[4])
redis.call('ZADD', until_set, ends, id)
if tonumber(redis.call('ZSCORE', leases, id) or 0) < NEVER then
  redis.call('ZADD', leases, math.ceil(ends / 1000), id)
end
return 1

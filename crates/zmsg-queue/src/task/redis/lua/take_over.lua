-- Leases what earlier calls have leased, without an answer, as the same attempts.
-- KEYS: lease, until, paused, then the task of each.
-- ARGV: now or nothing, the length of a lease, how many at most, the token of this call; the number of
-- earlier calls and their tokens; then the id of each.
-- Answers of each as the script that leases does.
local leases, until_set, paused = unpack(KEYS, 1, 3)
if redis.call('EXISTS', paused) == 1 then
  return {}
end
local now, max, token = moment(ARGV[1]), tonumber(ARGV[3]), ARGV[4]
local ends, calls = now + tonumber(ARGV[2]), tonumber(ARGV[5])
-- Its own too: the client of a cluster may send a call twice.
local lost_calls = { [token] = true }
for at = 6, 5 + calls do
  lost_calls[ARGV[at]] = true
end
local answer = {}
for at = 4, #KEYS do
  if #answer == max then
    break
  end
  local task, id = KEYS[at], ARGV[at + 2 + calls]
  local state, message, attempt, lost, created, since, call, timeout, deadline, lane, number = unpack(
    redis.call('HMGET', task, 'state', 'msg', 'zmsg_attempt', 'zmsg_lost', 'zmsg_created', 'pending_since',
      'zmsg_call', 'zmsg_timeout', 'zmsg_deadline', 'zmsg_lane', 'zmsg_number'))
  if state == 'active' and since and call and lost_calls[call] then
    redis.call('ZADD', until_set, ends, id)
    redis.call('ZADD', leases, lane and NEVER or math.ceil(ends / 1000), id)
    redis.call('HSET', task, 'zmsg_call', token)
    answer[#answer + 1] = { id, message, tonumber(attempt), tonumber(lost), tonumber(created or now), ends,
      timeout or '', deadline or '', lane or '', number or '' }
  end
end
return answer

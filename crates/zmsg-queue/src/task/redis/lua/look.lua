-- All that is known of some tasks. KEYS: due, held, until, lease, scheduled, retry, behind, then the task
-- of each.
-- ARGV: now or nothing, then the id of each. Answers: now; then of each its fields and its places.
local answer = {}
for at = 8, #KEYS do
  local fields = redis.call('HMGET', KEYS[at], 'state', 'msg', 'zmsg_attempt', 'zmsg_lost', 'zmsg_created',
    'zmsg_died', 'pending_since', 'zmsg_lane')
  local places = {}
  for place = 1, 7 do
    places[place] = redis.call('ZSCORE', KEYS[place], ARGV[at - 6])
  end
  answer[at - 7] = { fields, places }
end
return { moment(ARGV[1]), answer }

-- All that is known of some tasks. KEYS: due, held, until, lease, scheduled, retry, then the task of each.
-- ARGV: now or nothing, then the id of each. Answers: now; then of each its fields and its places.
local answer = {}
for at = 7, #KEYS do
  local fields = redis.call('HMGET', KEYS[at], 'state', 'msg', 'zmsg_attempt', 'zmsg_lost', 'zmsg_created',
    'zmsg_died', 'pending_since')
  local places = {}
  for place = 1, 6 do
    places[place] = redis.call('ZSCORE', KEYS[place], ARGV[at - 5])
  end
  answer[at - 6] = { fields, places }
end
return { moment(ARGV[1]), answer }

-- All that is known of some tasks. KEYS: due, held, until, lease, scheduled, retry, behind, grouped, then the
-- task of each.
-- ARGV: now or nothing, then the id of each. Answers: now; then of each its fields and its places.
local answer = {}
for at = 9, #KEYS do
  local fields = redis.call('HMGET', KEYS[at], 'state', 'msg', 'zmsg_attempt', 'zmsg_lost', 'zmsg_created',
    'zmsg_died', 'pending_since', 'zmsg_lane', 'group')
  local places = {}
  for place = 1, 8 do
    places[place] = redis.call('ZSCORE', KEYS[place], ARGV[at - 7])
  end
  answer[at - 8] = { fields, places }
end
return { moment(ARGV[1]), answer }

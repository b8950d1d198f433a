-- Keeps what came of a task that this attempt holds. KEYS: task. ARGV: attempt, result.
if not holds(KEYS[1], ARGV[1]) then
  return 0
end
redis.call('HSET', KEYS[1], 'result', ARGV[2])
return 1

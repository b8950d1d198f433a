-- Takes away the names of groups that nothing waits in. KEYS: groups, then each group. ARGV: the name of each.
-- Answers how many.
local gone = 0
for at, name in ipairs(ARGV) do
  if redis.call('EXISTS', KEYS[at + 1]) == 0 then
    gone = gone + redis.call('SREM', KEYS[1], name)
  end
end
return gone

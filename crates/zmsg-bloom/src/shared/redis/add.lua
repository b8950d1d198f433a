-- KEYS: the generation, then segments. ARGV: layout, identity, then for each segment the number of
-- positions and the positions. Gives the number of bits that are set, or -1 if it is not here.
if identity ~= ARGV[2] or redis.call('HGET', KEYS[1], 'layout') ~= ARGV[1] then
  return -1
end
local at, fresh = 3, 0
for segment = 2, #KEYS do
  local left = tonumber(ARGV[at])
  at = at + 1
  while left > 0 do
    -- Lua passes a limited number of arguments at once.
    local some = math.min(left, 500)
    local commands = {}
    for i = 0, some - 1 do
      commands[4 * i + 1] = 'SET'
      commands[4 * i + 2] = 'u1'
      commands[4 * i + 3] = ARGV[at + i]
      commands[4 * i + 4] = '1'
    end
    for _, before in ipairs(redis.call('BITFIELD', KEYS[segment], unpack(commands))) do
      if before == 0 then fresh = fresh + 1 end
    end
    at, left = at + some, left - some
  end
end
if fresh > 0 then
  return redis.call('HINCRBY', KEYS[1], 'ones', fresh)
end
return tonumber(redis.call('HGET', KEYS[1], 'ones'))

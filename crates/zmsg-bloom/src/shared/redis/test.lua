-- KEYS: the generation, the segment. ARGV: layout, identity, the positions, the sentinel's last.
-- Gives whether a bit is missing, and the number of bits that are set, or -1 if it is not here.
local state = redis.call('HMGET', KEYS[1], 'layout', 'ones', 'retired')
if identity ~= ARGV[2] or state[1] ~= ARGV[1] or state[3] then
  return {0, -1}
end
local commands = {}
for i = 3, #ARGV do
  commands[#commands + 1] = 'GET'
  commands[#commands + 1] = 'u1'
  commands[#commands + 1] = ARGV[i]
end
local bits = redis.call('BITFIELD_RO', KEYS[2], unpack(commands))
if bits[#bits] == 0 then
  return {0, -1}
end
local missing = 0
for i = 1, #bits - 1 do
  if bits[i] == 0 then missing = 1 end
end
return {missing, tonumber(state[2])}

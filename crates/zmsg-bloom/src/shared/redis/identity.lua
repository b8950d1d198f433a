-- Which server this is, and in which stretch of its history: it draws run_id when it starts and
-- master_replid when it is promoted. A replica refuses like for any write, so that the client
-- looks for the master.
local replication = redis.call('INFO', 'replication')
if string.match(replication, 'role:(%a+)') ~= 'master' then
  return redis.error_reply("READONLY a filter lives on the master")
end
local identity = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  .. ':' .. string.match(replication, 'master_replid:(%x+)')

-- What runtimes say of themselves; changes nothing.
-- KEYS: of each runtime its holder and its status
-- Returns: of each runtime: 1 if a process has the id now, else 0; time that its status is still kept (ms), negative
--          where there is none; the status or ''
local reply = {}
for i = 1, #KEYS, 2 do
  reply[#reply + 1] = redis.call('EXISTS', KEYS[i])
  reply[#reply + 1] = redis.call('PTTL', KEYS[i + 1])
  reply[#reply + 1] = redis.call('GET', KEYS[i + 1]) or ''
end
return reply

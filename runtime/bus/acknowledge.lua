-- Remove from the inbox what the user's side has taken in for good.
-- KEYS: task, inbox
-- ARGV: number up to which all is taken in, entries...
-- Returns: entries left in the inbox
-- The deletion comes first: it is allowed when memory is full, and what follows a write in a script is then, too.
if #ARGV > 1 then redis.call('XDEL', KEYS[2], unpack(ARGV, 2)) end
local acked = redis.call('HGET', KEYS[1], 'acked')
if redis.call('EXISTS', KEYS[1]) == 1 and tonumber(acked or -1) < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'acked', ARGV[1])
end
return { redis.call('XLEN', KEYS[2]) }

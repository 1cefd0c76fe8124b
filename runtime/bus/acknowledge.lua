-- Remove from the inbox what the user's side has taken in for good.
-- KEYS: inbox, task
-- ARGV: number up to which all is taken in, entries...
-- Returns: left, entries left in the inbox | moved, runtime
if #ARGV > 1 then redis.call('XDEL', KEYS[1], unpack(ARGV, 2)) end
local known = redis.call('HMGET', KEYS[2], 'rt', 'acked')
if known[1] then
  if known[1] ~= reader_of(KEYS[1]) then return { 'moved', known[1] } end
  if tonumber(known[2] or -1) < tonumber(ARGV[1]) then redis.call('HSET', KEYS[2], 'acked', ARGV[1]) end
end
return { 'left', redis.call('XLEN', KEYS[1]) }

-- Begin a session in a runtime.
-- KEYS: session, promises
-- ARGV: runtime, session time now (ms), retention of what is owed (ms)
-- Returns: entered, epoch | moved, runtime
-- A session that another runtime has, and has not left, is not entered but taken over; see reopen_session.
local known = redis.call('HMGET', KEYS[1], 'rt', 'closed')
local is_new = not known[1]
if known[1] and known[1] ~= ARGV[1] and not known[2] then return { 'moved', known[1] } end
if known[1] ~= ARGV[1] then redis.call('HINCRBY', KEYS[1], 'epoch', is_new and 0 or 1) end
redis.call('HSET', KEYS[1], 'rt', ARGV[1], 'anchor', now_ms() - tonumber(ARGV[2]))
redis.call('HDEL', KEYS[1], 'closed')
touch_session(KEYS[1], KEYS[2], ARGV[3])
return { 'entered', redis.call('HGET', KEYS[1], 'epoch') }

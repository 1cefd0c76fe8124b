-- Show that a worker lives, and count those that do.
-- KEYS: workers
-- ARGV: worker, or '' to count only; silence after which one is gone (ms)
-- Returns: workers alive
-- The deletion comes first: it is allowed when memory is full, and what follows a write in a script is then, too.
local now = now_ms()
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. (now - tonumber(ARGV[2])))
if ARGV[1] ~= '' then redis.call('ZADD', KEYS[1], now, ARGV[1]) end
return { redis.call('ZCARD', KEYS[1]) }

-- Show that a worker lives, and count those that do.
-- KEYS: workers
-- ARGV: worker, or '' to count only; silence after which one is gone (ms)
-- Returns: workers alive
local now = now_ms()
if ARGV[1] ~= '' then redis.call('ZADD', KEYS[1], now, ARGV[1]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. (now - tonumber(ARGV[2])))
return { redis.call('ZCARD', KEYS[1]) }

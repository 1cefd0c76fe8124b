-- Show that a worker lives, and count those that do.
-- KEYS: workers
-- ARGV: worker, or '' to count only; silence after which one is gone (ms)
-- Returns: workers alive
-- Times that have not come yet are from before the server's clock was set back; whoever lives shows itself again.
local now, ttl = now_ms(), tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. (now - ttl))
redis.call('ZREMRANGEBYSCORE', KEYS[1], '(' .. (now + ttl), '+inf')
if ARGV[1] ~= '' then redis.call('ZADD', KEYS[1], now, ARGV[1]) end
return { redis.call('ZCARD', KEYS[1]) }

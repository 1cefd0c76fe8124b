-- Note that a runtime lives, and name those that have long been gone.
-- KEYS: runtimes
-- ARGV: runtime; silence after which one is gone for good (ms)
-- Returns: runtimes gone, ten at most
local now = now_ms()
redis.call('ZADD', KEYS[1], now, ARGV[1])
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. (now - tonumber(ARGV[2])), 'LIMIT', 0, 10)

-- Where a runtime that has started anew stands with a task.
-- KEYS: task
-- Returns: the last number taken in (-1 for none), time left (ms)
local known = redis.call('HMGET', KEYS[1], 'acked', 'deadline')
return { tonumber(known[1] or -1), tonumber(known[2] or now_ms()) - now_ms() }

-- End a session for good, and name its tasks.
-- KEYS: session, promises
-- ARGV: runtime, retention of what is owed (ms)
-- Returns: left, task ids... | unknown | moved, runtime
local owner = redis.call('HGET', KEYS[1], 'rt')
if not owner then return { 'unknown' } end
if owner ~= ARGV[1] then return { 'moved', owner } end
redis.call('HSET', KEYS[1], 'closed', now_ms())
touch_session(KEYS[1], KEYS[2], ARGV[2])
local reply = { 'left' }
for _, task_id in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do reply[#reply + 1] = task_id end
return reply

-- Tell a task what the user has changed since.
-- KEYS: task, updates
-- ARGV: id of this call, text, most updates
-- Returns: stored | ended | full | unknown
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return { 'unknown' } end
if redis.call('HEXISTS', KEYS[1], 'update:' .. ARGV[1]) == 1 then return { 'stored' } end
if TERMINAL[state] then return { 'ended' } end
if redis.call('LLEN', KEYS[2]) >= tonumber(ARGV[3]) then return { 'full' } end
redis.call('HSET', KEYS[1], 'update:' .. ARGV[1], 1)
redis.call('RPUSH', KEYS[2], ARGV[2])
return { 'stored' }

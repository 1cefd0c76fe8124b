-- What is known of a session; changes nothing.
-- KEYS: session, promises
-- Returns: known, runtime, epoch, session time (ms), when its clock was at 0 (ms), task ids... | unknown
local session = redis.call('HMGET', KEYS[1], 'rt', 'epoch', 'anchor')
if not session[1] then return { 'unknown' } end
local reply = { 'known', session[1], session[2], now_ms() - tonumber(session[3]), session[3] }
for _, task_id in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do reply[#reply + 1] = task_id end
return reply

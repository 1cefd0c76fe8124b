-- Make a runtime the owner of a session, and tell the one that had it.
-- KEYS: session, promises, inbox of the runtime that has it
-- ARGV: runtime, session id, id of this call, retention of what is owed (ms)
-- Returns: reopened, epoch, session time (ms), when its clock was at 0 (ms), task ids... | unknown | owner, runtime
-- The session's clock begins anew. A repeated call gets the same reply.
local known = redis.call('HMGET', KEYS[1], 'rt', 'call')
local owner = known[1]
if not owner then return { 'unknown' } end
if known[2] ~= ARGV[3] then
  if owner ~= reader_of(KEYS[3]) then return { 'owner', owner } end
  local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
  redis.call('HSET', KEYS[1], 'rt', ARGV[1], 'call', ARGV[3], 'former', redis.call('HGET', KEYS[1], 'anchor'),
    'anchor', now_ms())
  redis.call('HDEL', KEYS[1], 'closed')
  if owner ~= ARGV[1] then redis.call('XADD', KEYS[3], '*', 'moved', ARGV[2], 'epoch', epoch) end
end
touch_session(KEYS[1], KEYS[2], ARGV[4])
local session = redis.call('HMGET', KEYS[1], 'epoch', 'former')
local reply = { 'reopened', session[1], now_ms() - tonumber(session[2]), session[2] }
for _, task_id in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do reply[#reply + 1] = task_id end
return reply

-- Accept a task once.
-- KEYS: tasks, task, idempotency, inbox
-- ARGV: task id, runtime, version, package, time left (ms), queue limit, id of this call, retention (ms)
-- Returns: accepted | duplicate, task id | full. A repeated call is told what the first one was told.
local owner = redis.call('GET', KEYS[3])
if owner and owner ~= ARGV[1] then return { 'duplicate', owner } end
local call = redis.call('HGET', KEYS[2], 'call')
if call == ARGV[7] then return { 'accepted' } end
if call then return { 'duplicate', ARGV[1] } end
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[6]) then return { 'full' } end

local left = tonumber(ARGV[5])
local entry = redis.call('XADD', KEYS[1], '*', 'task', ARGV[1], 'rt', ARGV[2], 'v', ARGV[3], 'package', ARGV[4])
redis.call('HSET', KEYS[2], 'state', 'queued', 'attempt', 0, 'seq', 0, 'deadline', now_ms() + left,
  'rt', ARGV[2], 'entry', entry, 'call', ARGV[7])
redis.call('SET', KEYS[3], ARGV[1], 'PX', left + tonumber(ARGV[8]))
put_event(KEYS[2], KEYS[4], ARGV[1], 0, 0, 'accepted')
return { 'accepted' }

-- Accept a task once.
-- KEYS: a task's, idempotency, session, promises
-- ARGV: task id, session id, lane, version, package, intent, session time when it was said (ms), time left (ms),
--       queue limit, id of this call, retention (ms), retention of what is owed (ms)
-- Returns: accepted | duplicate, task id | moved, runtime | full. A repeated call is told what the first one was told.
-- A session that nobody has entered is from now on the submitter's.
local task, idempotency, session, promises = task_keys(), KEYS[8], KEYS[9], KEYS[10]
local runtime = reader_of(task.inbox)
local other = redis.call('GET', idempotency)
if other and other ~= ARGV[1] then return { 'duplicate', other } end
local call = redis.call('HGET', task.hash, 'call')
if call == ARGV[10] then return { 'accepted' } end
if call then return { 'duplicate', ARGV[1] } end
local owner = redis.call('HGET', session, 'rt')
if owner and owner ~= runtime then return { 'moved', owner } end
if redis.call('XLEN', task.stream) >= tonumber(ARGV[9]) then return { 'full' } end

local now, left = now_ms(), tonumber(ARGV[8])
if not owner then redis.call('HSET', session, 'rt', runtime, 'epoch', 0, 'anchor', now - tonumber(ARGV[7])) end
redis.call('HSET', task.hash, 'state', 'queued', 'attempt', 0, 'seq', 0, 'deadline', now + left, 'rt', runtime,
  'call', ARGV[10], 'session', ARGV[2], 'lane', ARGV[3], 'intent', ARGV[6], 'made', now,
  'anchor', redis.call('HGET', session, 'anchor'), 'revision', 0, 'promise', 'open')
redis.call('SET', idempotency, ARGV[1], 'PX', left + tonumber(ARGV[11]))
put_event(task, ARGV[1], 0, 0, 'accepted')
redis.call('RPUSH', promises, ARGV[1])
touch_session(session, promises, ARGV[12])
-- The server answers first whom it wakes last, so a worker has the task before its runtime has the event.
local entry =
  redis.call('XADD', task.stream, '*', 'task', ARGV[1], 'rt', runtime, 'v', ARGV[4], 'package', ARGV[5])
redis.call('HSET', task.hash, 'entry', entry)
return { 'accepted' }

-- Note how the promise of a task has ended. The first end stays.
-- KEYS: a task's, session, promises
-- ARGV: state, retention (ms), retention of what is owed (ms)
-- Returns: stored | kept | unknown | moved, runtime
local task = task_keys()
local promise = redis.call('HGET', task.hash, 'promise')
if not promise then return { 'unknown' } end
local owner = new_owner(task)
if owner then return { 'moved', owner } end
if promise ~= 'open' or ARGV[1] == 'open' then return { 'kept' } end
redis.call('HSET', task.hash, 'promise', ARGV[1])
retain(task, ARGV[2], ARGV[3])
touch_session(KEYS[8], KEYS[9], ARGV[3])
return { 'stored' }

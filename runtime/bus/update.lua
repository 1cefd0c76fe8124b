-- Tell a task what the user has changed since.
-- KEYS: a task's, bell
-- ARGV: id of this call, note for the worker, most corrections
-- Returns: stored, revision | ended | full | unknown | moved, runtime
local task = task_keys()
local known = redis.call('HMGET', task.hash, 'state', 'revision')
if not known[1] then return { 'unknown' } end
if redis.call('HEXISTS', task.hash, 'update:' .. ARGV[1]) == 1 then return { 'stored', known[2] } end
local owner = new_owner(task)
if owner then return { 'moved', owner } end
if TERMINAL[known[1]] then return { 'ended' } end
if tonumber(known[2] or 0) >= tonumber(ARGV[3]) then return { 'full' } end
redis.call('HSET', task.hash, 'update:' .. ARGV[1], 1)
redis.call('RPUSH', task.notes, ARGV[2])
ring(KEYS[8], task)
return { 'stored', redis.call('HINCRBY', task.hash, 'revision', 1) }

-- Make a task follow its session to the runtime that has it now; later events go there.
-- KEYS: a task's with the inbox of that runtime, session, promises
-- ARGV: task id, retention (ms), retention of what is owed (ms)
-- Returns: known, what record_of() has | unknown | moved, runtime
local task = task_keys()
local owner = redis.call('HGET', KEYS[8], 'rt')
if owner ~= reader_of(task.inbox) then return { 'moved', owner or '' } end
if redis.call('EXISTS', task.hash) == 0 then
  redis.call('LREM', KEYS[9], 1, ARGV[1])
  return { 'unknown' }
end
redis.call('HSET', task.hash, 'rt', owner)
retain(task, ARGV[2], ARGV[3])
return record_of(task)

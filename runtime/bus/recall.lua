-- What is known of a task; changes nothing.
-- KEYS: a task's
-- Returns: known, what record_of() has | unknown
local task = task_keys()
if redis.call('EXISTS', task.hash) == 0 then return { 'unknown' } end
return record_of(task)

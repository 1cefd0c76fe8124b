-- Give up a delivered task that this release cannot read.
-- KEYS: a task's, dead
-- ARGV: task id, entry, worker, reason, retention (ms), retention of what is owed (ms)
-- Returns: rejected | none | moved, runtime
local task = task_keys()
local pending = redis.call('XPENDING', task.stream, 'w', ARGV[2], ARGV[2], 1)
if #pending == 0 or pending[1][2] ~= ARGV[3] then return { 'none' } end
local owner = new_owner(task)
if owner then return { 'moved', owner } end
bury(task.stream, KEYS[8], ARGV[2], ARGV[4])
local state = redis.call('HGET', task.hash, 'state')
if state and not TERMINAL[state] then
  end_task(task, ARGV[1], 'dead', ARGV[4], ARGV[5], ARGV[6])
end
forget(task.stream, ARGV[2])
return { 'rejected' }

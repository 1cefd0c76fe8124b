-- Give up a delivered task that this release cannot read.
-- KEYS: tasks, task, events, updates, inbox, dead
-- ARGV: task id, entry, worker, reason, retention (ms)
-- Returns: rejected | none
local pending = redis.call('XPENDING', KEYS[1], 'w', ARGV[2], ARGV[2], 1)
if #pending == 0 or pending[1][2] ~= ARGV[3] then return { 'none' } end
bury(KEYS[1], KEYS[6], ARGV[2], ARGV[4])
local state = redis.call('HGET', KEYS[2], 'state')
if state and not TERMINAL[state] then
  end_task(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1], 'dead', ARGV[4], ARGV[5])
end
forget(KEYS[1], ARGV[2])
return { 'rejected' }

-- Renew the lease of a running task.
-- KEYS: a task's
-- ARGV: entry, attempt, worker, notes seen
-- Returns: alive | fenced, cancel, backlog, new notes... | moved, runtime
-- Neither XACK nor XCLAIM asks who owns an entry, so the attempt is compared first. JUSTID keeps the server from
-- counting the renewal as a delivery.
local task = task_keys()
local known = redis.call('HMGET', task.hash, 'state', 'attempt')
if known[1] ~= 'running' or known[2] ~= ARGV[2] then return { 'fenced', 0, 0 } end
local owner = new_owner(task)
if owner then return { 'moved', owner } end
redis.call('XCLAIM', task.stream, 'w', ARGV[3], 0, ARGV[1], 'IDLE', 0, 'JUSTID')
return with_news({ 'alive' }, task, ARGV[4])

-- Renew the lease of a running task.
-- KEYS: tasks, task, updates, inbox
-- ARGV: entry, attempt, worker, updates seen
-- Returns: alive | fenced, cancel, backlog, new updates...
-- Neither XACK nor XCLAIM asks who owns an entry, so the attempt is compared first. JUSTID keeps the server from
-- counting the renewal as a delivery.
local known = redis.call('HMGET', KEYS[2], 'state', 'attempt')
if known[1] ~= 'running' or known[2] ~= ARGV[2] then return { 'fenced', 0, 0 } end
redis.call('XCLAIM', KEYS[1], 'w', ARGV[3], 0, ARGV[1], 'IDLE', 0, 'JUSTID')
return with_news({ 'alive' }, KEYS[2], KEYS[3], KEYS[4], ARGV[4])

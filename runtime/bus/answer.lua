-- Store what the user answered to a question of a task, and tell its worker.
-- KEYS: a task's, bell
-- ARGV: number of the question's event, note for the worker
-- Returns: stored | ended | unknown (no such task, or it has not sent an event of that number) | moved, runtime
-- The first answer to a question stays, so a repeated call changes nothing. An answer is no correction: what was said
-- before it still holds.
local task = task_keys()
local known = redis.call('HMGET', task.hash, 'state', 'seq')
if not known[1] or tonumber(ARGV[1]) > (tonumber(known[2]) or -1) then return { 'unknown' } end
if redis.call('HEXISTS', task.hash, 'answer:' .. ARGV[1]) == 1 then return { 'stored' } end
local owner = new_owner(task)
if owner then return { 'moved', owner } end
if TERMINAL[known[1]] then return { 'ended' } end
redis.call('HSET', task.hash, 'answer:' .. ARGV[1], 1)
redis.call('RPUSH', task.notes, ARGV[2])
ring(KEYS[8], task)
return { 'stored' }

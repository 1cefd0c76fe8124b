-- End a task that nobody runs, or ask the worker that runs it to stop.
-- KEYS: a task's with the stream of the ordinary ones, the stream of the urgent ones, bell
-- ARGV: task id, kind (cancelled | expired), reason, retention (ms), retention of what is owed (ms)
-- Returns: ended (it now is, or was) | asked | early (its deadline is still to come) | unknown | moved, runtime
-- A task that waits keeps its entry until a worker takes it out; see forget(). One that runs past its deadline is
-- ended even if its worker lives, which is then fenced.
local task = task_keys()
local known = redis.call('HMGET', task.hash, 'state', 'entry', 'lease', 'lane', 'deadline')
if not known[1] then return { 'unknown' } end
local owner = new_owner(task)
if owner then return { 'moved', owner } end
if TERMINAL[known[1]] then return { 'ended' } end
if ARGV[2] == 'expired' and tonumber(known[5]) > now_ms() then return { 'early' } end
local stream = known[4] == 'urgent' and KEYS[8] or task.stream
if known[1] == 'running' then
  local pending = redis.call('XPENDING', stream, 'w', known[2], known[2], 1)
  if ARGV[2] == 'cancelled' and #pending > 0 and pending[1][3] < tonumber(known[3]) then
    redis.call('HSET', task.hash, 'cancel', ARGV[3])
    ring(KEYS[9], task)
    return { 'asked' }
  end
  forget(stream, known[2])
end
end_task(task, ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5])
return { 'ended' }

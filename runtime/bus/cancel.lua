-- End a task that nobody runs, or ask the worker that runs it to stop.
-- KEYS: tasks, task, events, updates, inbox
-- ARGV: task id, kind (cancelled | expired), reason, retention (ms)
-- Returns: ended (it now is, or was) | asked | unknown
-- A task that waits keeps its entry until a worker takes it out; see forget(). One that runs past its deadline is
-- ended even if its worker lives, which is then fenced.
local known = redis.call('HMGET', KEYS[2], 'state', 'entry', 'lease')
if not known[1] then return { 'unknown' } end
if TERMINAL[known[1]] then return { 'ended' } end
if known[1] == 'running' then
  local pending = redis.call('XPENDING', KEYS[1], 'w', known[2], known[2], 1)
  if ARGV[2] == 'cancelled' and #pending > 0 and pending[1][3] < tonumber(known[3]) then
    redis.call('HSET', KEYS[2], 'cancel', ARGV[3])
    return { 'asked' }
  end
  forget(KEYS[1], known[2])
end
end_task(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
return { 'ended' }

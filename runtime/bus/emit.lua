-- Send one event of a running task, and end the task with its last one.
-- KEYS: a task's
-- ARGV: entry, attempt, number, kind, revision, event, last or '', notes seen, events kept, retention (ms), retention
--       of what is owed (ms)
-- Returns: sent | duplicate | corrected | fenced, cancel, backlog, new notes... | renumber, last number used
--          | moved, runtime
-- An answer that does not take all corrections into account does not end the task, and its number stays free.
local JOURNAL_KEPT = 1000
local JOURNALLED = { tool_started = true, tool_finished = true }
local CORRECTABLE = { final = true, failed = true }
local task = task_keys()
local known = redis.call('HMGET', task.hash, 'state', 'attempt', 'seq', 'revision', 'acked')
if known[2] ~= ARGV[2] then return { 'fenced', 0, 0 } end
local owner = new_owner(task)
if owner then return { 'moved', owner } end

local is_last, status = ARGV[7] ~= '', 'sent'
-- An end frees memory, so it must pass when memory is full: what follows a write that needs none does. It changes
-- nothing, as a task that runs has no end to its time.
if is_last and known[1] == 'running' then redis.call('PERSIST', task.hash) end
if tonumber(ARGV[3]) <= tonumber(known[3]) then
  -- A last event under a number that was used for another: the worker was interrupted and could not know.
  if is_last and known[1] == 'running' then return { 'renumber', known[3] } end
  status = 'duplicate'
elseif known[1] ~= 'running' then
  return { 'fenced', 0, 0 }
elseif is_last and CORRECTABLE[ARGV[4]] and tonumber(ARGV[5]) < tonumber(known[4] or 0) then
  status = 'corrected'
else
  redis.call('HSET', task.hash, 'seq', ARGV[3])
  redis.call('RPUSH', task.events, ARGV[6])
  -- What was not taken in may still have to be said by another runtime, however much it is.
  local kept = math.max(tonumber(ARGV[9]), tonumber(ARGV[3]) - tonumber(known[5] or -1))
  redis.call('LTRIM', task.events, -kept, -1)
  if JOURNALLED[ARGV[4]] then
    redis.call('RPUSH', task.journal, ARGV[6])
    redis.call('LTRIM', task.journal, -JOURNAL_KEPT, -1)
  end
  redis.call('XADD', task.inbox, '*', 'event', ARGV[6])
  if is_last then
    close(task, ARGV[4], ARGV[10], ARGV[11])
    forget(task.stream, ARGV[1])
  end
end
return with_news({ status }, task, ARGV[8])

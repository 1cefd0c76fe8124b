-- Send events of a running task, whose numbers follow one another, and end the task with its last one.
-- KEYS: a task's
-- ARGV: entry, attempt, first number, last or '', revision of the last event, notes seen, events kept, retention (ms),
--       retention of what is owed (ms), then of each event its kind (question for one that asks) and itself
-- Returns: sent | duplicate | corrected | fenced, cancel, backlog, new notes... | renumber, last number used
--          | moved, runtime
-- Events whose numbers were used are left out, so a repeated call changes nothing. An answer that does not take all
-- corrections into account does not end the task, and its number stays free; the events before it are sent.
local JOURNAL_KEPT = 1000
local JOURNALLED = { tool_started = true, tool_finished = true, question = true }
local CORRECTABLE = { final = true, failed = true }
local BEFORE_EVENTS = 9
local task = task_keys()
local known = redis.call('HMGET', task.hash, 'state', 'attempt', 'seq', 'revision', 'acked', 'rt')
if known[2] ~= ARGV[2] then return { 'fenced', 0, 0 } end
if known[6] and known[6] ~= reader_of(task.inbox) then return { 'moved', known[6] } end

local is_last, status, used = ARGV[4] ~= '', 'sent', tonumber(known[3])
local first, last = tonumber(ARGV[3]), tonumber(ARGV[3]) + (#ARGV - BEFORE_EVENTS) / 2 - 1
local function kind_of(number) return ARGV[BEFORE_EVENTS + (number - first) * 2 + 1] end
local function event_of(number) return ARGV[BEFORE_EVENTS + (number - first) * 2 + 2] end

-- An end frees memory, so it must pass when memory is full: what follows a write that needs none does. It changes
-- nothing, as a task that runs has no end to its time.
if is_last and known[1] == 'running' then redis.call('PERSIST', task.hash) end
if last <= used then
  -- A last event under a number that was used for another: the worker was interrupted and could not know.
  if is_last and known[1] == 'running' then return { 'renumber', known[3] } end
  return with_news({ 'duplicate' }, task, ARGV[6])
elseif known[1] ~= 'running' then
  return { 'fenced', 0, 0 }
end

local end_kind = is_last and kind_of(last)
if CORRECTABLE[end_kind] and tonumber(ARGV[5]) < tonumber(known[4] or 0) then
  end_kind, status, last = nil, 'corrected', last - 1
end
local first_new = math.max(first, used + 1)
for number = first_new, last do
  local event = event_of(number)
  redis.call('RPUSH', task.events, event)
  if JOURNALLED[kind_of(number)] then
    redis.call('RPUSH', task.journal, event)
    redis.call('LTRIM', task.journal, -JOURNAL_KEPT, -1)
  end
  redis.call('XADD', task.inbox, '*', 'event', event)
end
if first_new <= last then
  redis.call('HSET', task.hash, 'seq', string.format('%d', last))
  -- What was not taken in may still have to be said by another runtime, however much it is.
  redis.call('LTRIM', task.events, -math.max(tonumber(ARGV[7]), last - tonumber(known[5] or -1)), -1)
end
if end_kind then
  close(task, end_kind, ARGV[8], ARGV[9])
  forget(task.stream, ARGV[1])
end
return with_news({ status }, task, ARGV[6])

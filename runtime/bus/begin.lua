-- Give a delivered task to a worker, or end it.
-- KEYS: a task's, dead
-- ARGV: task id, entry, worker, id of this call, most attempts, lease (ms), retention (ms), retention of what is owed
--       (ms)
-- Returns: begun, attempt, next number, time left (ms), then four sections: stored events, journal of tool calls
--          and questions (none where the stored events are all there are), notes, receipts
--          | none | moved, runtime
-- A delivery that another worker has taken over since is not begun; a repeated call gets the same attempt.
local task = task_keys()
local pending = redis.call('XPENDING', task.stream, 'w', ARGV[2], ARGV[2], 1)
if #pending == 0 or pending[1][2] ~= ARGV[3] then return { 'none' } end

local kind = redis.call('TYPE', task.hash).ok
local known = (kind == 'hash' or kind == 'none')
  and redis.call('HMGET', task.hash, 'state', 'attempt', 'seq', 'deadline', 'begun', 'cancel') or { 'spoilt' }
local state, attempt, seq = known[1], tonumber(known[2]), tonumber(known[3])
if state and not (attempt and seq and tonumber(known[4])) then
  -- Written to by a foreign hand. Whoever waits for the task is told at its deadline, for its numbers are gone.
  bury(task.stream, KEYS[8], ARGV[2], 'record')
  redis.call('DEL', task.hash)
  state = nil
end
if not state or TERMINAL[state] then
  forget(task.stream, ARGV[2])
  return { 'none' }
end
local owner = new_owner(task)
if owner then return { 'moved', owner } end

local left = tonumber(known[4]) - now_ms()
if known[5] ~= ARGV[4] then
  local kind, reason -- of the event that ends it
  if known[6] then
    kind, reason = 'cancelled', known[6]
  elseif left <= 0 then
    kind, reason = 'expired', 'deadline'
  elseif attempt >= tonumber(ARGV[5]) then
    kind, reason = 'dead', 'attempts'
    bury(task.stream, KEYS[8], ARGV[2], reason)
  end
  if kind then
    end_task(task, ARGV[1], kind, reason, ARGV[7], ARGV[8])
    forget(task.stream, ARGV[2])
    return { 'none' }
  end
  attempt = redis.call('HINCRBY', task.hash, 'attempt', 1)
  redis.call('HSET', task.hash, 'state', 'running', 'worker', ARGV[3], 'begun', ARGV[4], 'lease', ARGV[6])
end

local reply = { 'begun', attempt, seq + 1, left }
local events = redis.call('LRANGE', task.events, 0, -1)
add_section(reply, events)
add_section(reply, #events > seq and {} or redis.call('LRANGE', task.journal, 0, -1))
add_section(reply, redis.call('LRANGE', task.notes, 0, -1))
add_section(reply, redis.call('HVALS', task.receipts))
return reply

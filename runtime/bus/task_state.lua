-- Shared by the scripts: reading the clock, writing the bus's own events, ending a task, keeping its record.
--
-- A task's hash has: state (queued | running | a terminal kind), attempt (the fencing token), seq (the last number
-- used), deadline (ms), rt (the runtime that has it), entry (its id in the stream), session, lane, intent, made (ms),
-- anchor (when the session's clock was at 0, ms), revision (corrections so far), promise (open | how it ended), and,
-- once they are known, worker, begun (the id of the call that began it), lease (ms), cancel (a reason) and acked (the
-- last number that was taken in), and answer:<number> for each question that was answered. The only clock is the
-- server's.

-- The keys of one task. Every script about one task has these seven first, in this order.
local function task_keys()
  return {
    stream = KEYS[1], inbox = KEYS[2], hash = KEYS[3], events = KEYS[4], notes = KEYS[5], receipts = KEYS[6],
    journal = KEYS[7],
  }
end

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local TERMINAL = { final = true, failed = true, cancelled = true, expired = true, dead = true }

-- The runtime whose inbox it is.
local function reader_of(inbox)
  return string.match(inbox, '}:in:(.+)$')
end

-- The runtime that has a task now, where it is another than the one whose inbox the caller knows.
local function new_owner(task)
  local owner = redis.call('HGET', task.hash, 'rt')
  if owner and owner ~= reader_of(task.inbox) then return owner end
end

-- Have the worker of a running task look for news at once. Whoever listens has heard it within a moment, so few are kept.
local function ring(bell, task)
  redis.call('XADD', bell, 'MAXLEN', '~', 100, '*', 'task', string.match(task.hash, '}:t:(.+)$'))
  redis.call('PEXPIRE', bell, 3600000)
end

-- Send an event that no worker wrote.
local function put_event(task, task_id, attempt, seq, kind, reason)
  local event = { v = EVENT_VERSION, task_id = task_id, attempt = attempt, seq = seq, kind = kind }
  if reason then event.detail = { reason = reason } end
  local encoded = cjson.encode(event)
  redis.call('HSET', task.hash, 'seq', seq)
  redis.call('RPUSH', task.events, encoded)
  redis.call('XADD', task.inbox, '*', 'event', encoded)
end

-- Take an entry out of the stream. Only what was delivered is deleted: to delete an undelivered entry would make
-- the group's lag unknown, and with it whatever scales the workers.
local function forget(stream, entry)
  redis.call('XACK', stream, 'w', entry)
  redis.call('XDEL', stream, entry)
end

-- Let the record of an ended task go after a while, a longer one as long as its answer is owed to the user.
local function retain(task, retention, owed_retention)
  local known = redis.call('HMGET', task.hash, 'state', 'promise')
  if not TERMINAL[known[1]] then return end
  local left = known[2] == 'open' and owed_retention or retention
  for _, key in ipairs({ task.hash, task.events, task.notes, task.receipts, task.journal }) do
    redis.call('PEXPIRE', key, left)
  end
end

-- Mark a task as ended.
local function close(task, state, retention, owed_retention)
  redis.call('HSET', task.hash, 'state', state)
  retain(task, retention, owed_retention)
end

-- End a task on the bus's own account. The attempt is raised so that whoever still runs it is fenced.
local function end_task(task, task_id, kind, reason, retention, owed_retention)
  local attempt = redis.call('HINCRBY', task.hash, 'attempt', 1)
  local seq = tonumber(redis.call('HGET', task.hash, 'seq')) + 1
  put_event(task, task_id, attempt, seq, kind, reason)
  close(task, kind, retention, owed_retention)
end

-- Copy an entry to the stream of what was given up.
local function bury(stream, dead, entry, reason)
  local found = redis.call('XRANGE', stream, entry, entry)
  if #found == 0 then return end
  local fields = found[1][2]
  fields[#fields + 1] = 'reason'
  fields[#fields + 1] = reason
  redis.call('XADD', dead, 'MAXLEN', '~', 10000, '*', unpack(fields))
end

-- Add a list to a reply, its length first.
local function add_section(reply, items)
  reply[#reply + 1] = #items
  for _, item in ipairs(items) do reply[#reply + 1] = item end
end

-- What a worker is told with every sign of life: cancel flag, backlog, and the notes after the first `seen`.
local function with_news(reply, task, seen)
  reply[#reply + 1] = redis.call('HEXISTS', task.hash, 'cancel')
  reply[#reply + 1] = redis.call('XLEN', task.inbox)
  for _, note in ipairs(redis.call('LRANGE', task.notes, seen, -1)) do
    reply[#reply + 1] = note
  end
  return reply
end

-- What a session's ledger says of one task.
local function record_of(task)
  local fields = { 'state', 'promise', 'intent', 'revision', 'made', 'seq', 'deadline', 'anchor' }
  local reply = { 'known' }
  for i, value in ipairs(redis.call('HMGET', task.hash, unpack(fields))) do
    if fields[i] == 'deadline' then value = (tonumber(value) or 0) - now_ms() end
    reply[#reply + 1] = value or ''
  end
  add_section(reply, redis.call('LRANGE', task.events, 0, -1))
  add_section(reply, redis.call('HVALS', task.receipts))
  return reply
end

-- Keep a session's record for another while.
local function touch_session(session, promises, owed_retention)
  redis.call('PEXPIRE', session, owed_retention)
  redis.call('PEXPIRE', promises, owed_retention)
end

-- Shared by the scripts: reading the clock, writing the bus's own events, ending a task.
--
-- A task's hash has: state (queued | running | a terminal kind), attempt (the fencing token), seq (the last number
-- used), deadline (ms), rt (the runtime), entry (its id in the stream), and, once they are known, worker, begun (the
-- id of the call that began it), lease (ms), cancel (a reason) and acked (the last number that was taken in).
-- The only clock is the server's.

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local TERMINAL = { final = true, failed = true, cancelled = true, expired = true, dead = true }

-- Send an event that no worker wrote.
local function put_event(task, inbox, task_id, attempt, seq, kind, reason)
  local event = { v = EVENT_VERSION, task_id = task_id, attempt = attempt, seq = seq, kind = kind }
  if reason then event.detail = { reason = reason } end
  redis.call('HSET', task, 'seq', seq)
  redis.call('XADD', inbox, '*', 'event', cjson.encode(event))
end

-- Take an entry out of the stream. Only what was delivered is deleted: to delete an undelivered entry would make
-- the group's lag unknown, and with it whatever scales the workers.
local function forget(tasks, entry)
  redis.call('XACK', tasks, 'w', entry)
  redis.call('XDEL', tasks, entry)
end

-- Mark a task as ended and let its record go after a while.
local function close(task, events, updates, state, retention)
  redis.call('HSET', task, 'state', state)
  redis.call('PEXPIRE', task, retention)
  redis.call('PEXPIRE', events, retention)
  redis.call('PEXPIRE', updates, retention)
end

-- End a task on the bus's own account. The attempt is raised so that whoever still runs it is fenced.
local function end_task(tasks, task, events, updates, inbox, task_id, kind, reason, retention)
  local attempt = redis.call('HINCRBY', task, 'attempt', 1)
  local seq = tonumber(redis.call('HGET', task, 'seq')) + 1
  put_event(task, inbox, task_id, attempt, seq, kind, reason)
  close(task, events, updates, kind, retention)
end

-- Copy an entry to the stream of tasks given up.
local function bury(tasks, dead, entry, reason)
  local found = redis.call('XRANGE', tasks, entry, entry)
  if #found == 0 then return end
  local fields = found[1][2]
  fields[#fields + 1] = 'reason'
  fields[#fields + 1] = reason
  redis.call('XADD', dead, 'MAXLEN', '~', 10000, '*', unpack(fields))
end

-- What a worker is told with every sign of life: cancel flag, backlog, and the updates after the first `seen`.
local function with_news(reply, task, updates, inbox, seen)
  reply[#reply + 1] = redis.call('HEXISTS', task, 'cancel')
  reply[#reply + 1] = redis.call('XLEN', inbox)
  for _, text in ipairs(redis.call('LRANGE', updates, seen, -1)) do
    reply[#reply + 1] = text
  end
  return reply
end

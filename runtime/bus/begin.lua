-- Give a delivered task to a worker, or end it.
-- KEYS: tasks, task, events, updates, inbox, dead
-- ARGV: task id, entry, worker, id of this call, most attempts, lease (ms), retention (ms)
-- Returns: begun, attempt, next number, time left (ms), stored events... | none
-- A delivery that another worker has taken over since is not begun; a repeated call gets the same attempt.
local pending = redis.call('XPENDING', KEYS[1], 'w', ARGV[2], ARGV[2], 1)
if #pending == 0 or pending[1][2] ~= ARGV[3] then return { 'none' } end

local known = redis.call('HMGET', KEYS[2], 'state', 'attempt', 'seq', 'deadline', 'begun', 'cancel')
local state, attempt, seq = known[1], tonumber(known[2]), tonumber(known[3])
if not state or TERMINAL[state] then
  forget(KEYS[1], ARGV[2])
  return { 'none' }
end

local left = tonumber(known[4]) - now_ms()
if known[5] ~= ARGV[4] then
  local kind, reason
  if known[6] then
    kind, reason = 'cancelled', known[6]
  elseif left <= 0 then
    kind, reason = 'expired', 'deadline'
  elseif attempt >= tonumber(ARGV[5]) then
    kind, reason = 'dead', 'attempts'
    bury(KEYS[1], KEYS[6], ARGV[2], reason)
  end
  if kind then
    end_task(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1], kind, reason, ARGV[7])
    forget(KEYS[1], ARGV[2])
    return { 'none' }
  end
  attempt = redis.call('HINCRBY', KEYS[2], 'attempt', 1)
  redis.call('HSET', KEYS[2], 'state', 'running', 'worker', ARGV[3], 'begun', ARGV[4], 'lease', ARGV[6])
end

local reply = { 'begun', attempt, seq + 1, left }
for _, event in ipairs(redis.call('LRANGE', KEYS[3], 0, -1)) do
  reply[#reply + 1] = event
end
return reply

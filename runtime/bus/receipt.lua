-- Store what has become of a piece's words, and tell the worker once that is settled.
-- KEYS: a task's, session, promises
-- ARGV: number, receipt, retention (ms), retention of what is owed (ms)
-- Returns: stored | kept (nothing new in it) | unknown | moved, runtime
-- A receipt never goes back: words that were heard stay heard, and a state in which nothing more happens stays.
local FATES = { heard = true, interrupted = true, superseded = true, expired = true, dropped = true }
local task = task_keys()
local state = redis.call('HGET', task.hash, 'state')
if not state then return { 'unknown' } end
local owner = new_owner(task)
if owner then return { 'moved', owner } end
touch_session(KEYS[8], KEYS[9], ARGV[4])

local receipt, encoded = cjson.decode(ARGV[2]), ARGV[2]
local is_readable, before = pcall(cjson.decode, redis.call('HGET', task.receipts, ARGV[1]) or '')
if is_readable and type(before) == 'table' then
  local words = math.max(tonumber(before.words_heard) or 0, receipt.words_heard)
  if before.state == receipt.state and before.words_heard == words then return { 'kept' } end
  if FATES[before.state] and before.state ~= 'interrupted' then
    if before.words_heard == words then return { 'kept' } end
    receipt = before
  end
  receipt.words_heard = words
  encoded = cjson.encode(receipt)
end
redis.call('HSET', task.receipts, ARGV[1], encoded)
if FATES[receipt.state] and not TERMINAL[state] then
  redis.call('RPUSH', task.notes, '{"receipt":' .. encoded .. '}')
end
retain(task, ARGV[3], ARGV[4])
return { 'stored' }

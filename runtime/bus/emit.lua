-- Send one event of a running task, and end the task with its last one.
-- KEYS: tasks, task, events, updates, inbox
-- ARGV: entry, attempt, number, event, terminal kind or '', updates seen, events kept, retention (ms)
-- Returns: sent | duplicate | fenced, cancel, backlog, new updates... | renumber, last number used
local known = redis.call('HMGET', KEYS[2], 'state', 'attempt', 'seq')
if known[2] ~= ARGV[2] then return { 'fenced', 0, 0 } end
local status = 'sent'
if tonumber(ARGV[3]) <= tonumber(known[3]) then
  -- A last event under a number that was used for another: the worker was interrupted and could not know.
  if ARGV[5] ~= '' and known[1] == 'running' then return { 'renumber', known[3] } end
  status = 'duplicate'
elseif known[1] ~= 'running' then
  return { 'fenced', 0, 0 }
else
  redis.call('HSET', KEYS[2], 'seq', ARGV[3])
  redis.call('RPUSH', KEYS[3], ARGV[4])
  redis.call('LTRIM', KEYS[3], -tonumber(ARGV[7]), -1)
  redis.call('XADD', KEYS[5], '*', 'event', ARGV[4])
  if ARGV[5] ~= '' then
    close(KEYS[2], KEYS[3], KEYS[4], ARGV[5], ARGV[8])
    forget(KEYS[1], ARGV[1])
  end
end
return with_news({ status }, KEYS[2], KEYS[4], KEYS[5], ARGV[6])

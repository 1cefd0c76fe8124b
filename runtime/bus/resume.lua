-- Where a runtime that has started anew stands with a task.
-- KEYS: inbox, task
-- Returns: own, the last number taken in (-1 for none), time left (ms), session | other (a task of another runtime, or
--          one that is not remembered)
local known = redis.call('HMGET', KEYS[2], 'rt', 'acked', 'deadline', 'session')
if known[1] ~= reader_of(KEYS[1]) then return { 'other' } end
return { 'own', tonumber(known[2] or -1), tonumber(known[3]) - now_ms(), known[4] }

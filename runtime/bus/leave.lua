-- Forget consumers that hold nothing: the one that leaves, and those that have long been silent.
-- KEYS: tasks
-- ARGV: worker, or ''; silence after which one is forgotten (ms)
-- Returns: consumers forgotten
-- To delete a consumer deletes its pending entries, which would then never be delivered again: hence in one step.
local forgotten = 0
for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], 'w')) do
  local consumer = {}
  for i = 1, #fields, 2 do consumer[fields[i]] = fields[i + 1] end
  if consumer.pending == 0 and (consumer.name == ARGV[1] or consumer.idle > tonumber(ARGV[2])) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], 'w', consumer.name)
    forgotten = forgotten + 1
  end
end
return { forgotten }

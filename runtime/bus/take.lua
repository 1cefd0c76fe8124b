-- Give a worker one new task, without waiting.
-- KEYS: streams of tasks, in the order in which they are looked at
-- ARGV: worker
-- Returns: stream (from 1), entry, field, value, ... or nothing
for i, tasks in ipairs(KEYS) do
  local found = redis.call('XREADGROUP', 'GROUP', 'w', ARGV[1], 'COUNT', 1, 'STREAMS', tasks, '>')
  if found then
    local entry = found[1][2][1]
    local reply = { i, entry[1] }
    for _, text in ipairs(entry[2] or {}) do reply[#reply + 1] = text end
    return reply
  end
end
return {}

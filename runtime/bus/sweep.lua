-- Take over one task whose worker has been silent for longer than the lease, or has given it back.
-- KEYS: streams of tasks, in the order in which they are looked at
-- ARGV: worker, lease (ms)
-- Returns: stream (from 1), entry, field, value, ... or nothing
-- XAUTOCLAIM would look at only ten times COUNT entries in a call; this looks at all and takes only one.
for i, tasks in ipairs(KEYS) do
  for _, found in ipairs(redis.call('XPENDING', tasks, 'w', 'IDLE', ARGV[2], '-', '+', 10)) do
    local claimed = redis.call('XCLAIM', tasks, 'w', ARGV[1], ARGV[2], found[1])
    if #claimed > 0 and claimed[1] then
      local reply = { i, claimed[1][1] }
      for _, text in ipairs(claimed[1][2]) do reply[#reply + 1] = text end
      return reply
    end
  end
end
return {}

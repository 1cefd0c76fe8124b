-- Take over one task whose worker has been silent for longer than the lease.
-- KEYS: tasks
-- ARGV: worker, lease (ms)
-- Returns: entry, field, value, ... or nothing
-- XAUTOCLAIM would look at only ten times COUNT entries in a call; this looks at all and takes only one.
for _, found in ipairs(redis.call('XPENDING', KEYS[1], 'w', 'IDLE', ARGV[2], '-', '+', 10)) do
  local claimed = redis.call('XCLAIM', KEYS[1], 'w', ARGV[1], ARGV[2], found[1])
  if #claimed > 0 and claimed[1] then
    local reply = { claimed[1][1] }
    for _, text in ipairs(claimed[1][2]) do reply[#reply + 1] = text end
    return reply
  end
end
return {}

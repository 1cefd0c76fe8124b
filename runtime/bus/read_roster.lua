-- Who takes part in the bus; changes nothing.
-- KEYS: workers, runtimes, layout
-- ARGV: most of each
-- Returns: now (ms), shards or '', then two sections, newest first: workers and when each was last seen (ms), runtimes
--          and when each last attended (ms)
local reply = { now_ms(), redis.call('GET', KEYS[3]) or '' }
for _, key in ipairs({ KEYS[1], KEYS[2] }) do
  add_section(reply, redis.call('ZREVRANGEBYSCORE', key, '+inf', '-inf', 'WITHSCORES', 'LIMIT', 0, ARGV[1]))
end
return reply

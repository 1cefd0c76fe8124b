-- How full a shard's queue is; changes nothing.
-- KEYS: streams of tasks
-- Returns: now (ms), then of each stream: entries, delivered, lag or '', when the oldest task that waits was
--          submitted (ms) or '', the same of the oldest that was delivered, then a section of consumers and how many
--          tasks each holds
-- An entry's id begins with the time at which it was written. A task that was cancelled while it waited stays an entry
-- until a worker takes it out.
local function written_ms(id) return string.match(id or '', '^%d+') or '' end

local reply = { now_ms() }
for _, stream in ipairs(KEYS) do
  local group, held = {}, { 0, false, false, false }
  local found = redis.call('EXISTS', stream) == 1 and redis.call('XINFO', 'GROUPS', stream) or {}
  if found[1] then
    for i = 1, #found[1], 2 do group[found[1][i]] = found[1][i + 1] end
    held = redis.call('XPENDING', stream, 'w')
  end
  local next_one = redis.call('XRANGE', stream, '(' .. (group['last-delivered-id'] or '0-0'), '+', 'COUNT', 1)
  reply[#reply + 1] = redis.call('XLEN', stream)
  reply[#reply + 1] = held[1]
  reply[#reply + 1] = group.lag or ''
  reply[#reply + 1] = next_one[1] and written_ms(next_one[1][1]) or ''
  reply[#reply + 1] = written_ms(held[2] or '')
  local consumers = {}
  for _, consumer in ipairs(held[4] or {}) do
    consumers[#consumers + 1] = consumer[1]
    consumers[#consumers + 1] = consumer[2]
  end
  add_section(reply, consumers)
end
return reply

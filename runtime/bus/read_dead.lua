-- What was given up, newest first, without a word of it; changes nothing.
-- KEYS: dead
-- ARGV: entry before which to begin, or '+'; most entries
-- Returns: all that there are, then of each entry: its id, task or '', reason, bytes
local from = ARGV[1] == '+' and '+' or '(' .. ARGV[1]
local reply = { redis.call('XLEN', KEYS[1]) }
for _, entry in ipairs(redis.call('XREVRANGE', KEYS[1], from, '-', 'COUNT', ARGV[2])) do
  local fields, bytes = {}, 0
  for i = 1, #entry[2], 2 do
    fields[entry[2][i]] = entry[2][i + 1]
    bytes = bytes + #entry[2][i + 1]
  end
  for _, value in ipairs({ entry[1], fields.task or '', fields.reason or '', bytes }) do reply[#reply + 1] = value end
end
return reply

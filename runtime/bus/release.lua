-- Give deliveries back, so that the next sweep of any worker takes them: one that was not asked for, or all that a
-- worker holds when it leaves.
-- KEYS: tasks
-- ARGV: worker, lease (ms), entry or '' for all that the worker holds
-- Returns: deliveries given back
-- They go to a consumer that nobody is, as old as the lease: the one who gives them back can then be forgotten, and
-- whoever still runs one of them is told by the next BEGIN that it is not his any more.
local first, last, count = ARGV[3], ARGV[3], 1
if first == '' then first, last, count = '-', '+', 1000 end
local given = 0
for _, pending in ipairs(redis.call('XPENDING', KEYS[1], 'w', first, last, count, ARGV[1])) do
  redis.call('XCLAIM', KEYS[1], 'w', '(released)', 0, pending[1], 'IDLE', ARGV[2], 'JUSTID')
  given = given + 1
end
return { given }

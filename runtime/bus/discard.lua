-- Give up an event that this release cannot read.
-- KEYS: inbox, dead
-- ARGV: entry, reason
-- Returns: discarded
bury(KEYS[1], KEYS[2], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[1])
return { 'discarded' }

-- Take, renew or give back the lease of a runtime id.
-- KEYS: holder
-- ARGV: the process, lease (ms), or 0 to give it back
-- Returns: 1 if it is this process's, or was; 0 if another live process has it
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return { 0 } end
if ARGV[2] == '0' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return { 1 }

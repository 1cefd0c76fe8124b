-- Make the group of workers where there is none; it begins with the oldest task.
-- KEYS: tasks
-- Returns: joined
-- A command of its own would be refused when memory is full of tasks, which is when workers are needed.
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], 'w', '0', 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
return { 'joined' }

-- Write the version of the format, unless one is noted that is as new: KEYS[1] is its own key. ARGV[4] the version,
-- ARGV[5] the lowest version that code must know. Returns what is noted then.
local noted = redis.call('HMGET', root, 'version', 'lowest_code')
if noted[1] and tonumber(noted[1]) >= tonumber(ARGV[4]) then return noted end
redis.call('HSET', root, 'version', ARGV[4], 'lowest_code', ARGV[5])
return { ARGV[4], ARGV[5] }

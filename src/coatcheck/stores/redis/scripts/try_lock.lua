-- Take or renew a lock: KEYS[1] is its own key. ARGV[4] the holder, ARGV[5] for how many microseconds. Returns 1 or 0.
local holder, duration = ARGV[4], tonumber(ARGV[5])

local held = redis.call('HMGET', root, 'holder', 'until')
if held[1] and held[1] ~= holder and now < tonumber(held[2]) then return 0 end
redis.call('HSET', root, 'holder', holder, 'until', decimal(now + duration))
redis.call('PEXPIRE', root, decimal(math.ceil(duration / 1000) + KEPT_MS))
return 1

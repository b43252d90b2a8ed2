-- Delete at most so many sessions past their absolute deadline, the oldest first. Returns how many.
local limit = tonumber(ARGV[4])

local deleted = 0
local ids = redis.call('ZRANGEBYSCORE', root .. ':expiring', '-inf', decimal(now), 'LIMIT', 0, limit)
for _, id in ipairs(ids) do
    local value = session(id)
    if not value then
        redis.call('ZREM', root .. ':expiring', id)
        redis.call('ZREM', root .. ':sessions', id)
    else
        local found = parts(value)
        if now >= found.expires then
            forget(id, found.user)
            deleted = deleted + 1
        end
    end
end
return deleted

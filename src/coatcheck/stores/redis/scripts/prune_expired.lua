-- Delete at most so many sessions past their absolute deadline, the oldest first. Returns how many, and those count
-- that the server has deleted by itself and nobody has counted yet: who prunes goes on until there are none.
local limit = tonumber(ARGV[4])

local deleted = 0
local ids = redis.call('ZRANGEBYSCORE', root .. ':expiring', '-inf', decimal(now), 'LIMIT', 0, limit)
for _, id in ipairs(ids) do
    local value = redis.call('GET', session_key(id))
    if not value or not is_readable(value) then  -- the index says that it is past
        redis.call('DEL', session_key(id))
        tidy(id)
        deleted = deleted + 1
    else
        local found = parts(value)
        if now >= found.expires then
            forget(id, found.user)
            deleted = deleted + 1
        end
    end
end
return deleted

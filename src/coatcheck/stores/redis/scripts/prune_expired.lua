-- Delete at most so many sessions past their absolute deadline, the oldest first. Returns how many entries of the index
-- it has looked at, then user, id, user, id of what it has deleted. Of a session that the server has deleted by itself
-- only the entry in the index goes.
local limit = tonumber(ARGV[4])

local ids = redis.call('ZRANGEBYSCORE', root .. ':expiring', '-inf', decimal(now), 'LIMIT', 0, limit)
local answer = { #ids }
for _, id in ipairs(ids) do
    local value = redis.call('GET', session_key(id))
    if not value or not is_readable(value) then  -- the index says that it is past
        redis.call('DEL', session_key(id))
        tidy(id)
    else
        local found = parts(value)
        if now >= found.expires then
            forget(id, found.user)
            answer[#answer + 1] = found.user
            answer[#answer + 1] = id
        end
    end
end
return answer

-- Delete those of these sessions (ARGV from 4 on) that are past their idle deadline. Returns how many.
local deleted = 0
for place = 4, #ARGV do
    local id = ARGV[place]
    local value = redis.call('GET', session_key(id))
    if not value then
        tidy(id)
    elseif is_readable(value) then
        local found = parts(value)
        if found.unused < NEVER and now >= found.used + found.unused then
            forget(id, found.user)
            deleted = deleted + 1
        end
    end
end
return deleted

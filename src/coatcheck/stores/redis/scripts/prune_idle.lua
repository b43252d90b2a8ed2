-- Delete those of these sessions (ARGV from 4 on) that are past their idle deadline. Returns user, id, user, id of what
-- it has deleted.
local answer = {}
for place = 4, #ARGV do
    local id = ARGV[place]
    local value = redis.call('GET', session_key(id))
    if not value then
        tidy(id)
    elseif is_readable(value) then
        local found = parts(value)
        if found.unused < NEVER and now >= found.used + found.unused then
            forget(id, found.user)
            answer[#answer + 1] = found.user
            answer[#answer + 1] = id
        end
    end
end
return answer

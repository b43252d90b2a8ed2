-- End sessions of a user, or of the whole shard, that have this method ('' for any): at most so many of them ('' for
-- all), out of the next so many ids behind one. Returns the last id that was looked at ('' at the end of the index),
-- then user, id, user, id of what ended.
local user, method, limit, after, window = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
limit = limit == '' and math.huge or tonumber(limit)

count_ending()
local index = user == '' and root .. ':sessions' or index_of(user)
local from = after == '' and '-' or '(' .. after
local ids = redis.call('ZRANGEBYLEX', index, from, '+', 'LIMIT', 0, window)
local answer = { #ids < tonumber(window) and '' or ids[#ids] }
local ended = 0
for _, id in ipairs(ids) do
    if ended >= limit then
        answer[1] = ''
        break
    end
    local value = session(id)
    if value then
        local found = parts(value)
        if method == '' or method == found.method then
            announce_end(found.user, id)
            forget(id, found.user)
            ended = ended + 1
            answer[#answer + 1] = found.user
            answer[#answer + 1] = id
        end
    end
end
return answer

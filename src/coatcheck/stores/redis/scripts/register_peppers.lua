-- Note peppers whose ids are not known yet: KEYS[1] is the key of all. ARGV[4], ARGV[5], and so on: an id and a check
-- value in hexadecimal digits. What is noted is never changed.
local text = redis.call('GET', root) or ''
local before = text
for at = 4, #ARGV, 2 do
    if not string.find(';' .. text, ';' .. ARGV[at] .. '=', 1, true) then
        text = text .. ARGV[at] .. '=' .. ARGV[at + 1] .. ';'
    end
end
if text ~= before then redis.call('SET', root, text) end
return text

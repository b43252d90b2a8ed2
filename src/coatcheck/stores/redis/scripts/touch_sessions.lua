-- Write that sessions were used. ARGV from 4 on: id, time, id, time. Returns the ids that exist.
local present = {}
for place = 4, #ARGV, 2 do
    local id, time = ARGV[place], tonumber(ARGV[place + 1])
    local key = session_key(id)
    local head = redis.call('GETRANGE', key, 0, HEAD_SIZE - 1)
    if #head == HEAD_SIZE and string.byte(head) == VERSION then
        local used, expires, unused = select(4, struct.unpack(HEAD, head))
        -- Forward, or back where the stored time is ahead of the clock; never past the clock.
        local moved = math.min(now, used > now and time or math.max(used, time))
        if moved ~= used then
            redis.call('SETRANGE', key, 10, eight(moved))
            keep_until_deadline(id, expires, moved, unused)
        end
        present[#present + 1] = id
    end
end
return present

-- Replace stored hashes, each only where it is still the old one. ARGV from 4 on: id, the old lengths and the old
-- bytes of hash, salt and pepper id, the new lengths and the new bytes.
for place = 4, #ARGV, 5 do
    local id, old_lengths, old, lengths, new = unpack(ARGV, place, place + 4)
    local value = redis.call('GET', session_key(id))
    if value and is_readable(value) and string.sub(value, 35, 40) == old_lengths
        and string.sub(value, HEAD_SIZE + 1, HEAD_SIZE + #old) == old then
        redis.call('SET', session_key(id), string.sub(value, 1, 34) .. lengths .. string.sub(value, 41, HEAD_SIZE)
            .. new .. string.sub(value, HEAD_SIZE + #old + 1), 'KEEPTTL')
    end
end

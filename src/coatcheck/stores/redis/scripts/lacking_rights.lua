-- Which commands of the scripts this user may not run: KEYS[1] is the shard's root. Nothing is run.
local lacking = {}
for _, command in ipairs({
    { 'GET', root }, { 'SET', root, '' }, { 'GETRANGE', root, '0', '0' }, { 'SETRANGE', root, '0', '' },
    { 'DEL', root }, { 'EXISTS', root }, { 'INCR', root }, { 'PEXPIRE', root, '1' }, { 'MGET', root },
    { 'HSET', root, 'f', '' }, { 'HMGET', root, 'f' }, { 'HINCRBY', root, 'f', '1' },
    { 'ZADD', root, '1', 'm' }, { 'ZREM', root, 'm' }, { 'ZCOUNT', root, '0', '0' }, { 'ZRANGE', root, '0', '0' },
    { 'ZRANGEBYSCORE', root, '0', '0' }, { 'ZRANGEBYLEX', root, '-', '-' }, { 'ZRANDMEMBER', root },
    { 'SUBSCRIBE', channel },
}) do
    if not redis.acl_check_cmd(unpack(command)) then lacking[#lacking + 1] = command[1] end
end
return lacking

-- The beginning of every script. It runs on the server that has the shard, alone, from its first line to its last.
--
-- Nothing rolls a script back that fails on its way. That happens where its slot is just being moved to another server:
-- keys are missing then that have gone ahead, and the first command that asks for one fails. So each script writes
-- last what makes a second attempt do nothing, and first what finds things (the indexes) and what tells others:
-- whoever repeats a call finishes it, no session is ever without its entry in the index of its user, and what has ended
-- was announced. One announcement too many is none too many: it says when to look.
--
-- KEYS[1]  the shard's root, for example coatcheck:{3f}; it is also a counter that every ending moves forward
-- ARGV[1]  the time in microseconds, in tests; '' means the server's clock
-- ARGV[2]  who announces: what `origin` is in stores/announcement.py
-- ARGV[3]  the channel of announcements
--
-- All keys of a shard are in one slot of a Cluster, because of the braces. Beside the root they are
--   <root>:session:<id>   one session, packed (packing.py)
--   <root>:of:<user>      the ids of a user's sessions, sorted
--   <root>:user:<user>    a user: created, scopes, blocked, registered, revocations, rescopes; and `ended`, the root's
--                         counter when all of their sessions were ended last
--   <root>:sessions       the ids of all sessions of the shard, sorted
--   <root>:users          the ids of all registered users of the shard, sorted
--   <root>:expiring       the ids of sessions that have an absolute deadline, by that
-- and of the first shard alone
--   <root>:format         the version of what is stored, and the lowest version that code must know (stored_format.py)
--   <root>:peppers        the ids and check values of the peppers that sessions are hashed with
local root, origin, channel = KEYS[1], ARGV[2], ARGV[3]

local VERSION = 1
local HEAD, HEAD_SIZE = '>BBI8I8I8I8HHHHHH', 46
local NEVER = 2 ^ 63          -- all bits set, where there is no deadline; no time comes near it
local NO_PEPPER = 65535
local KEPT_MS = 3600 * 1000   -- how long the server keeps what nobody has pruned, behind its deadline

local now
if ARGV[1] ~= '' then
    now = tonumber(ARGV[1])
else
    local time = redis.call('TIME')
    now = time[1] * 1000000 + time[2]
end

-- Numbers of microseconds, as text and as the eight bytes of a packed session.
local function decimal(number) return string.format('%.0f', number) end
local function eight(number) return struct.pack('>I8', number) end

local function session_key(id) return root .. ':session:' .. id end
local function user_key(user) return root .. ':user:' .. user end
local function index_of(user) return root .. ':of:' .. user end

-- Whether a value is a session that these scripts understand, and not damaged or of a version to come.
local function is_readable(value) return #value >= HEAD_SIZE and string.byte(value) == VERSION end

-- A packed session, or nothing. A value that cannot be read may live for a program of another version, so nobody is told that
-- it is gone: the call fails.
local function session(id)
    local value = redis.call('GET', session_key(id))
    if value and not is_readable(value) then
        error(redis.error_reply('UNREADABLE a stored session is damaged, or of another version'))
    end
    return value
end

-- Where the parts of a packed session are: `at` is the offset behind which one begins.
local function parts(value)
    local _, flags, created, used, expires, unused, hash, salt, pepper, user, method, client = struct.unpack(HEAD, value)
    local user_at = HEAD_SIZE + hash + salt + (pepper == NO_PEPPER and 0 or pepper)
    local method_at = user_at + user
    return {
        flags = flags,
        used = used,
        expires = expires,
        unused = unused,
        user = string.sub(value, user_at + 1, method_at),
        method = string.sub(value, method_at + 1, method_at + method),
        scopes_at = method_at + method + client,
    }
end

-- Native expiry: the earlier deadline and a while more. A validation judges deadlines to the microsecond before that.
local function keep_until_deadline(id, expires, used, unused)
    local deadline = expires
    if unused < NEVER and used + unused < deadline then deadline = used + unused end
    if deadline < NEVER then
        local left = math.max(0, math.floor((deadline - now) / 1000))
        redis.call('PEXPIRE', session_key(id), decimal(left + KEPT_MS))
    end
end

-- Remove from the indexes of the shard what the server has expired by itself.
local function tidy(id)
    redis.call('ZREM', root .. ':sessions', id)
    redis.call('ZREM', root .. ':expiring', id)
end

-- Remove a session, or what is left in the indexes of one that the server has expired.
local function forget(id, user)
    redis.call('DEL', session_key(id))
    redis.call('ZREM', index_of(user), id)
    tidy(id)
end

-- `more` is the end of the text, as the pairs of a JSON object after a comma.
local function announce(user, more)
    local head = '{"v":1,"origin":' .. cjson.encode(origin) .. ',"user":' .. cjson.encode(user)
    redis.call('PUBLISH', channel, head .. more .. '}')
end
local function announce_end(user, id) announce(user, ',"session":"' .. id .. '"') end

-- Each revocation writes, also one that finds nothing: only a write can be waited for.
-- Returns the position of this ending in the shard's history. The counter moves on at least to the time, so that it stands
-- above all that was ever read from it when the data were lost, or restored from a backup, or a replica lacked the last
-- writes. Lua has numbers up to 2^53; the limit is a time in the year 2112, from which on the counter counts by one.
local function count_ending()
    local ending = redis.call('INCR', root)
    local moment = math.min(now, 2 ^ 52)
    if ending >= moment then return decimal(ending) end
    redis.call('SET', root, decimal(moment))
    return decimal(moment)
end
-- Stop every sign-in of the user that is under way: those that have read the epoch, and those begun before `ending`.
-- `step` is by how much the epoch moves.
local function stop_sign_ins(user, ending, step)
    redis.call('HINCRBY', user_key(user), 'revocations', step)
    redis.call('HSET', user_key(user), 'ended', ending)
end

-- End a user's sessions: all, or those of a method, or all but one. Returns their ids. Of a method, the session has to be
-- read; without, it need not.
local function end_sessions(user, method, spared)
    local ended = {}
    if method == '' then announce(user, spared == '' and '' or ',"except":"' .. spared .. '"') end
    for _, id in ipairs(redis.call('ZRANGE', index_of(user), 0, -1)) do
        if redis.call('EXISTS', session_key(id)) == 0 then
            forget(id, user)
        elseif id ~= spared and (method == '' or parts(session(id)).method == method) then
            if method ~= '' then announce_end(user, id) end
            forget(id, user)
            ended[#ended + 1] = id
        end
    end
    return ended
end

-- Scopes are JSON arrays of texts that need no escaping (RFC 6749 section 3.3). nil where a text is no such array.
local function scopes_in(text)
    local is_json, names = pcall(cjson.decode, text)
    if not is_json or type(names) ~= 'table' or string.sub(text, 1, 1) ~= '[' then return nil end
    for _, name in ipairs(names) do
        if type(name) ~= 'string' then return nil end
    end
    return names
end
local function scopes_text(names)
    if #names == 0 then return '[]' end
    return '["' .. table.concat(names, '","') .. '"]'
end
-- Those of `names` that are, or are not, in `others`.
local function among(names, others, wanted)
    local has, found = {}, {}
    for _, name in ipairs(others) do has[name] = true end
    for _, name in ipairs(names) do
        if (has[name] or false) == wanted then found[#found + 1] = name end
    end
    return found
end

local USER_FIELDS = { 'created', 'scopes', 'blocked', 'registered', 'revocations', 'rescopes' }
local function user_row(user)
    local row = redis.call('HMGET', user_key(user), unpack(USER_FIELDS))
    if not row[1] then return nil end
    return row
end
-- The row of a user who lives in the application, made if there is none.
local function ensured_user(user, scopes)
    if redis.call('EXISTS', user_key(user)) == 0 then
        redis.call('HSET', user_key(user), 'created', decimal(now), 'scopes', scopes, 'blocked', '0',
            'registered', '0', 'revocations', '0', 'rescopes', '0')
    end
    return user_row(user)
end

-- Insert a session, unless its user's epochs have moved on. Returns the time, then user and id of the session that it has
-- replaced, if any; or one word: why not.
-- ARGV[7]: '' or the lifetime, which then counts from now.
local id, user, packed, lifetime = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local expected_revocations, expected_rescopes, user_scopes, replaced = ARGV[8], ARGV[9], ARGV[10], ARGV[11]
local began_at = ARGV[12]

local row = user_row(user)
if user_scopes == '' then
    if not row or row[4] ~= '1' then return 'revoked' end
else
    row = ensured_user(user, user_scopes)
end
if row[5] ~= expected_revocations then return 'revoked' end
if began_at ~= '' then
    local ended = redis.call('HGET', user_key(user), 'ended')
    if ended and tonumber(ended) > tonumber(began_at) then return 'revoked' end
end
if expected_rescopes ~= '' then
    if row[6] ~= expected_rescopes then return 'rescoped' end
    if user_scopes ~= '' then
        -- Added to, never taken from: what the user has lost is for set_user_scopes to find out and act upon.
        local known = scopes_in(row[2]) or {}
        local new = among(scopes_in(user_scopes), known, false)
        if #new > 0 then
            for _, name in ipairs(new) do known[#known + 1] = name end
            table.sort(known)
            redis.call('HSET', user_key(user), 'scopes', scopes_text(known))
        end
    end
end
if redis.call('EXISTS', session_key(id)) == 1 then return 'taken' end

local replaces = replaced ~= '' and session(replaced)

-- Sessions that the server has expired by itself are still in the indexes. Two of each, drawn at random, are looked at for each
-- session that comes, so that such ids cannot outnumber the sessions for long, whether or not anybody prunes.
for _, other in ipairs(redis.call('ZRANDMEMBER', index_of(user), 2)) do
    if redis.call('EXISTS', session_key(other)) == 0 then forget(other, user) end
end
for _, other in ipairs(redis.call('ZRANDMEMBER', root .. ':sessions', 2)) do
    if redis.call('EXISTS', session_key(other)) == 0 then tidy(other) end
end

local expires, unused = select(5, struct.unpack(HEAD, packed))
local deadline = string.sub(packed, 19, 26)
if lifetime ~= '' then
    expires = now + tonumber(lifetime)
    deadline = eight(expires)
end
redis.call('ZADD', index_of(user), 0, id)
redis.call('ZADD', root .. ':sessions', 0, id)
if expires < NEVER then redis.call('ZADD', root .. ':expiring', decimal(expires), id) end
redis.call('SET', session_key(id),
    string.sub(packed, 1, 2) .. eight(now) .. eight(now) .. deadline .. string.sub(packed, 27))
keep_until_deadline(id, expires, now, unused)

if replaces then
    local owner = parts(replaces).user
    announce_end(owner, replaced)
    forget(replaced, owner)
    return { decimal(now), owner, replaced }
end
return { decimal(now) }

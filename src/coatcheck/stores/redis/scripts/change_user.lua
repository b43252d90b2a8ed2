-- Change a user's scopes, whether they are blocked, or both ('' leaves one alone), and their sessions with it.
-- ARGV[7] '1': only a registered user. ARGV[8]: by how much the epochs move. Returns the row, the scopes that were removed, and the ids of what ended; or
-- nothing.
local user, scopes, blocked, must_be_registered, step = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]

-- Sessions that follow the user get the new scopes; the others lose those that the user lost.
local function rescope_sessions(removed)
    for _, id in ipairs(redis.call('ZRANGE', index_of(user), 0, -1)) do
        local value = session(id)
        if value then
            local found = parts(value)
            local theirs = scopes
            if found.flags == 0 then
                local held = scopes_in(string.sub(value, found.scopes_at + 1))
                theirs = held and scopes_text(among(held, removed, false))
            end
            if theirs then
                redis.call('SET', session_key(id), string.sub(value, 1, found.scopes_at) .. theirs, 'KEEPTTL')
            end
        end
    end
end

local row = user_row(user)
local ending = count_ending()
if must_be_registered == '1' and (not row or row[4] ~= '1') then return false end
row = ensured_user(user, '[]')

local removed, ended = {}, {}
if scopes ~= '' then
    removed = among(scopes_in(row[2]) or {}, scopes_in(scopes), false)
    redis.call('HINCRBY', user_key(user), 'rescopes', step)
    rescope_sessions(removed)
    if #removed > 0 then announce(user, ',"scopes":' .. scopes_text(removed)) end
    redis.call('HSET', user_key(user), 'scopes', scopes)  -- last: a second attempt must find what was removed
end
if blocked ~= '' then
    redis.call('HSET', user_key(user), 'blocked', blocked)
    if blocked == '1' then
        stop_sign_ins(user, ending, step)
        ended = end_sessions(user, '', '')
    end
end
return { user_row(user), scopes_text(removed), ended }

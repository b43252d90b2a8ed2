-- Give a session scopes of its own, or with '' its user's, which it follows from then on. Returns the session as it is
-- now, and its scopes before; or nothing.
local id, user, scopes = ARGV[4], ARGV[5], ARGV[6]

count_ending()
local value = session(id)
if not value then return false end
local found = parts(value)
if user ~= '' and user ~= found.user then return false end

local follows = scopes == ''
if follows then
    local row = user_row(found.user)
    scopes = row and scopes_text(scopes_in(row[2]) or {}) or '[]'
end
local before = string.sub(value, found.scopes_at + 1)
local changed = string.sub(value, 1, 1) .. string.char(follows and 1 or 0)
    .. string.sub(value, 3, found.scopes_at) .. scopes
local removed = among(scopes_in(before) or {}, scopes_in(scopes), false)
if #removed > 0 then announce(found.user, ',"session":"' .. id .. '","scopes":' .. scopes_text(removed)) end
redis.call('SET', session_key(id), changed, 'KEEPTTL')
return { changed, before }

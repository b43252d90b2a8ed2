-- Delete a registered user and end their sessions. Of the row the epochs stay, for sign-ins that are under way.
-- ARGV[5]: by how much they move. Returns the ids of the sessions, or nothing.
local user = ARGV[4]

local ending = count_ending()
local row = user_row(user)
if not row or row[4] ~= '1' then return false end
stop_sign_ins(user, ending, ARGV[5])
local ended = end_sessions(user, '', '')
redis.call('ZREM', root .. ':users', user)
redis.call('HSET', user_key(user), 'scopes', '[]', 'blocked', '0', 'registered', '0')
return ended

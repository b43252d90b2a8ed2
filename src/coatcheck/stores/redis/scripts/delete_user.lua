-- Delete a registered user and end their sessions. Of the row the epochs stay, for sign-ins that are under way.
-- Returns the ids of the sessions, or nothing.
local user = ARGV[4]

count_ending()
local row = user_row(user)
if not row or row[4] ~= '1' then return false end
redis.call('HINCRBY', user_key(user), 'revocations', 1)
local ended = end_sessions(user, '', '')
redis.call('ZREM', root .. ':users', user)
redis.call('HSET', user_key(user), 'scopes', '[]', 'blocked', '0', 'registered', '0')
return ended

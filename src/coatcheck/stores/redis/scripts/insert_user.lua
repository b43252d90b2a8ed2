-- Register a user; of a row that was there the epochs stay. Returns the row, or nothing where the id is taken.
local user, scopes, blocked = ARGV[4], ARGV[5], ARGV[6]

if ensured_user(user, scopes)[4] == '1' then return false end
redis.call('ZADD', root .. ':users', 0, user)
redis.call('HSET', user_key(user), 'created', decimal(now), 'scopes', scopes, 'blocked', blocked, 'registered', '1')
return user_row(user)

-- Move a user's revocations epoch, then end their sessions: of a method ('' for any), but not one ('' for none).
-- ARGV[7]: by how much the epoch moves. Returns the ids.
local user, method, spared = ARGV[4], ARGV[5], ARGV[6]

local ending = count_ending()
ensured_user(user, '[]')
stop_sign_ins(user, ending, ARGV[7])
return end_sessions(user, method, spared)

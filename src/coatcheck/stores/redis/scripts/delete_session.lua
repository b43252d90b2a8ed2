-- End one session, if it is of this user and method ('' for any). Returns its user, or nothing.
local id, user, method = ARGV[4], ARGV[5], ARGV[6]

count_ending()
local value = session(id)
if not value then return false end
local found = parts(value)
if user ~= '' and user ~= found.user or method ~= '' and method ~= found.method then return false end
announce_end(found.user, id)
forget(id, found.user)
return found.user

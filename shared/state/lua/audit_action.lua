#!lua flags=allow-oom
-- Keep what an operator did; the oldest go when there are too many.
-- KEYS 1 actions  2 mark: this call was made
-- ARGV 1 how many are kept  2… fields and values
-- Returns 1, or 0 when repeated.
local MARK_TTL_S = 600
if not redis.call('SET', KEYS[2], 1, 'NX', 'EX', MARK_TTL_S) then return 0 end
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(ARGV, 2))
return 1

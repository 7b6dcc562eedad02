#!lua flags=allow-oom
-- Change a ring, unless somebody else has changed it since it was read.
-- KEYS 1 ring
-- ARGV 1 as it was read ('' for none)  2 as it shall be
-- Returns 1 (it is so, also when this very call said so before) or 0 (read it again).
local current = redis.call('GET', KEYS[1]) or ''
if current == ARGV[2] then return 1 end
if current ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1

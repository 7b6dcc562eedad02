#!lua flags=allow-oom
-- Forget a token that was refused, unless a newer one is already there.
--@include _time
-- KEYS 1 token
-- ARGV 1 version  2 a younger one is kept: ms since it was fetched
-- Returns 1 when the next look finds another one or none, 0 when this one was kept.
local version, fetched = unpack(redis.call('HMGET', KEYS[1], 'version', 'fetched'))
if version ~= ARGV[1] then return 1 end
if now_ms() - (tonumber(fetched) or 0) < tonumber(ARGV[2]) then return 0 end
redis.call('DEL', KEYS[1])
return 1

#!lua flags=allow-oom
-- Take the right to work on a lane's head. Repeated with the same claim id: the same answer.
--@include _keys
--@include _lane
--@include _claim
-- KEYS 6 lane
-- ARGV 4 the hint's sequence number  5… the wish of _claim
-- Returns {'empty'} | {'busy'} | {'later'} | {'late', now in ms} or what `claimed` of _claim tells.
local now = now_ms()
active(now)
return take(KEYS[6], tonumber(ARGV[4]), wish_at(5), now)

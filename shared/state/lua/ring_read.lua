#!lua flags=no-writes,allow-oom
-- A model's keys as they stand: the ring, which keys were refused of late, and what time it is.
--@include _time
-- KEYS 1 ring  2 refused
-- Returns {ring as JSON or '', ids of the refused keys, now in ms}.
local now = now_ms()
local refused = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. now, '+inf')
return { redis.call('GET', KEYS[1]) or '', refused, now }

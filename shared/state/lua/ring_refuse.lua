#!lua flags=allow-oom
-- Note for all workers that a key was refused; the note heals by itself.
--@include _time
-- KEYS 1 refused
-- ARGV 1 key's id  2 for how long in ms
local now = now_ms()
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 'ok'

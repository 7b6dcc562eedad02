#!lua flags=allow-oom
-- Cache a fetched access token and give the fetcher's lock back.
--@include _time
-- KEYS 1 token  2 lock
-- ARGV 1 sealed value  2 version  3 lifetime in ms  4 lock holder
redis.call('HSET', KEYS[1], 'value', ARGV[1], 'version', ARGV[2], 'fetched', now_ms())
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if redis.call('GET', KEYS[2]) == ARGV[4] then redis.call('DEL', KEYS[2]) end
return 'ok'
